"""The look at the images of all data sets before a run: all pixels of few, the headers of many, some of very many."""

import dataclasses
import math
from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from tqdm import tqdm

from basicsr_unlearn.data import found
from basicsr_unlearn.data.crops import check_sizes
from basicsr_unlearn.data.image_header import ImageFault, check_file
from basicsr_unlearn.data.lmdb_files import read_meta_info
from basicsr_unlearn.data.skipped import check_share

ALL_PIXELS = 1000  # files of all data sets; above that, only headers are read
ALL_HEADERS = 20_000  # above that, those of an evenly spread part


@dataclasses.dataclass
class Images:
    """The images that one source of a run reads.

    Attributes:
        option (str): Name of the source.
        samples (Sequence): `(degraded, clean)` or `(clean,)` for each sample: paths, or keys.
        number (int): How many files these are.
        patch (int): `gt_size` that each must hold, in pixels, or None.
        max_skipped (float): Share of them that may be unusable, or None: none.
        lmdbs (tuple): The LMDBs of the keys, as many as names in a sample; None: files.
    """

    option: str
    samples: Sequence
    number: int
    patch: int | None = None
    max_skipped: float | None = None
    lmdbs: tuple | None = None


def check_images(sources):
    """Check images and their sizes, and hand over what `on_error: skip` is to leave out.

    Raises:
        InputError: An image cannot be used, or more than `max_skipped` of a source; a file is named.
    """
    files = sum(images.number for images in sources if not images.lmdbs)
    part = min(1, ALL_HEADERS / max(files, 1))
    size_of = cache(partial(check_file, pixels=files <= ALL_PIXELS))  # many degraded images share one clean image
    for images in sources:
        if images.lmdbs:  # their pixels were read when they were written
            found.skipped += _check(images, [read_meta_info(folder, images.option).get for folder in images.lmdbs], 1)
        else:
            found.skipped += _check(images, [size_of] * len(images.samples[0]), part)


def _check(images, size_of, part):
    """Check an evenly spread part of the samples of a source, the sizes by one function for each file of a sample.

    Returns:
        list[tuple]: What is to be skipped, for data/skipped.py.
    """
    number, skipped, seen = math.ceil(len(images.samples) * part), [], set()
    indices = np.linspace(0, len(images.samples) - 1, number).astype(int)
    quiet = True if number < 100 else None  # None: only on a terminal
    for index in tqdm(indices, 'checking images', unit='sample', leave=False, disable=quiet):
        sample = images.samples[index]
        seen.update(sample)
        try:
            sizes = [look(name) for look, name in zip(size_of, sample, strict=True)]
            if all(sizes):
                check_sizes(sample, sizes, images.patch)
        except ImageFault as fault:
            if images.max_skipped is None:
                raise
            skipped.append((images.option, images.number, fault.path, str(fault)))
    if skipped:
        check_share(images.option, {path for _, _, path, _ in skipped}, len(seen), images.max_skipped)
    return skipped
