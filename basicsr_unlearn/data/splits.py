"""Pairs that are asked to be gone, and pairs that stay: they must have no image in common."""

import os
from os import path as osp

from basicsr_unlearn.checkpoint import sha256
from basicsr_unlearn.data.lists import read_list
from basicsr_unlearn.errors import InputError

REMEDY = 'Set without: forget there, or choose by file_list or glob.'


def leave_out(option, opt, samples, lmdbs, forget):
    """Return the samples of a source whose clean image belongs to none of those that `without` names.

    A split is made by clean image: all degraded versions of a photograph go together.

    Args:
        option (str): Names the source in error messages.
        opt (dict): The source. `without`: `forget`, or a file with names of the source's images, one in each line.
        samples (Sequence[tuple[str]]): Files, or keys of LMDBs, of each; the clean one last.
        lmdbs (dict | None): `{lq, gt}`, the LMDBs of the keys.
        forget (PairedSource | None): The forget set.

    Raises:
        InputError: There is no forget set of files here, a name is unknown, nothing is left.
    """
    without = opt['without']
    if without == 'forget':
        if not getattr(forget, 'pairs', None):
            raise InputError(
                f'{option}: without: forget: there is no forget set of paired files beside it. Name a list of files.'
            )
        gone = {place(path, _root(forget, 'gt')) for path in forget.pairs.second}
    else:
        gone = _listed(option, without, samples, lmdbs)
    left = [sample for sample in samples if place(sample[-1], lmdbs and lmdbs['gt']) not in gone]
    if not left:
        raise InputError(f'{option}: without: {without}: leaves none of {len(samples)} images.')
    return left


def _listed(option, path, samples, lmdbs):
    """Return the places of the clean images of the samples that a list names."""
    clean = {}
    for sample in samples:
        for name in {sample[0], osp.basename(sample[0])}:
            clean.setdefault(name, []).append(sample[-1])
    found = set()
    for line in read_list(path, f'{option}: without'):
        matches = clean.get(line[0]) or clean.get(osp.basename(line[0]))
        if not matches:
            raise InputError(f'{option}: without: {path}: {line[0]}: the source has no such image.')
        found.update(place(match, lmdbs and lmdbs['gt']) for match in matches)
    return found


def place(path, root=None):
    """Return what is the same for one file, whatever its name, and for one key of an LMDB."""
    return (osp.realpath(root), path) if root else osp.realpath(path)


def _root(source, key):
    lmdbs = source.read_image.lmdbs
    return lmdbs and lmdbs[key]


def check_split(own, others):
    """Raise InputError where the data of `task: instance` has an image twice that it may have but once.

    Files are compared by place and by content, drawn scenes by number; like pictures in other files are what
    `basicsr check` looks for.

    Args:
        own (dict): `{option: source}` of what must share nothing with any other: the forget set, held-out pairs.
        others (dict): The same of the rest, which may share images among themselves.
    """
    parts = {**own, **others}
    scenes = [(option, source) for option, source in parts.items() if hasattr(source, 'first')]
    for number, (option, source) in enumerate(scenes):
        for other, second in scenes[:number]:
            first = max(source.first, second.first)
            last = min(source.first + source.number, second.first + second.number)
            if first < last and other in own:
                raise InputError(_message(option, f'scene {first}', other, 'Set first_scene and scenes.'))
    seen = {}
    for option, source in parts.items():
        for file, path in _files(source).items():
            other = seen.setdefault(file, (option, path))[0]
            if other != option and other in own:
                raise InputError(_message(option, path, other, REMEDY))
    for option, path, other in _copies(seen):
        if other in own:
            raise InputError(_message(option, path, other, 'Take the copy out.'))


def _message(option, what, other, remedy):
    return f'{option}: {what} is in {other} too: it would be learnt again, or measured as new. {remedy}'


def _files(source):
    """Return `{place: path}` of all files of a source; of an LMDB its keys."""
    lmdbs = getattr(getattr(source, 'read_image', None), 'lmdbs', None)
    pairs = getattr(source, 'pairs', None)
    sides = {'lq': pairs.first, 'gt': pairs.second} if pairs else {'gt': getattr(source, 'paths', ())}
    return {place(path, lmdbs and lmdbs[key]): path for key, paths in sides.items() for path in paths}


def _copies(files):
    """Yield `(option, path, option of the same content)` for files of one size and content in two parts."""
    sizes = {}
    for file, (option, path) in files.items():
        if isinstance(file, str):  # no key of an LMDB
            sizes.setdefault(os.stat(file).st_size, []).append((option, path))
    for alike in sizes.values():
        if len({option for option, _ in alike}) > 1:
            contents = {}
            for option, path in alike:
                other = contents.setdefault(sha256(path), option)
                if other != option:
                    yield option, path, other
