"""Which files of a folder are taken: those that a list names, or those that match a pattern."""

import re
from fnmatch import fnmatchcase
from os import path as osp

from basicsr_unlearn.errors import InputError

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


def read_list(path, option):
    """Read a file list: one degraded file in each line, and the clean one in a second column or in none of them."""
    if not osp.isfile(path):
        raise InputError(f'{option}: {path}: no such file.')
    try:
        with open(path, encoding='utf-8-sig') as file:
            lines = [line.strip() for line in file]
    except UnicodeDecodeError:
        raise InputError(f'{option}: {path}: is not text. Write the name of one degraded file in each line.') from None
    entries = [_columns(line) for line in lines if line]
    if not entries:
        raise InputError(f'{option}: {path}: names no file.')
    for line in entries:
        if len(line) > 2 or len(line) != len(entries[0]):
            raise InputError(
                f'{option}: {path}: {" ".join(line)}: has {len(line)} columns. Give one name in every line, or two.'
            )
    return entries


def _columns(line):
    """Split a line at tabs, or else where a space follows a suffix: names may hold spaces."""
    if '\t' in line:
        return line.split('\t')
    suffixes = '|'.join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    two = re.fullmatch(rf'(.+?\.(?:{suffixes}))\s+(.+)', line, re.IGNORECASE)
    return list(two.groups()) if two else [line]


def matching(option, opt, root, samples):
    """Return the samples whose first file's name, relative to its folder, matches `glob`; all without one.

    Args:
        option (str): Named in errors.
        opt (dict): The source; `glob` is a pattern as shells have it, or a list of such.
        root (str): Their folder; None: they are keys of an LMDB.
        samples (list[tuple[str]]): Files of each.

    Raises:
        InputError: A pattern matches nothing.
    """
    patterns = opt.get('glob')
    if patterns is None:
        return samples
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list) or not patterns or not all(isinstance(one, str) for one in patterns):
        raise InputError(f'{option}: glob: {opt["glob"]!r} must be a pattern of names such as IMG_00*.png, or a list.')
    names = [osp.relpath(sample[0], root) if root else sample[0] for sample in samples]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f'{option}: glob: {pattern} matches none of {len(names)} names, such as {names[0]}.')
    return [
        sample
        for name, sample in zip(names, samples, strict=True)
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
