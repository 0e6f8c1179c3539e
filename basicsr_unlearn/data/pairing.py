"""Which files belong together: folders, list files and LMDBs as the authors of the field lay them out."""

import os
from os import path as osp

from basicsr.data.data_util import paired_paths_from_meta_info_file
from basicsr_unlearn.data.lists import IMAGE_SUFFIXES, matching, read_list
from basicsr_unlearn.data.lmdb_files import lmdb_key, read_meta_info
from basicsr_unlearn.errors import InputError


def list_images(folder, option):
    """List the image files of a folder by name; those of its sub-folders (`part1/0025.jpg`) if it has none itself.

    Raises:
        InputError: The folder is missing or holds no image; `option` is named.
    """
    if not folder or not osp.isdir(folder):
        raise InputError(f'{option}: {folder}: no such folder.')
    names = _images(os.listdir(folder))
    if not names:
        seen = set()  # links may lead in circles
        for parent, folders, files in os.walk(folder, followlinks=True):
            names += [osp.relpath(osp.join(parent, name), folder) for name in _images(files)]
            folders[:] = [name for name in sorted(folders) if not _in(seen, osp.realpath(osp.join(parent, name)))]
    if not names:
        raise InputError(f'{option}: {folder}: no image file in this folder ({", ".join(IMAGE_SUFFIXES)}).')
    return sorted(names)


def _in(seen, place):
    known = place in seen
    seen.add(place)
    return known


def _images(names):
    return [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]


def stem_of(name):
    """Return a file name without its suffix; a key such as `0001_0.8_0.2` has none and stays."""
    stem, _, suffix = name.rpartition('.')
    return stem if f'.{suffix.lower()}' in IMAGE_SUFFIXES else name


def match_names(lq_names, gt_names, template='{}'):
    """Find the clean file of each degraded one, many to one.

    The clean file of `0001_0.8_0.2.jpg` is the first that exists of `0001_0.8_0.2`, `0001_0.8` and `0001`, with any
    suffix (RESIDE); that of `rain-1.png` may be `norain-1.png` (Rain100L). One in the same sub-folder comes first.

    Args:
        lq_names (list[str]): Degraded files relative to their folder, or keys.
        gt_names (list[str]): Clean files or keys.
        template (str): BasicSR's `filename_tmpl`: degraded from clean stem. Default: '{}'.

    Returns:
        list[tuple[str, list[str]]]: For each degraded name its clean names: one, or none, or several of one stem.
    """
    clean = {}
    for name in gt_names:
        folder, stem = osp.split(stem_of(name))
        stem = template.format(stem)
        for key in {stem, osp.join(folder, stem)} if folder else (stem,):
            clean.setdefault(key, []).append(name)
    return [(name, clean.get(stem_of(name)) or _likeliest(name, clean)) for name in lq_names]


def _likeliest(name, clean):
    """Return the clean names of the first stem that there is."""
    return next((clean[stem] for stem in _clean_stems(name) if stem in clean), [])


def pair_by_name(lq_names, gt_names, template, option, every_clean=True):
    """Pair degraded with clean names by `match_names`; `every_clean`: each clean file must have a degraded one.

    Returns:
        list[tuple[str, str]]: Degraded and clean name, in the order of `lq_names`.

    Raises:
        InputError: A degraded image without a clean one or with two, or the other way round; the file is named.
    """
    counts = f'({len(lq_names)} degraded, {len(gt_names)} clean files)'
    pairs = []
    for name, found in match_names(lq_names, gt_names, template):
        if not found:
            raise InputError(f'{option}: {name} in dataroot_lq has no clean image in dataroot_gt {counts}.')
        if len(found) > 1:
            raise InputError(f'{option}: {name} has two clean images, {found[0]} and {found[1]}. Remove one of them.')
        pairs.append((name, found[0]))
    unused = sorted(set(gt_names) - {gt for _, gt in pairs})
    if unused and every_clean:
        raise InputError(
            f'{option}: {unused[0]} in dataroot_gt has no degraded image in dataroot_lq {counts}. '
            'Add it, or name the degraded images to take in a file_list.'
        )
    return pairs


def _clean_stems(name):
    """Yield the clean stems that a degraded name may belong to, the likeliest first."""
    folder, stem = osp.split(stem_of(name))
    while stem:
        for clean in [stem, f'no{stem}'] if stem.startswith('rain') else [stem]:
            yield osp.join(folder, clean)
            yield clean
        stem = stem.rpartition('_')[0]


def find_pairs(option, opt, every_clean=True):
    """Find the pairs of a source by its folders or LMDBs, and its `meta_info_file`, `file_list` and `glob`.

    Args:
        option (str): Named in errors.
        opt (dict): The source. Never changed.
        every_clean (bool): Without a list, whether each clean file must have a degraded one. Default: True.

    Returns:
        list[tuple[str, str]]: Paths of the degraded and the clean file, or their keys in two LMDBs.

    Raises:
        InputError: Missing files or folders, pairs that do not match; the option is named.
    """
    roots = {key: opt.get(key) for key in ('dataroot_lq', 'dataroot_gt')}
    for key, root in roots.items():
        if not root or not osp.exists(root):
            raise InputError(f'{option}: {key}: {root}: no such folder.')
    root = None if is_lmdb(opt) else roots['dataroot_lq']
    return matching(option, opt, root, _find_pairs(option, opt, roots, every_clean))


def _find_pairs(option, opt, roots, every_clean):
    template, listed = opt.get('filename_tmpl', '{}'), opt.get('file_list')
    if opt.get('meta_info_file') and not is_lmdb(opt):
        if listed:
            raise InputError(f'{option}: file_list: {listed}: give either file_list or meta_info_file.')
        return _pairs_of_meta_info_file(option, opt, roots, template)
    lq_root, gt_root = roots.values()
    if not listed:
        names = [_all_names(root, opt, f'{option}: {key}') for key, root in roots.items()]
        return _under(roots, pair_by_name(*names, template, option, every_clean), opt)
    lines = read_list(listed, f'{option}: file_list')
    lq_names = _locate([line[0] for line in lines], lq_root, opt, f'{option}: file_list: {listed}')
    if all(len(line) == 2 for line in lines):
        gt_names = _locate([line[1] for line in lines], gt_root, opt, f'{option}: file_list: {listed}')
        return _under(roots, list(zip(lq_names, gt_names, strict=True)), opt)
    gt_names = _all_names(gt_root, opt, f'{option}: dataroot_gt')
    return _under(roots, pair_by_name(lq_names, gt_names, template, option, every_clean=False), opt)


def find_images(option, opt):
    """Find the clean images of a source by its `dataroot_gt`, `io_backend`, `file_list` (the last column) and `glob`.

    Returns:
        list[str]: Paths, or keys in an LMDB.

    Raises:
        InputError: Missing files or folders; the option is named.
    """
    root, listed = opt.get('dataroot_gt'), opt.get('file_list')
    for key in ('dataroot_lq', 'meta_info_file', 'filename_tmpl'):
        if opt.get(key):
            remedy = 'Name the clean images in file_list.' if key == 'meta_info_file' else 'Remove one of them.'
            raise InputError(f'{option}: {key}: {opt[key]} has no meaning beside degradation. {remedy}')
    if not root or not osp.exists(root):
        raise InputError(f'{option}: dataroot_gt: {root}: no such folder.')
    if listed:
        lines = read_list(listed, f'{option}: file_list')
        clean = dict.fromkeys(line[-1] for line in lines)  # once, also where several degraded files share it
        names = _locate(clean, root, opt, f'{option}: file_list: {listed}')
    else:
        names = _all_names(root, opt, f'{option}: dataroot_gt')
    root = None if is_lmdb(opt) else root
    paths = [osp.join(root, name) for name in names] if root else names
    return [path for (path,) in matching(option, opt, root, [(path,) for path in paths])]


def is_lmdb(opt):
    """Return whether a section has `io_backend: {type: lmdb}`."""
    return (opt.get('io_backend') or {}).get('type') == 'lmdb'


def _under(roots, pairs, opt):
    if is_lmdb(opt):
        return pairs
    lq_root, gt_root = roots.values()
    return [(osp.join(lq_root, lq), osp.join(gt_root, gt)) for lq, gt in pairs]


def _pairs_of_meta_info_file(option, opt, roots, template):
    path = opt['meta_info_file']
    if not osp.isfile(path):
        raise InputError(f'{option}: meta_info_file: {path}: no such file.')
    found = paired_paths_from_meta_info_file(list(roots.values()), ['lq', 'gt'], path, template)
    if not found:
        raise InputError(f'{option}: meta_info_file: {path}: names no file.')
    return [(entry['lq_path'], entry['gt_path']) for entry in found]


def _all_names(root, opt, option):
    return sorted(read_meta_info(root, option)) if is_lmdb(opt) else list_images(root, option)


def _locate(names, root, opt, option):
    """Return listed names relative to `root`; in the authors' lists they begin with the name of `root` itself."""
    prefix = osp.basename(osp.normpath(root)) + '/'
    keys = read_meta_info(root, option) if is_lmdb(opt) else None
    found = []
    for name in names:
        if keys is None:
            tried = [name, name.removeprefix(prefix)]
            match = next((entry for entry in tried if osp.isfile(osp.join(root, entry))), None)
        else:  # an LMDB has not the name of the folder that it was made from
            tried = [name, name.partition('/')[2]]
            match = next((key for entry in tried for key in (stem_of(entry), lmdb_key(entry)) if key in keys), None)
        if match is None:
            raise InputError(f'{option}: {name}: no such file in {root}. Correct the list or the folder.')
        found.append(match)
    return found
