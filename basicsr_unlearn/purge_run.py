"""`basicsr purge`: remove what a finished run still holds of the data that it forgot."""

import dataclasses
import glob
import json
import os
import shutil
from contextlib import suppress
from os import path as osp

from basicsr_unlearn import event_files, leftovers
from basicsr_unlearn.checkpoint import resolve
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.summary import markdown_table, write_summary

SUMMARY = 'unlearn_summary.json'
WEIGHTS = osp.join('models', 'net_g_latest.pth')
LMDB = ('data.mdb', 'lock.mdb', 'meta_info.txt')
ABOUT = """Remove what a finished unlearning run still holds of the data that it forgot: training states, older
checkpoints, adversarial examples, pictures of forget sets (also those in TensorBoard), half-written files, archived
runs and dry runs of the same name. models/net_g_latest.pth, unlearn_summary.*, the option file, logs and scalars stay.
Shows what there is, and asks. Exit status 2, and nothing removed: no such run, one that has not finished, or no
terminal to ask."""


@dataclasses.dataclass
class Found:
    """A finished run, and what holds the forgotten data inside and outside of its folders, as leftovers.py says it."""

    name: str
    summary: dict
    sets: list  # names of the validation sets that show forgotten images
    inside: list
    outside: list

    @property
    def folder(self):
        return osp.join('experiments', self.name)

    @property
    def board(self):
        return osp.join('tb_logger', self.name)

    @property
    def removable(self):
        return list(filter(leftovers.is_removable, self.outside))

    def table(self):
        """Return the leftovers as a table."""
        return '\n'.join(markdown_table(leftovers.rows(self.inside + self.outside)))


def add_command(commands, run_command):
    """Add `purge` to the subcommands of the command line."""
    text = 'remove what a finished run still holds of the forgotten data'
    command = commands.add_parser('purge', help=text, description=ABOUT)
    command.add_argument('name', metavar='RUN', help='name of the run, or its folder experiments/NAME')
    command.add_argument('--yes', action='store_true', help='do not ask')
    command.add_argument(
        '--outside',
        action='store_true',
        help='also remove, after a second question, the weights of the original and the LMDBs that hold the forget set '
        'alone. Folders of forget images are named, and never removed',
    )
    command.set_defaults(run=run_command)


def find(run):
    """Find what a finished run of the current directory left.

    Args:
        run (str): Its name, or `experiments/NAME`.

    Returns:
        Found: What there is. Nothing is changed.

    Raises:
        InputError: No such run, one that has not finished or goes on, a link that leads out of its folders.
    """
    name = _name(run)
    summary, sets, outside = _read_summary(name)
    found = Found(name, summary, sets, leftovers.inside('.', name, sets), list(filter(_exists, outside)))
    whole = [entry['path'] for entry in found.inside if osp.isdir(entry['path'])]
    _check_links([found.folder, found.board, *whole])
    for theirs in found.outside:
        for ours in found.inside:
            if _holds(ours['path'], theirs['path']):
                raise InputError(
                    f'purge: {ours["path"]} would go, and holds what lies outside of the run: {theirs["path"]} '
                    f'({theirs["why"]}). Move that away first.'
                )
    return found


def remove(found, inside, outside):
    """Remove leftovers and write the summary of the run anew.

    Args:
        found (Found): As `find` gives it.
        inside (bool): Remove what lies in the folders of the run.
        outside (bool): Remove what is `removable` outside of them.

    Returns:
        str: What was done, in one line.

    Raises:
        InputError: A file cannot be removed. The same command goes on.
    """
    try:
        if inside:
            _remove_inside(found)
        for entry in found.removable if outside else []:
            _remove_outside(entry)
    except OSError as error:
        raise InputError(f'purge: {error.filename}: {error.strerror}. The same command goes on from here.') from None
    left = find(found.name)
    write_summary({**found.summary, 'leftovers': left.inside + left.outside}, found.folder)
    gone = len(found.inside + found.outside) - len(left.inside + left.outside)
    size = sum(entry['bytes'] for entry in found.inside * inside + found.removable * outside) / 2**20
    return f'purged {found.name}: {gone} leftovers removed ({size:.1f} MiB), {len(left.outside)} remain outside'


def _name(run):
    """Return the name of a run of the current directory."""
    folder = osp.abspath(run if os.sep in run else osp.join('experiments', run))
    if osp.dirname(folder) != osp.abspath('experiments'):
        raise InputError(f'purge: {run}: is no run of {os.getcwd()}. Give NAME or experiments/NAME.')
    if not osp.isdir(folder):
        raise InputError(f'purge: {run}: there is no folder {folder}.')
    return osp.basename(folder)


def _read_summary(name):
    """Return the summary of a run that has finished, its sets that show forgotten images, and what lies outside."""
    folder = osp.join('experiments', name)
    path = osp.join(folder, SUMMARY)
    goes_on = 'What it holds is needed to go on (--auto_resume).'
    if not osp.isfile(path):
        raise InputError(f'purge: {name}: has not finished an unlearning run: no {path}. {goes_on}')
    try:
        with open(path, encoding='utf-8') as file:
            summary = json.load(file)
        of, sets = summary['name'], [entry['name'] for entry in summary['sets'] if entry['shows_forgotten']]
        outside = [entry for entry in summary['leftovers'] if entry['kind'] in leftovers.OUTSIDE]
    except (ValueError, KeyError, TypeError):
        raise InputError(f'purge: {path}: is damaged, or of an older version. Remove what is left by hand.') from None
    if of != name:
        raise InputError(f'purge: {name}: is a folder of the run {of}. Purge {of}, or give this folder its name back.')
    logs = sorted(glob.glob(osp.join(glob.escape(folder), 'train_*.log')))
    if logs:
        with open(logs[-1], encoding='utf-8', errors='replace') as file:
            if SUMMARY not in file.read():
                raise InputError(f'purge: {name}: was started again and has not finished ({logs[-1]}). {goes_on}')
    weights = osp.join(folder, WEIGHTS)
    if osp.islink(weights) or not osp.isfile(weights):
        raise InputError(f'purge: {weights}: no such file, or a link: the result of the run must lie there.')
    return summary, sets, outside


def _check_links(folders):
    """Raise InputError for a link that leads out of the folders of the run."""
    for folder in folders:
        for place, names, files in os.walk(folder):
            for path in [folder, *(osp.join(place, name) for name in names + files)]:
                if osp.islink(path) and (path == folder or not _holds(folder, osp.realpath(path))):
                    raise InputError(
                        f'purge: {path}: is a link to {osp.realpath(path)}, which is never followed. Remove what it '
                        'leads to yourself if need be, and the link.'
                    )


def _holds(folder, path):
    """Return whether a path is a folder or lies in it."""
    folder = osp.realpath(folder)
    return osp.commonpath([folder, osp.realpath(path)]) == folder


def _exists(entry):
    path = resolve(entry['path'])
    return osp.exists(osp.join(path, LMDB[0]) if entry['kind'] == 'forget_lmdb' else path)


def _remove_inside(found):
    for path in [path for name in found.sets for path in leftovers.pictures(found.folder, name)]:
        os.remove(path)
        with suppress(OSError):  # of an image that other sets show as well
            os.rmdir(osp.dirname(path))
    for path in event_files.find(found.board):
        event_files.drop_pictures(path, found.sets)
    for entry in found.inside:
        if entry['kind'] not in ('pictures', 'tensorboard'):
            (shutil.rmtree if osp.isdir(entry['path']) else os.remove)(entry['path'])


def _remove_outside(entry):
    if entry['kind'] == 'original':
        os.remove(entry['path'])
        return
    for name in LMDB:
        with suppress(FileNotFoundError):
            os.remove(osp.join(entry['path'], name))
    with suppress(OSError):  # holds files of somebody else
        os.rmdir(entry['path'])
