"""LMDBs in BasicSR's format: `data.mdb`, and `meta_info.txt` with one line `key.png (h,w,c) level` for each image."""

import io
import os
import re
import shutil
from os import path as osp

import cv2
import lmdb
import numpy as np
from PIL import Image
from tqdm import tqdm

from basicsr.utils import imfrombytes
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.data.image_header import check_bytes, read_file, unreadable
from basicsr_unlearn.errors import InputError

BATCH = 64 << 20  # bytes between two commits: what an interruption costs at most
MAP_SIZE = 1 << 30  # bytes; doubled whenever an LMDB is full
MAGIC = (b'\x89PNG', b'\xff\xd8\xff')  # how PNG and JPEG files begin; they are stored byte for byte, all others as PNG
LINE = re.compile(r'(.+?)(?:\.\w+)? \((\d+),(\d+),\d+\)(?: \d+)?')  # KEY.SUFFIX (height,width,channels) level
KEYS_TRIED = 1000  # at the start, evenly spread: py-lmdb cannot look for a key without reading its image
WRITE_AGAIN = 'It was not written to the end: write it again.'
_handles = {}


def read_meta_info(folder, option):
    """Read which images an LMDB holds.

    Args:
        folder (str): The LMDB, a folder `NAME.lmdb`.
        option (str): Named in errors.

    Returns:
        dict: Key to (width, height) in pixels, or to None where the line tells no size. A key may hold dots
        (`0001_0.8_0.2`), which BasicSR's own reader cuts.

    Raises:
        InputError: No LMDB, or one that was not written to the end.
    """
    text = osp.join(folder, 'meta_info.txt')
    if not folder.rstrip('/').endswith('.lmdb') or not osp.isfile(osp.join(folder, 'data.mdb')):
        raise InputError(
            f'{option}: {folder}: no LMDB. io_backend: lmdb needs a folder NAME.lmdb with data.mdb inside.'
        )
    if not osp.isfile(text):
        raise InputError(f'{option}: {folder}: has no meta_info.txt. {WRITE_AGAIN}')
    sizes = {}
    with open(text, encoding='utf-8') as file:
        for line in filter(None, map(str.strip, file)):
            found = LINE.fullmatch(line)
            key = found[1] if found else osp.splitext(line.split(' ')[0])[0]
            sizes[key] = (int(found[3]), int(found[2])) if found else None
    _check_keys(folder, list(sizes), option)
    return sizes


def _check_keys(folder, keys, option):
    """Raise InputError unless an LMDB is whole and holds as many images as keys, and every one of those tried."""
    known = osp.realpath(folder) in _handles
    try:
        store = environment(folder) if known else lmdb.open(folder, readonly=True, lock=False, readahead=False)
        try:
            stat = store.stat()
            pages = store.info()['last_pgno'] + 1
            if osp.getsize(osp.join(folder, 'data.mdb')) < pages * stat['psize']:  # reading on would end the process
                raise InputError(f'{option}: {folder}: its data.mdb is truncated. Copy or write it again.')
            if not keys or stat['entries'] < len(keys):
                raise InputError(
                    f'{option}: {folder}: holds {stat["entries"]} of the {len(keys)} images of its meta_info.txt. '
                    f'{WRITE_AGAIN}'
                )
            with store.begin(buffers=True) as transaction:
                for index in np.linspace(0, len(keys) - 1, min(len(keys), KEYS_TRIED)).astype(int):
                    if transaction.get(keys[index].encode()) is None:
                        raise InputError(
                            f'{option}: {folder}: has no {keys[index]}, which its meta_info.txt names. {WRITE_AGAIN}'
                        )
        finally:
            if not known:
                store.close()
    except lmdb.Error as error:
        raise InputError(f'{option}: {folder}: cannot be opened as an LMDB ({error}). {WRITE_AGAIN}') from None


def lmdb_key(name):
    """Return the key of a file name: without suffix and dots, because BasicSR's reader cuts a key at its first dot."""
    return osp.splitext(name)[0].replace('.', '-')


def read_lmdb(folder, key):
    """Return the bytes of an image, or None where there is no such key."""
    with environment(folder).begin() as transaction:
        return transaction.get(key.encode())


def environment(folder):
    """Return the open LMDB of a folder.

    py-lmdb refuses a second handle in one process and in its forks, but training set, probes and workers read the
    same files: so there is one handle. Without locks and read-only it may be inherited.
    """
    folder = osp.realpath(folder)
    if folder not in _handles:
        _handles[folder] = lmdb.open(folder, readonly=True, lock=False, readahead=False)
    return _handles[folder]


def write_lmdb(root, names, folder):
    """Write images into an LMDB, or go on with one that was interrupted, with a progress bar.

    Every image is read through and stored as its file is, or as PNG where it is neither PNG nor JPEG. `meta_info.txt`
    comes last, in one step: an LMDB without it is not finished.

    Args:
        root (str): Folder of the images.
        names (list[str]): Files relative to it.
        folder (str): The LMDB, a folder `NAME.lmdb`; missing, unfinished, or finished and of the same files.

    Returns:
        str: What was done, in words.

    Raises:
        InputError: An unreadable image, two names of one key, a folder that holds something else, a full disk.
    """
    files = {}
    for name in names:
        other = files.setdefault(lmdb_key(name), osp.join(root, name))
        if other != osp.join(root, name):
            raise InputError(
                f'{osp.join(root, name)}: has the key {lmdb_key(name)}, as {other} has. Rename one of them.'
            )
    if osp.isfile(osp.join(folder, 'meta_info.txt')):
        _verify(files, folder)
        return f'complete already, {len(files)} images of the right sizes'
    there = os.listdir(folder) if osp.isdir(folder) else []
    if any(name not in ('data.mdb', 'lock.mdb') and not name.endswith('.tmp') for name in there):
        raise InputError(f'{folder}: holds something else than an unfinished LMDB. Move it away or write elsewhere.')
    os.makedirs(folder, exist_ok=True)
    try:
        with lmdb.open(folder, map_size=MAP_SIZE) as store:
            earlier = _fill(store, files, folder)
            atomic_write(_meta_info(store), osp.join(folder, 'meta_info.txt'))
    except lmdb.Error as error:
        raise InputError(f'{folder}: {error}. What is finished is kept; the same command goes on.') from None
    return f'{len(files) - earlier} images written' + (f', {earlier} were there already' if earlier else '')


def _fill(store, files, folder):
    """Add the missing images; return how many were there."""
    with store.begin() as transaction:
        done = {key.decode() for key in transaction.cursor().iternext(values=False)}
    foreign = sorted(done - set(files))
    if foreign:
        raise InputError(
            f'{folder}: holds {foreign[0]}, which is none of these files. Move it away or write elsewhere.'
        )
    changed = _different({key: files[key] for key in done}, store)
    if changed:
        raise InputError(f'{folder}: holds another {changed[0]} than {files[changed[0]]}. Move it away and start anew.')
    missing = {key: path for key, path in files.items() if key not in done}
    needed, free = sum(map(osp.getsize, missing.values())), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f'{folder}: {needed >> 20} MiB are needed, {free >> 20} MiB are free on the disk.')
    pending, size = {}, 0
    bar = tqdm(total=len(files), initial=len(done), desc=osp.basename(folder), unit='image', disable=None)
    try:
        for key, path in missing.items():
            pending[key] = _checked_bytes(path)
            size += len(pending[key])
            if size > BATCH:
                _commit(store, pending)
                pending, size = {}, 0
            bar.update()
    finally:  # an interruption keeps what is finished
        _commit(store, pending)
        bar.close()
    return len(done)


def _commit(store, images):
    while True:
        try:
            with store.begin(write=True) as transaction:
                for key, content in images.items():
                    transaction.put(key.encode(), content)
            return
        except lmdb.MapFullError:
            store.set_mapsize(2 * store.info()['map_size'])


def _checked_bytes(path):
    """Return an image file's bytes (as PNG where it is neither PNG nor JPEG) after decoding all of it."""
    content = read_file(path)
    check_bytes(content, path, pixels=True)
    if content.startswith(MAGIC):
        return content
    pixels = imfrombytes(content)
    if pixels is None:
        raise unreadable(path, 'OpenCV does not know its kind')
    return cv2.imencode('.png', pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _meta_info(store):
    """Return the text of meta_info.txt by the headers of what is stored."""
    lines = []
    with store.begin(buffers=True) as transaction:
        for key, content in transaction.cursor():
            with Image.open(io.BytesIO(content)) as image:
                channels = 3 if image.mode == 'P' else len(image.getbands())
                suffix = 'png' if image.format == 'PNG' else 'jpg'
                lines.append(f'{bytes(key).decode()}.{suffix} ({image.height},{image.width},{channels}) 1\n')
    return ''.join(lines)


def _verify(files, folder):
    """Raise InputError unless a finished LMDB holds these files, by keys and by the number of bytes."""
    different = sorted(set(read_meta_info(folder, 'lmdb')) ^ set(files))
    if not different:
        with lmdb.open(folder, readonly=True, lock=False) as store:
            different = _different(files, store)
    if different:
        raise InputError(
            f'{folder}: is finished, but not of these files ({different[0]} differs). Choose another folder.'
        )


def _different(files, store):
    """Return the keys whose stored bytes are as many as their file's no longer."""
    different = []
    with store.begin(buffers=True) as transaction:
        for key, path in files.items():
            with open(path, 'rb') as file:
                stored_as_it_is = file.read(4).startswith(MAGIC)
            if stored_as_it_is and len(transaction.get(key.encode(), b'')) != osp.getsize(path):
                different.append(key)
    return different
