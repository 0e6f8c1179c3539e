"""Options: checks of keys and types that name the nearest known key, the stop rule's options, paths."""

import dataclasses
import difflib
import hashlib
import math
import os
import re
import shutil

from basicsr_unlearn.errors import InputError

OUR_MODELS = ('UnlearnModel', 'RestorationModel')
DRY_ITERATIONS = 16  # of a dry run; BasicSR validates and saves after every eighth
DRY_IMAGES = 2  # of each validation set


def nearest(key, known):
    """Return ` Did you mean X?` for the known name nearest to `key`, else the list of the known names."""
    close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f'Did you mean {close[0]}?' if close else f'Known: {", ".join(known)}.'


def check_choice(option, value, known):
    """Raise InputError unless `value` is one of the known names."""
    if value not in known:
        raise InputError(f'{option}: {value} is unknown. {nearest(value, known)}')


def check_name(option, name):
    """Raise InputError for a name that cannot be that of a folder or a part of a file's name."""
    fits = isinstance(name, str) and name.isprintable() and name == name.strip() and 0 < len(name.encode()) <= 100
    if not fits or name[0] in '.~' or '/' in name or '\\' in name:
        raise InputError(
            f'{option}: {str(name)[:40]!r} becomes part of file names. Give at most 100 letters, digits and signs, '
            'none of them / or \\, the first neither . nor ~.'
        )


def check_outside(option, file, folder):
    """Raise InputError for a file in the folder of the run, which BasicSR renames before it begins anew."""
    if folder and os.path.realpath(file).startswith(os.path.realpath(folder) + os.sep):
        raise InputError(f'{option}: {file}: lies in {folder}, which a new run renames. Copy it elsewhere.')


def check_keys(option, section, known):
    """Raise InputError for a section that is no mapping or has a key that is not known."""
    if not isinstance(section, dict):
        raise InputError(f'{option}: must be a section of keys, not {section!r}.')
    for key in section:
        if key not in known:
            raise InputError(f'{option}: {key} is an unknown key. {nearest(key, known)}')


def from_section(cls, section, option):
    """Fill a dataclass of options from a section, checking names and types.

    Raises:
        InputError: An unknown key, or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    check_keys(option, section, fields)
    values = {}
    for key, value in section.items():
        kinds = getattr(fields[key].type, '__args__', (fields[key].type,))  # of float | None: float and NoneType
        if float in kinds and type(value) is int:
            value = float(value)
        empty = value is None and (type(None) in kinds or fields[key].default is None)
        if not empty and kinds[0] in (int, float, str, dict, bool, list):
            if type(value) is not kinds[0] or (float in kinds and not math.isfinite(value)):
                raise InputError(f'{option}: {key}: {value!r} must be of type {kinds[0].__name__}.')
        values[key] = value
    return cls(**values)


def tile_options(opt):
    """Return `tile`, `overlap` and `multiple` of `val: tile`, `tile_overlap` and `size_multiple` for `restore`.

    Defaults: no tiles, 32 pixels, what the network says of itself.

    Raises:
        InputError: They are no numbers of pixels, or the tiles would not advance.
    """
    val = opt.get('val') or {}
    tile, overlap = val.get('tile'), val.get('tile_overlap', 32)
    if tile is not None and not (isinstance(tile, int) and isinstance(overlap, int) and 0 <= overlap < tile):
        raise InputError(f'val: tile: {tile} with tile_overlap: {overlap}: give pixels, the overlap below the tile.')
    multiple = val.get('size_multiple')
    if multiple is not None and (not isinstance(multiple, int) or multiple < 1):
        raise InputError(f'val: size_multiple: {multiple} must be a positive whole number of pixels, or ~.')
    return {'tile': tile, 'overlap': overlap, 'multiple': multiple}


def check_speed_options(train, num_gpu):
    """Raise InputError for an `amp` or `compile` that cannot work.

    Args:
        train (dict): The section.
        num_gpu (int): How many there are; 0: the run is on the CPU.
    """
    amp, wants_compiler = train.get('amp'), train.get('compile', False)
    if amp not in (None, 'bf16'):
        raise InputError(f'train: amp: {amp} is unknown. Set bf16, or ~ for float32.')
    if not isinstance(wants_compiler, bool):
        raise InputError(f'train: compile: {wants_compiler!r} must be true or false.')
    compiler = os.environ.get('CXX', 'g++')
    if wants_compiler and num_gpu == 0 and not shutil.which(compiler):
        raise InputError(f'train: compile: true needs a C++ compiler on a CPU: {compiler} is not installed.')


def check_numbers(option, tree):
    """Raise InputError for text that was meant as a number."""
    for key, value in tree.items():
        if isinstance(value, dict):
            check_numbers(f'{option}: {key}', value)
        elif isinstance(value, str) and re.fullmatch(r'[+-]?\d+(\.\d*)?([eE][+-]?\d+)?', value):
            raise InputError(f'{option}: {key}: {value!r} is text. Write the number without quotes.')


def skipped_share(section):
    """Return `max_skipped` of a section `datasets: train` with `on_error: skip`, else None: an error ends the run.

    Raises:
        InputError: An unknown `on_error`, or a `max_skipped` that is no share.
    """
    check_choice('datasets: train: on_error', section.get('on_error', 'raise'), ['raise', 'skip'])
    share = section.get('max_skipped', 0.01)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise InputError(f"datasets: train: max_skipped: {share} must be a share of a source's files, such as 0.01.")
    return share if section.get('on_error') == 'skip' else None


def is_dry_run(opt):
    """Return whether an option tree is that of a training with `--debug`."""
    return 'planned_iter' in (opt.get('train') or {})


def is_private(opt):
    """Return whether forget pictures and names of files stay out of logs and reports, by default what the task says."""
    private = _section(opt, 'logger').get('private')
    return task_of(opt) != 'degradation' if private is None else private


def task_of(opt):
    """Return `train: method: task`, also of a tree that is not checked yet."""
    return method_of(opt).get('task', 'degradation')


def method_of(opt):
    """Return the section `train: method`, also of a tree that is not checked yet; empty where there is none."""
    return _section(_section(opt, 'train'), 'method')


def _section(tree, key):
    return tree[key] if isinstance(tree.get(key), dict) else {}


def hashed(name):
    """Return eight hexadecimal digits that stand for a file name: the first of its sha256."""
    return hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]


def prepare(opt, debug=False):
    """Expand `~`, `${NAME}` and `${NAME:-default}` in every path, and hand the seed to the data sets.

    With `debug`, for a model of ours, also cut `total_iter` to that of a dry run, and remember it as `planned_iter`.

    Args:
        opt (dict): What `parse_options` made of the file; changed in place, before anybody else sees it.

    Raises:
        InputError: A variable that is not set and has no default.
    """
    for section in opt['datasets'].values():
        section['manual_seed'] = opt['manual_seed']
    expand_paths('datasets', opt['datasets'])
    expand_paths('path', opt['path'])
    expand_paths('train: method', method_of(opt))
    path = opt['path']
    if opt.get('model_type') == 'UnlearnModel' and not path.get('pretrain_network_original'):
        path['pretrain_network_original'] = path.get('pretrain_network_g')  # resume replaces pretrain_network_g
        path['param_key_original'] = path.get('param_key_g', 'params')
    train = opt.get('train') or {}
    if debug and opt.get('model_type') in OUR_MODELS and isinstance(train.get('total_iter'), (int, float)):
        train['planned_iter'] = train['total_iter']
        train['total_iter'] = min(train['total_iter'], DRY_ITERATIONS)
    return opt


def expand_paths(option, tree):
    """Expand the values of a section in place, all its subsections included."""
    for key, value in tree.items():
        if isinstance(value, dict):
            expand_paths(f'{option}: {key}', value)
        elif isinstance(value, str):
            tree[key] = _expand(f'{option}: {key}', value)


def _expand(option, text):

    def value_of(match):
        name, default = match[1], match[3]
        if os.environ.get(name):
            return os.environ[name]
        if default is None:
            raise InputError(
                f'{option}: {text}: the environment variable {name} is not set. Set it, or write the path.'
            )
        return default

    return os.path.expanduser(re.sub(r'\$\{(\w+)(:-([^}]*))?\}', value_of, text))
