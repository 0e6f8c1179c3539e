"""What tells a data set by its content alone: hashes of files and of pixels, no names."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import yaml
from tqdm import tqdm

from basicsr_unlearn.data.duplicates import pixel_digest
from basicsr_unlearn.data.lmdb_files import environment, read_lmdb
from basicsr_unlearn.data.sources import build_source, image_files
from basicsr_unlearn.errors import InputError


def forgotten(section, source=None):
    """Return what a forget set, a section and its source, is: `{pairs, files, sha256, hashes, what}`.

    `hashes` holds for each pair the sha256 of the contents of its files, ascending; `sha256` is that of all of them.
    Drawn scenes have no files: `hashes` is empty, and `sha256` that of the section.
    """
    source = source or build_source('datasets: train: forget', section)
    files = image_files(source)
    if not files:
        digest = hashlib.sha256(yaml.safe_dump(section).encode()).hexdigest()
        return {'pairs': len(source), 'files': 0, 'sha256': digest, 'hashes': [], 'what': 'drawn scenes'}
    lmdbs = source.read_image.lmdbs
    kinds = ('lq', 'gt')[-len(files[0]) :]
    hashes = []
    for paths in tqdm(files, 'hashing the forget set', unit='pair', leave=False, delay=2):
        digest = hashlib.sha256()
        for kind, path in zip(kinds, paths, strict=True):
            digest.update(hashlib.sha256(_content(path, lmdbs and lmdbs[kind])).digest())
        hashes.append(digest.hexdigest())
    hashes.sort()
    whole = hashlib.sha256('\n'.join(hashes).encode()).hexdigest()
    number = len({path for paths in files for path in paths})
    return {'pairs': len(files), 'files': number, 'sha256': whole, 'hashes': hashes, 'what': 'files'}


def _content(path, lmdb):
    """Return the bytes of an image; nothing where they cannot be read, as `on_error: skip` allows."""
    if lmdb:
        return bytes(read_lmdb(lmdb, path) or b'')
    with suppress(OSError), open(path, 'rb') as file:
        return file.read()
    return b''


def pixel_digests(source):
    """Return the digests of the pixels of a source: `{degraded: {digest: path}, clean: {digest: path}}`.

    An image that cannot be read has none; drawn scenes have no files, and so no digests.
    """
    found = {'degraded': {}, 'clean': {}}
    samples = image_files(source)
    if not samples:
        return found
    read = source.read_image
    for root in filter(None, (read.lmdbs or {}).values()):
        environment(root)  # opened here, shared by the threads
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for side, key in list(zip(found, ('lq', 'gt'), strict=True))[-len(samples[0]) :]:
            paths = dict.fromkeys(pair[-1 if key == 'gt' else 0] for pair in samples)
            made = pool.map(partial(_digest, read, key), paths)
            bar = tqdm(made, f'hashing {side} images', len(paths), unit='image', leave=False, delay=2)
            found[side] = {digest: path for path, digest in zip(paths, bar, strict=True) if digest}
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _digest(read, key, path):
    with suppress(InputError):
        return pixel_digest(read(path, key)).hex()
