"""Where training pairs come from: paired files, clean files with a degradation, or drawn scenes.

A source is a list of pairs. `read(index, rng, size)` gives one of them as two images (size, size, 3), float32 in
[0, 1], channel order BGR; `size=None` gives the whole image. With `boxes` a mask (size, size, 1) comes behind them, and
the crop touches one of the boxes (regions.py).
"""

import os
from os import path as osp

import cv2
import lmdb
import numpy as np

from basicsr.utils import FileClient, imfrombytes
from basicsr_unlearn.data.crops import check_sizes, random_crop
from basicsr_unlearn.data.degradations import build_degradation
from basicsr_unlearn.data.found import Names, Pairs, Singles, kept
from basicsr_unlearn.data.image_header import check_bytes, unreadable
from basicsr_unlearn.data.lmdb_files import read_lmdb
from basicsr_unlearn.data.pairing import find_images, find_pairs, is_lmdb
from basicsr_unlearn.data.regions import region_mask
from basicsr_unlearn.data.scenes import draw_scene
from basicsr_unlearn.data.splits import leave_out
from basicsr_unlearn.errors import InputError


class ImageReader:
    """Read images as BasicSR does; LMDBs through handles that a process and its workers share (lmdb_files.py).

    Args:
        opt (dict): `io_backend` as in BasicSR (default: disk), and with lmdb `dataroot_lq` and `dataroot_gt`.
            `cache`: keep the decoded images in memory, for small sets and slow decoders. Default: False.
    """

    def __init__(self, opt):
        self.io_backend = dict(opt.get('io_backend') or {'type': 'disk'})
        self.lmdbs = {'lq': opt.get('dataroot_lq'), 'gt': opt.get('dataroot_gt')} if is_lmdb(opt) else None
        self.client = None
        self.images = {} if opt.get('cache', False) else None

    def __call__(self, path, client_key):
        """Return an image (H, W, 3), uint8, BGR; ImageFault if it cannot be used."""
        image = self.images.get((path, client_key)) if self.images is not None else None
        if image is None:
            image = self._decode(path, client_key)
            if self.images is not None:
                self.images[path, client_key] = image
        return image

    def _decode(self, path, client_key):
        name = f'{path} in {self.lmdbs[client_key]}' if self.lmdbs else path
        try:
            content = self._read(path, client_key)
        except (OSError, lmdb.Error) as error:
            raise unreadable(name, getattr(error, 'strerror', None) or error) from None
        if content is None:
            raise unreadable(name, 'the LMDB has no such key')
        check_bytes(content, name)
        try:
            image = imfrombytes(content)
        except (AttributeError, cv2.error):
            image = None
        if image is None:
            raise unreadable(name, 'OpenCV cannot decode it')
        return image

    def _read(self, path, client_key):
        if self.lmdbs:
            return read_lmdb(self.lmdbs[client_key], path)
        if self.client is None:
            options = dict(self.io_backend)
            self.client = FileClient(options.pop('type'), **options)
        return self.client.get(path, client_key)


def to_float(image):
    """Return an image as float32 in [0, 1]."""
    return image.astype(np.float32) / 255


class PairedSource:
    """Pairs of files: two folders, a `meta_info_file`, a `file_list`, or two LMDBs (pairing.py)."""

    def __init__(self, option, opt, forget=None):
        self.option, self.pairs, self.read_image = option, pairs_of(option, opt), ImageReader(opt)
        if opt.get('without'):
            self.pairs = Pairs(leave_out(option, opt, self.pairs, self.read_image.lmdbs, forget))
        self.files = len(self.pairs.first) + len(self.pairs.second)

    def __len__(self):
        return len(self.pairs)

    def read(self, index, rng, size=None, boxes=()):
        lq_path, gt_path = self.pairs[index]
        lq, gt = self.read_image(lq_path, 'lq'), self.read_image(gt_path, 'gt')
        check_sizes((lq_path, gt_path), [image.shape[1::-1] for image in (lq, gt)])
        lq, gt, *region = random_crop((lq, gt), rng, size, lq_path, boxes)
        return to_float(lq), to_float(gt), *region, lq_path, gt_path


@kept
def pairs_of(option, opt):
    """Return the pairs of a section, found once in a run."""
    return Pairs(find_pairs(option, opt))


@kept
def images_of(option, opt):
    """Return the clean images of a section, found once in a run."""
    return Names(find_images(option, opt))


class DegradedSource:
    """Clean files, degraded after the crop; with `from: forget` those of the forget set, read as it reads them."""

    def __init__(self, option, opt, forget=None):
        self.option, own = option, opt.get('from') != 'forget'
        self.paths = images_of(option, opt) if own else Names(sorted(forget.pairs.second))
        self.read_image = ImageReader(opt) if own else forget.read_image
        if opt.get('without'):
            left = leave_out(option, opt, Singles(self.paths), self.read_image.lmdbs, forget)
            self.paths = Names([path for (path,) in left])
        self.files = len(self.paths)
        self.degrade = build_degradation(opt['degradation'])

    def __len__(self):
        return len(self.paths)

    def read(self, index, rng, size=None, boxes=()):
        path = self.paths[index]
        gt, *region = random_crop((self.read_image(path, 'gt'),), rng, size, path, boxes)
        gt = to_float(gt)
        return self.degrade(gt, rng), gt, *region, path, path


class SceneSource:
    """Drawn scenes, of the size of the patch: `scenes` of them from number `first_scene` (default: 0) on.

    With `fixed: true` a scene is degraded alike whenever it is read: a pair, which a network can know by heart. With
    `cache: true` it is drawn once and kept, as drawing takes most of the time.
    """

    def __init__(self, option, opt):
        self.number, self.first, self.fixed = opt['scenes'], opt.get('first_scene', 0), opt.get('fixed', False)
        if not isinstance(self.number, int) or self.number < 1:
            raise InputError(f'{option}: scenes: {self.number} must be a positive number of scenes.')
        self.degrade = build_degradation(opt['degradation'])
        self.drawn = {} if opt.get('cache', False) else None

    def __len__(self):
        return self.number

    def _draw(self, number, size):
        if self.drawn is None:
            return draw_scene(np.random.default_rng(number), size)
        if (number, size) not in self.drawn:
            self.drawn[number, size] = draw_scene(np.random.default_rng(number), size)
        return self.drawn[number, size]

    def name_of(self, index):
        return f'scene_{self.first + index:06d}'

    def read(self, index, rng, size=None, boxes=()):
        number, name = self.first + index, self.name_of(index)
        gt, depth = self._draw(number, size or 128)
        region = [region_mask(boxes, *gt.shape[:2])] if boxes else []
        if self.fixed:
            rng = np.random.default_rng((number, 0))
        return self.degrade(gt, rng, depth), gt, *region, name, name


def build_source(option, opt, forget=None):
    """Build the source that an option section describes.

    Args:
        option (str): Name of the section, for error messages, such as `datasets: train: retain: rain`.
        opt (dict): The section. Never changed.
        forget (PairedSource): Where `from: forget` takes its clean images, and what `without: forget` leaves out.

    Raises:
        InputError: Missing folders, empty sets, pairs that do not match, unknown degradations.
    """
    if 'without' in opt and ('scenes' in opt or 'from' in opt):
        raise InputError(f'{option}: without: {opt["without"]}: goes with image files alone. Take it out.')
    for key in ('first_scene', 'fixed'):
        if key in opt and 'scenes' not in opt:
            raise InputError(f'{option}: {key}: {opt[key]!r} goes with scenes: N alone. Take it out.')
    if 'degradation' in opt:
        if 'scenes' in opt:
            return SceneSource(option, opt)
        if opt.get('from') == 'forget':
            if not isinstance(forget, PairedSource):
                raise InputError(f'{option}: from: forget needs a forget set of paired files.')
        return DegradedSource(option, opt, forget)
    if 'scenes' in opt or 'from' in opt:
        raise InputError(f'{option}: needs a degradation, for example degradation: {{type: rain}}.')
    return PairedSource(option, opt, forget)


def image_files(source):
    """Return the files of a source: `(degraded, clean)` or `(clean,)` for each sample; nothing for drawn scenes."""
    return getattr(source, 'pairs', None) or Singles(getattr(source, 'paths', []))


def file_stamps(source):
    """Return `[path, bytes, time of the last change]` of every file of a source; nothing for drawn scenes."""
    lmdbs = getattr(getattr(source, 'read_image', None), 'lmdbs', None)
    if lmdbs:
        paths = [osp.join(root, 'data.mdb') for root in lmdbs.values() if root]
    else:
        paths = [path for pair in image_files(source) for path in pair]
    return [[path, osp.getsize(path), os.stat(path).st_mtime_ns] for path in paths]
