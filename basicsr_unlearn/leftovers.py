"""What still holds the forgotten data after a run: in the folders of the run, and outside of them."""

import glob
import html
import json
import os
import re
from itertools import islice
from os import path as osp

from basicsr_unlearn import event_files
from basicsr_unlearn.checkpoint import ZOO, resolve
from basicsr_unlearn.data.found import Singles
from basicsr_unlearn.data.pairing import is_lmdb
from basicsr_unlearn.data.sources import images_of, pairs_of
from basicsr_unlearn.option_tables import FORGOTTEN_ROLES, SETS

KINDS = {  # kind: what it is called, why it is listed
    'training_state': ('training states', 'moments of the optimizer and weights of earlier iterations'),
    'checkpoint': ('older checkpoints', 'weights of earlier iterations'),
    'adversarial_cache': ('adversarial examples', 'forget images under attack'),
    'pictures': ('pictures', 'pictures of forgotten images'),
    'tensorboard': ('files of TensorBoard', 'pictures of forgotten images'),
    'audit': ('files of the audit', 'pictures of forgotten images'),
    'temporary': ('half-written files', 'what a killed process was writing'),
    'archived_run': ('earlier runs', 'an earlier run of this name'),
    'dry_run': ('dry runs', 'a dry run of this name'),
    'original': ('original', 'the network that knows the forgotten data'),
    'forget_lmdb': ('forget LMDB', 'the forget set'),
    'forget_data': ('forget data', 'the forget set'),
}
OUTSIDE = ('original', 'forget_lmdb', 'forget_data')
ARCHIVED = r'_archived_\d{8}_\d{6}'  # as BasicSR renames a folder
LISTABLE = (None, 'PairedImageDataset', *SETS)  # types of sections whose images can be listed; a source has none


def inside(root, name, sets):
    """Find what the folders of a run hold. Links are listed as themselves, never followed.

    Args:
        root (str): Where `experiments` and `tb_logger` are.
        name (str): Of the run.
        sets (list[str]): Validation sets that show forgotten images (`forgotten_sets`).

    Returns:
        list[dict]: `path` relative to `root`, `kind` (of KINDS), `bytes` and `why`. No file of a picture is named.
    """
    own, board = osp.join(root, 'experiments', name), osp.join(root, 'tb_logger', name)
    models, states, cache = (osp.join(own, part) for part in ('models', 'training_states', 'adversarial_cache'))
    temporary = [path for folder in (own, models, states, board) for path in _files(folder) if path.endswith('.tmp')]
    paths = {
        'training_state': [path for path in _files(states) if path not in temporary],
        'checkpoint': [path for path in _files(models) if re.fullmatch(r'net_g_\d+\.pth', osp.basename(path))],
        'adversarial_cache': [cache] * osp.isdir(cache),
        'temporary': temporary,
        'archived_run': _named(osp.dirname(own), re.escape(name) + ARCHIVED)
        + _named(osp.dirname(board), re.escape(name) + ARCHIVED),
        'dry_run': list(filter(_is_dry_run, _named(osp.dirname(own), f'debug_{re.escape(name)}({ARCHIVED})?'))),
    }
    found = [_entry(path, kind, _size(path)) for kind, places in paths.items() for path in places]
    for shown in sets:
        files = pictures(own, shown)
        if files:
            why = f'{len(files)} pictures of {shown}'
            found.append(_entry(osp.join(own, 'visualization'), 'pictures', sum(map(_size, files)), why))
    for path in event_files.find(board):
        sizes = event_files.pictures(path, sets)
        if sizes:
            found.append(_entry(path, 'tensorboard', sum(sizes), f'{len(sizes)} pictures of {", ".join(sets)}'))
    found += [_entry(path, 'audit', _size(path)) for path in _audit_files(osp.join(root, 'audits', name), sets)]
    for entry in found:
        entry['path'] = osp.relpath(entry['path'], root)
    return found


def _audit_files(folder, sets):
    """Return the pictures of some validation sets that an audit has written, and its page where they are on it."""
    record, page = osp.join(folder, 'audit.json'), osp.join(folder, 'report.html')
    if not osp.isfile(record):
        return []
    with open(record, encoding='utf-8') as file:
        pictures = json.load(file)['pictures']
    found = [osp.join(folder, path) for shown in pictures if shown['set'] in sets for path in shown['files'].values()]
    if osp.isfile(page):
        with open(page, encoding='utf-8') as file:
            shown = re.findall(r'<div class="row" data-set="([^"]*)">', file.read())
        found += [page] if set(map(html.unescape, shown)) & set(sets) else []
    return list(filter(osp.lexists, found))


def outside(opt):
    """Find what holds the forgotten data outside of a run: the original, and the forget set itself.

    Args:
        opt (dict): The option tree of an unlearning run, paths expanded.

    Returns:
        list[dict]: As `inside`, with whole paths, links resolved. `bytes` is None where the files cannot be listed. An
        LMDB that holds other images as well is `forget_data`.
    """
    original = opt['path']['pretrain_network_original']
    file = osp.realpath(resolve(original))
    name = f'zoo:{osp.basename(file)}' if osp.dirname(file) == osp.realpath(ZOO) else file
    found = {name: _entry(name, 'original', _size(file))}
    retained = {root for section in _sections(opt, 'retain').values() for root in _roots(section).values()}
    trained = _roots(opt['datasets']['train']['forget']).values()
    for option, section in _sections(opt, 'forget').items():
        images, listed = _images(option, section), section.get('file_list')
        for root in _roots(section).values():
            if is_lmdb(section):
                is_all = root in trained and root not in retained and not listed and not section.get('regions')
                kind = 'forget_lmdb' if is_all else 'forget_data'
                found.setdefault(root, _entry(root, kind, _size(root)))
            else:
                sizes = [_size(path) for path in images if path.startswith(root + os.sep)]
                found.setdefault(root, _entry(root, 'forget_data', sum(sizes) if images else None))
        for path in map(osp.realpath, filter(None, (listed, section.get('meta_info_file'), section.get('regions')))):
            found.setdefault(path, _entry(path, 'forget_data', _size(path), 'names of forget images'))
    return list(found.values())


def is_removable(entry):
    """Return whether something outside of the run may be removed at all: no forget folder, no file of the package."""
    return entry['kind'] in ('original', 'forget_lmdb') and not entry['path'].startswith('zoo:')


def forgotten_sets(opt):
    """Return the names of the validation sets that show forgotten images: by their role, or as they read its files."""
    forget = _images('datasets: train: forget', opt['datasets']['train']['forget'])
    return [
        section['name']
        for key, section in opt['datasets'].items()
        if key.split('_')[0] == 'val'
        and (section['role'] in FORGOTTEN_ROLES or forget & _images(f'datasets: {section["name"]}', section))
    ]


def pictures(own, name):
    """Return the files of `val: save_img` of one set: visualization/IMAGE/SET_IMAGE_ITER.png of the run's folder."""
    folder = osp.join(glob.escape(own), 'visualization', '*', glob.escape(name) + '_*.png')
    files = [(path, re.escape(f'{name}_{osp.basename(osp.dirname(path))}_')) for path in glob.glob(folder)]
    return sorted(path for path, start in files if re.fullmatch(start + r'\d+\.png', osp.basename(path)))


def rows(entries):
    """Return the rows of a table: one for each kind inside the run, and one for each path outside."""
    table = [('what', 'MiB', 'where', 'why')]
    groups = {}
    for entry in entries:
        key = entry['path'] if entry['kind'] in OUTSIDE else entry['kind']
        groups.setdefault(key, []).append(entry)
    for group in groups.values():
        paths = [entry['path'] for entry in group]
        where = ', '.join(dict.fromkeys(paths if len(paths) < 3 else map(osp.dirname, paths)))
        sizes = [entry['bytes'] for entry in group]
        size = 'n/a' if None in sizes else f'{sum(sizes) / 2**20:.2f}'
        why = '; '.join(dict.fromkeys(entry['why'] for entry in group))
        what = KINDS[group[0]['kind']][0] if len(group) == 1 else f'{len(group)} {KINDS[group[0]["kind"]][0]}'
        table.append((what, size, where, why))
    return table


def _entry(path, kind, size, why=None):
    return {'path': path, 'kind': kind, 'bytes': size, 'why': why or KINDS[kind][1]}


def _files(folder):
    """Return the files of a folder, and the links in it."""
    if not osp.isdir(folder):
        return []
    return sorted(entry.path for entry in os.scandir(folder) if entry.is_symlink() or entry.is_file())


def _named(folder, pattern):
    """Return what in a folder has a name that matches a pattern."""
    names = os.listdir(folder) if osp.isdir(folder) else []
    return [osp.join(folder, name) for name in sorted(names) if re.fullmatch(pattern, name)]


def _is_dry_run(folder):
    """Return whether a run was a dry run: BasicSR writes the command line on top of its copy of the option file."""
    for path in glob.glob(osp.join(glob.escape(folder), '*.y*ml')):
        with open(path, encoding='utf-8', errors='replace') as file:
            if any('--debug' in line.split() for line in islice(file, 3)):
                return True
    return False


def _size(path):
    """Return the bytes of a file, or of all files of a folder; a link counts as itself, and what is gone not at all."""
    if not osp.lexists(path):
        return 0
    if osp.islink(path) or not osp.isdir(path):
        return os.lstat(path).st_size
    return sum(os.lstat(osp.join(place, name)).st_size for place, _, names in os.walk(path) for name in names)


def _sections(opt, role):
    """Return `{option: section}` of one role, those of training first, named as the data sets name them.

    With `forget` those of earlier requests as well.
    """
    train, option = opt['datasets']['train'], 'datasets: train'
    if role == 'forget':
        found, roles = {f'{option}: forget': train['forget']}, FORGOTTEN_ROLES
    else:
        found = {f'{option}: retain: {name}': section for name, section in (train.get('retain') or {}).items()}
        roles = (role,)
    sets = [section for key, section in opt['datasets'].items() if key.split('_')[0] == 'val']
    return found | {f'datasets: {section["name"]}': section for section in sets if section['role'] in roles}


def _roots(section):
    """Return the folders or LMDBs of a section, links resolved."""
    return {key: osp.realpath(section[key]) for key in ('dataroot_lq', 'dataroot_gt') if section.get(key)}


def _images(option, section):
    """Return the images of a section as paths: of files, or of keys below their LMDB. Empty where nothing is read."""
    roots = _roots(section)
    if section.get('type') not in LISTABLE or 'dataroot_gt' not in roots:
        return set()
    samples = pairs_of(option, section) if len(roots) == 2 else Singles(images_of(option, section))
    found = set()
    for pair in samples:
        for (key, root), path in zip(roots.items(), pair, strict=True):
            found.add(osp.join(root, path if is_lmdb(section) else osp.relpath(path, section[key])))
    return found
