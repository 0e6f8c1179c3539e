"""Regions of pictures, such as faces and number plates: boxes that a text file names, and masks of them.

A box is (x, y, width, height) in pixels, from the left and from the top of the image as OpenCV reads it.
"""

from os import path as osp

import numpy as np

from basicsr_unlearn.data.image_header import ImageFault, check_file
from basicsr_unlearn.data.lmdb_files import lmdb_key, read_meta_info
from basicsr_unlearn.errors import InputError

LINE = 'Write NAME X Y WIDTH HEIGHT, numbers in pixels.'


def region_mask(boxes, height, width):
    """Return a mask (height, width, 1), float32: 1 inside of the boxes, else 0."""
    mask = np.zeros((height, width, 1), np.float32)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = 1
    return mask


def read_regions(path, option):
    """Read a file of regions, one box in each line: `NAME X Y WIDTH HEIGHT`; a name may hold spaces.

    Returns:
        list[tuple]: (number of the line, name, box).

    Raises:
        InputError: No such file, no text, no line, or a line that cannot be read; the line is named.
    """
    if not osp.isfile(path):
        raise InputError(f'{option}: {path}: no such file.')
    try:
        with open(path, encoding='utf-8-sig') as file:
            lines = file.read().splitlines()
    except UnicodeDecodeError:
        raise InputError(f'{option}: {path}: is not text. {LINE}') from None
    if not lines:
        raise InputError(f'{option}: {path}: names no region. {LINE}')
    return [(number, *_read_line(line, f'{option}: {path}: line {number}')) for number, line in enumerate(lines, 1)]


def _read_line(line, where):
    if not line.strip():
        raise InputError(f'{where}: is empty. Take it out.')
    name, *numbers = line.strip().rsplit(None, 4)
    if len(numbers) < 4 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise InputError(f'{where}: {line.strip()}: is no region. {LINE}')
    x, y, width, height = map(int, numbers)
    if not width or not height:
        raise InputError(f'{where}: {line.strip()}: the box is empty. Give a width and a height of at least 1.')
    return name, (x, y, width, height)


class RegionSource:
    """The pairs of a source that a file of regions names, each read with a mask of its boxes.

    Args:
        source (PairedSource | DegradedSource | SceneSource): All pairs. Names are those of the degraded files relative
            to their folder (of on-the-fly degradations: the clean ones), keys of an LMDB, or names of scenes.
        option (str): Name of the section, for error messages.
        opt (dict): The section, with `regions`. Never changed.
        size (int): Patch in pixels: the size of drawn scenes.

    Raises:
        InputError: A name that is not in the source, a box that leaves its image, or as `read_regions`.
    """

    def __init__(self, source, option, opt, size):
        self.source, path, option = source, opt['regions'], f'{option}: regions'
        indices = {name: index for index, name in enumerate(_names(source, opt))}
        sizes, boxes = {}, {}
        for number, name, box in read_regions(path, option):
            where = f'{option}: {path}: line {number}: {name}'
            index = next((indices[key] for key in (name, lmdb_key(name)) if key in indices), None)
            if index is None:
                raise InputError(f'{where}: is none of the {len(indices)} pairs of the source. Correct the name.')
            if index not in sizes:
                sizes[index] = _size_of(source, index, size)
            _check_inside(box, sizes[index], where)
            boxes.setdefault(index, []).append(box)
        self.numbers = sorted(boxes)
        self.boxes = [boxes[index] for index in self.numbers]

    def __len__(self):
        return len(self.numbers)

    def __getattr__(self, name):  # what it reads from
        if name == 'source':  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)

    def read(self, index, rng, size=None):
        return self.source.read(self.numbers[index], rng, size, self.boxes[index])


def _names(source, opt):
    """Return the names of all pairs of a source, in its order."""
    if hasattr(source, 'name_of'):
        return [source.name_of(index) for index in range(len(source))]
    paired = hasattr(source, 'pairs')
    paths = [source.pairs[index][0] if paired else source.paths[index] for index in range(len(source))]
    if source.read_image.lmdbs:
        return paths
    return [osp.relpath(path, opt['dataroot_lq' if paired else 'dataroot_gt']) for path in paths]


def _size_of(source, index, size):
    """Return width and height of a pair, or None where the file does not say; the check of all images names it."""
    if hasattr(source, 'name_of'):
        return size, size
    side, path = ('lq', source.pairs[index][0]) if hasattr(source, 'pairs') else ('gt', source.paths[index])
    if source.read_image.lmdbs:
        return read_meta_info(source.read_image.lmdbs[side], source.option)[path]
    try:
        return check_file(path)
    except ImageFault:
        return None


def _check_inside(box, size, where):
    x, y, width, height = box
    if size and (x + width > size[0] or y + height > size[1]):
        raise InputError(
            f'{where}: the box {x} {y} {width} {height} leaves the image of {size[0]}x{size[1]} pixels. Correct it.'
        )
