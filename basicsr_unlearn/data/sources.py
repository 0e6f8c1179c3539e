"""Where training pairs come from: paired files, clean files with a degradation, or drawn scenes.

A source is a list of pairs. `read(index, rng, size)` gives one of them as two images (size, size, 3), float32 in
[0, 1], channel order BGR; `size=None` gives the whole image.
"""

import os
from os import path as osp

import cv2
import numpy as np

from basicsr.data.data_util import paired_paths_from_lmdb, paired_paths_from_meta_info_file
from basicsr.utils import FileClient, imfrombytes
from basicsr_unlearn.data.degradations import build_degradation
from basicsr_unlearn.data.scenes import draw_scene
from basicsr_unlearn.errors import InputError

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


def list_images(folder, option):
    """List the image files of a folder by name.

    Raises:
        InputError: The folder is missing or holds no image; `option` is named.
    """
    if not folder or not osp.isdir(folder):
        raise InputError(f'{option}: {folder}: no such folder.')
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES))
    if not names:
        raise InputError(f'{option}: {folder}: no image file in this folder ({", ".join(IMAGE_SUFFIXES)}).')
    return names


class ImageReader:
    """Read images through BasicSR's FileClient, which is opened on first use (LMDB handles do not survive a fork).

    Args:
        io_backend (dict): As in BasicSR. Default: disk.
        cache (bool): Keep the decoded images in memory, for small sets and slow decoders. Default: False.
    """

    def __init__(self, io_backend, cache=False):
        self.io_backend = dict(io_backend or {'type': 'disk'})
        self.client = None
        self.images = {} if cache else None

    def __call__(self, path, client_key):
        image = self.images.get((path, client_key)) if self.images is not None else None
        if image is None:
            image = self._decode(path, client_key)
            if self.images is not None:
                self.images[path, client_key] = image
        return image.astype(np.float32) / 255

    def _decode(self, path, client_key):
        if self.client is None:
            options = dict(self.io_backend)
            self.client = FileClient(options.pop('type'), **options)
        try:
            image = imfrombytes(self.client.get(path, client_key))
        except (OSError, TypeError, AttributeError, cv2.error):
            image = None
        if image is None:
            raise InputError(f'{path}: cannot be read as an image. Replace it or take it out of the data set.')
        return image


def pair_by_name(lq_names, gt_names, template, option):
    """Pair degraded with clean names: the same stem, or the clean stem before an underscore (RESIDE: 0001_0.8_0.2).

    Raises:
        InputError: A degraded image without a clean one, or the other way round; the file is named.
    """
    clean = {template.format(osp.splitext(name)[0]): name for name in gt_names}
    pairs = []
    for name in lq_names:
        stem = osp.splitext(name)[0]
        while stem not in clean and '_' in stem:
            stem = stem.rpartition('_')[0]
        if stem not in clean:
            raise InputError(
                f'{option}: {name} in dataroot_lq has no clean image in dataroot_gt '
                f'({len(lq_names)} degraded, {len(gt_names)} clean files).'
            )
        pairs.append((name, clean[stem]))
    unused = sorted(set(gt_names) - {gt for _, gt in pairs})
    if unused:
        raise InputError(
            f'{option}: {unused[0]} in dataroot_gt has no degraded image in dataroot_lq '
            f'({len(lq_names)} degraded, {len(gt_names)} clean files).'
        )
    return pairs


class PairedSource:
    """Pairs of files: two folders, a `meta_info_file`, or two LMDB files, read as BasicSR's PairedImageDataset does."""

    def __init__(self, option, opt):
        lq_root, gt_root = opt.get('dataroot_lq'), opt.get('dataroot_gt')
        backend = opt.get('io_backend') or {'type': 'disk'}
        template = opt.get('filename_tmpl', '{}')
        for key, root in (('dataroot_lq', lq_root), ('dataroot_gt', gt_root)):
            if not root or not osp.exists(root):
                raise InputError(f'{option}: {key}: {root}: no such folder.')
        if backend.get('type') == 'lmdb':
            backend = dict(backend, db_paths=[lq_root, gt_root], client_keys=['lq', 'gt'])
            try:
                found = paired_paths_from_lmdb([lq_root, gt_root], ['lq', 'gt'])
            except (ValueError, OSError) as error:
                raise InputError(f'{option}: {" ".join(str(error).split())}') from None
            self.pairs = [(entry['lq_path'], entry['gt_path']) for entry in found]
        elif opt.get('meta_info_file'):
            if not osp.isfile(opt['meta_info_file']):
                raise InputError(f'{option}: meta_info_file: {opt["meta_info_file"]}: no such file.')
            found = paired_paths_from_meta_info_file([lq_root, gt_root], ['lq', 'gt'], opt['meta_info_file'], template)
            self.pairs = [(entry['lq_path'], entry['gt_path']) for entry in found]
        else:
            names = pair_by_name(
                list_images(lq_root, f'{option}: dataroot_lq'),
                list_images(gt_root, f'{option}: dataroot_gt'),
                template,
                option,
            )
            self.pairs = [(osp.join(lq_root, lq), osp.join(gt_root, gt)) for lq, gt in names]
        if not self.pairs:
            raise InputError(f'{option}: no pairs found in {lq_root} and {gt_root}.')
        self.read_image = ImageReader(backend, opt.get('cache', False))

    def __len__(self):
        return len(self.pairs)

    def read(self, index, rng, size=None):
        lq_path, gt_path = self.pairs[index]
        lq, gt = self.read_image(lq_path, 'lq'), self.read_image(gt_path, 'gt')
        check_sizes((lq_path, gt_path), [image.shape[1::-1] for image in (lq, gt)])
        lq, gt = random_crop((lq, gt), rng, size, lq_path)
        return lq, gt, lq_path, gt_path


class DegradedSource:
    """Clean files, degraded after the crop."""

    def __init__(self, option, opt, paths=None):
        root = opt.get('dataroot_gt')
        self.paths = paths or [osp.join(root or '', name) for name in list_images(root, f'{option}: dataroot_gt')]
        self.degrade = build_degradation(opt['degradation'])
        self.read_image = ImageReader(opt.get('io_backend'), opt.get('cache', False))

    def __len__(self):
        return len(self.paths)

    def read(self, index, rng, size=None):
        path = self.paths[index]
        (gt,) = random_crop((self.read_image(path, 'gt'),), rng, size, path)
        return self.degrade(gt, rng), gt, path, path


class SceneSource:
    """Drawn scenes, of the size of the patch; `scenes` says how many there are."""

    def __init__(self, option, opt):
        self.number = opt['scenes']
        if not isinstance(self.number, int) or self.number < 1:
            raise InputError(f'{option}: scenes: {self.number} must be a positive number of scenes.')
        self.degrade = build_degradation(opt['degradation'])

    def __len__(self):
        return self.number

    def read(self, index, rng, size=None):
        gt, depth = draw_scene(np.random.default_rng(index), size or 128)
        name = f'scene_{index:06d}'
        return self.degrade(gt, rng, depth), gt, name, name


def build_source(option, opt, forget=None):
    """Build the source that an option section describes.

    Args:
        option (str): Name of the section, for error messages, such as `datasets: train: retain: rain`.
        opt (dict): The section. Never changed.
        forget (PairedSource): Where `from: forget` takes its clean images.

    Raises:
        InputError: Missing folders, empty sets, pairs that do not match, unknown degradations.
    """
    if 'degradation' in opt:
        if 'scenes' in opt:
            return SceneSource(option, opt)
        if opt.get('from') == 'forget':
            if not isinstance(forget, PairedSource):
                raise InputError(f'{option}: from: forget needs a forget set of paired files.')
            return DegradedSource(option, opt, paths=sorted({gt for _, gt in forget.pairs}))
        return DegradedSource(option, opt)
    if 'scenes' in opt or 'from' in opt:
        raise InputError(f'{option}: needs a degradation, for example degradation: {{type: rain}}.')
    return PairedSource(option, opt)


def check_sizes(paths, sizes, patch=None):
    """Raise InputError unless the images of a pair have one size, which holds the patch; the file is named.

    Args:
        paths (tuple[str]): The degraded and the clean file, or one file.
        sizes (list[tuple]): Width and height of each.
        patch (int): `gt_size` in pixels, or None.
    """
    width, height = sizes[0]
    if len(set(sizes)) > 1:
        raise InputError(
            f'{paths[0]}: {width}x{height} pixels, but its clean image {paths[1]} has {sizes[1][0]}x{sizes[1][1]}. '
            'The two images of a pair must have one size.'
        )
    if patch and min(width, height) < patch:
        raise InputError(f'{paths[0]}: {width}x{height} pixels are smaller than gt_size: {patch}. Lower gt_size.')


def random_crop(images, rng, size, path):
    """Cut the same random square out of images of one size; the whole images if `size` is None.

    Raises:
        InputError: They are smaller than `size`; `path` is named.
    """
    if size is None:
        return images
    height, width = images[0].shape[:2]
    check_sizes((path,), [(width, height)], size)
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    return [image[top : top + size, left : left + size] for image in images]


def augment(images, rng, flip, rotate):
    """Flip and turn all images alike: `flip` left-right, `rotate` up-down and by 90 degrees, each with chance 1/2."""
    mirror, upside, turn = rng.random(3) < 0.5
    for number, image in enumerate(images):
        if flip and mirror:
            image = image[:, ::-1]
        if rotate and upside:
            image = image[::-1]
        if rotate and turn:
            image = image.transpose(1, 0, 2)
        images[number] = image
    return images
