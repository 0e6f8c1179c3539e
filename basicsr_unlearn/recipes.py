"""The option files that come with the package, and presets: a method's `train` section for any option file."""

import os
from copy import deepcopy
from os import path as osp

import yaml

from basicsr_unlearn import option_file
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import check_choice

ROOTS = [osp.join(osp.dirname(__file__), 'recipes'), osp.join(osp.dirname(__file__), os.pardir, 'options')]
PRESET_KEYS = ('method', 'stop', 'optim_g', 'scheduler', 'total_iter', 'warmup_iter')


def folder(recipe):
    """Return the folder of a recipe.

    Raises:
        InputError: This installation has none of that name.
    """
    found = next((osp.join(root, recipe) for root in ROOTS if osp.isdir(osp.join(root, recipe))), None)
    if found is None:
        raise InputError(f'{recipe}: no such recipe in this installation.')
    return found


def presets():
    """Return the names of the presets of methods, such as `salun`."""
    return sorted(name[:-4] for name in os.listdir(folder('methods')) if name.endswith('.yml'))


def read_preset(name, option):
    """Return the `train` section of a preset: a name of `presets()` or a file.

    Raises:
        InputError: There is none, or it holds other sections or keys.
    """
    path = name
    if not str(name).endswith('.yml'):
        check_choice(option, name, presets())
        path = osp.join(folder('methods'), f'{name}.yml')
    tree = option_file.read(path, option)
    if list(tree) != ['train'] or not isinstance(tree['train'], dict):
        raise InputError(f'{option}: {path}: a preset holds the section train and nothing else.')
    for key in tree['train']:
        check_choice(f'{option}: {path}: train', key, PRESET_KEYS)
    return tree['train']


def merge(train, preset):
    """Return a section `train` with a preset on top: each of its sections replaces the old, `stop` adds to it.

    `method: task:` stays that of the option file, and so does its forget level unless the task is degradation: presets
    know the level of that task alone.
    """
    merged = {**deepcopy(train), **deepcopy(preset)}
    merged['stop'] = {**(train.get('stop') or {}), **(preset.get('stop') or {})}
    task = (train.get('method') or {}).get('task')
    if task:
        merged['method']['task'] = task
    if task not in (None, 'degradation') and 'forget_psnr_below' in (train.get('stop') or {}):
        merged['stop']['forget_psnr_below'] = train['stop']['forget_psnr_below']
    return merged


def write_with_preset(path, name):
    """Write a copy of an option file with a preset of a method in it; return the path of the copy.

    Only the sections `name` and `train` are written anew; the rest stays as it is, remarks included.

    Raises:
        InputError: The file has no such sections, or the copy exists already.
    """
    tree = option_file.read(path, '-opt')
    preset = read_preset(name, 'preset')
    for key, kind in (('name', str), ('train', dict)):
        if not isinstance(tree.get(key), kind):
            raise InputError(f'-opt {path}: {key}: {tree.get(key)!r} is missing or of the wrong type.')
    short = osp.splitext(osp.basename(name))[0]
    target = f'{osp.splitext(path)[0]}_{short}.yml'
    if osp.lexists(target):
        raise InputError(f'preset: {target} exists already. Move it away.')
    section = {'name': f'{tree["name"]}_{short}', 'train': merge(tree['train'], preset)}
    with open(path, encoding='utf-8') as file:
        lines = file.read().splitlines()
    for key, value in section.items():
        first = next(i for i, line in enumerate(lines) if line.startswith(f'{key}:'))
        last = next((i for i in range(first + 1, len(lines)) if lines[i][:1].strip()), len(lines))
        written = yaml.safe_dump({key: value}, sort_keys=False).splitlines()
        lines[first:last] = [*written, ''] if key == 'train' else written
    with open(target, 'x', encoding='utf-8') as file:
        file.write('\n'.join(lines).rstrip() + '\n')
    return target


def add_commands(commands, init, preset):
    """Add `init` and `preset` to the command line; the functions run them."""
    text = 'write the option files of a recipe into the current directory, never over an existing file'
    command = commands.add_parser('init', help=text, description=text + '.')
    command.add_argument(
        'recipe',
        choices=['quickstart', 'promptir', 'adair'],
        help='quickstart: forget haze with the tiny network of this package, without a download; promptir, adair: the '
        'published networks and data sets',
    )
    command.set_defaults(run=init)
    text = 'write a copy of an option file that unlearns by another method'
    command = commands.add_parser('preset', help=text, description=f'{text}: FILE_METHOD.yml beside FILE.yml.')
    known = ', '.join(presets())
    command.add_argument('method', metavar='METHOD', help=f'a file of the same kind, or one of {known}')
    command.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    command.set_defaults(run=preset)
