"""The check of a whole option tree against the tables of known keys."""

import re

from basicsr_unlearn.audit_options import audit_options
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.option_tables import (
    ADDED_BY_BASICSR,
    FORGET,
    LOADER,
    LOGGER,
    PAIRS,
    PATH,
    PATH_ADDED_BY_BASICSR,
    RETAIN,
    ROLES,
    SEEDS,
    SETS,
    SOURCE,
    TASKS,
    TOP,
    TRAIN,
    TRAIN_ADDED,
    VAL,
    check_values,
)
from basicsr_unlearn.options import (
    OUR_MODELS,
    check_choice,
    check_keys,
    check_name,
    check_numbers,
    skipped_share,
    tile_options,
)
from basicsr_unlearn.stop_options import goal_of, stop_options


def is_ours(opt):
    """Return whether a run has a model or a data set of this package; others are BasicSR's own business."""
    kinds = [section.get('type') for section in opt['datasets'].values() if isinstance(section, dict)]
    return opt.get('model_type') in OUR_MODELS or any(kind in SETS for kind in kinds if isinstance(kind, str))


def check_file(tree, option, is_train):
    """Check an option file as far as BasicSR looks at it itself, and that the run writes into its own folders alone.

    Args:
        tree (dict): What the file holds, `--force_yml` included; never changed.
        option (str): Names the file in error messages.
        is_train (bool): Whether it is to train.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    for key, kind in (('name', str), ('model_type', str), ('num_gpu', (int, str)), ('datasets', dict), ('path', dict)):
        if not isinstance(tree.get(key), kind):
            raise InputError(f'{option}: {key}: {tree.get(key)!r} is missing or of the wrong type.')
    gpus, seed = tree['num_gpu'], tree.get('manual_seed')
    if gpus != 'auto' and (not isinstance(gpus, int) or gpus < 0 or isinstance(gpus, bool)):
        raise InputError(f'{option}: num_gpu: {gpus!r} must be a number of GPUs, 0 or auto.')
    if seed is not None and not (type(seed) is int and 0 <= seed < SEEDS):
        raise InputError(f'{option}: manual_seed: {seed!r} must be a whole number from 0 to {SEEDS - 1}, or ~.')
    check_values(option, tree, {key: TOP[key] for key in ('val', *['logger', 'train'] * is_train, 'dist_params')})
    for key, value in tree['path'].items():
        if ('pretrain_network' in key or 'resume_state' in key) and not isinstance(value, (str, type(None))):
            raise InputError(f'{option}: path: {key}: {value!r} must be the name of a file, or ~.')
    for key, section in tree['datasets'].items():
        if not isinstance(section, dict):
            raise InputError(f'{option}: datasets: {key}: must be a section of keys.')
        check_values(f'datasets: {key}', section, {key: PAIRS[key] for key in ('dataroot_lq', 'dataroot_gt')})
    if is_ours(tree):
        _check_places(tree, is_train)


def _check_places(tree, is_train):
    """Check the names that become folders and files, and `path`: BasicSR makes a folder of any key it does not know."""
    check_name('name', tree['name'])
    for key, section in tree['datasets'].items():
        check_name(f'datasets: {key}: name', section.get('name'))
        if not (key == 'train' and is_train) and key.split('_')[0] not in ('val', *['test'] * (not is_train)):
            raise InputError(f'datasets: {key}: call it {"train" if is_train else "test_NAME"} or val_NAME.')
    suffix = (tree.get('val') or {}).get('suffix')
    if suffix is not None:
        check_name('val: suffix', suffix)
    ours = tree['model_type'] in OUR_MODELS
    for key in tree['path']:
        if key not in PATH and (ours or not re.match('pretrain_network_|param_key_|strict_load_', key)):
            check_keys('path', {key: None}, PATH)


def check_sections(opt):
    """Check the kinds of all values of an option tree whose keys are known.

    Args:
        opt (dict): As BasicSR's `parse_options` returns it, for a model of ours. Never changed.
    """
    check_values('the option file', opt, TOP)
    for name, kinds in (('path', PATH), ('train', TRAIN), ('val', VAL), ('logger', LOGGER)):
        check_values(name, opt.get(name) or {}, kinds)
    tile_options(opt)
    if opt['is_train']:
        _check_training(opt)
    else:
        _require('the option file', opt, ('val',))
    val = opt.get('val')
    if val is not None or not opt['is_train']:
        _require('val', val or {}, ('val_freq', 'save_img') if opt['is_train'] else ('save_img',))


def _check_training(opt):
    for section in ('network_g', 'train', 'logger'):
        if not isinstance(opt.get(section), dict):
            raise InputError(f'the option file has no section {section}.')
    _require('train', opt['train'], ('optim_g', 'scheduler', 'total_iter'))
    _require('logger', opt['logger'], ('print_freq', 'save_checkpoint_freq', 'use_tb_logger'))
    if opt['train']['total_iter'] < 1:
        raise InputError(f'train: total_iter: {opt["train"]["total_iter"]} must be a positive number of iterations.')
    check_numbers('train', opt['train'])
    check_values('train', opt['train'], {'pixel_opt': 'section?', 'perceptual_opt': 'section?'})
    if not isinstance(opt['datasets'].get('train'), dict):
        raise InputError('datasets: train: is missing.')
    losses = [opt['train'].get(key) for key in ('pixel_opt', 'perceptual_opt')]
    if opt['model_type'] == 'RestorationModel' and not any(losses):
        raise InputError('train: pixel_opt: is missing: without a loss there is nothing to learn.')
    for key in ('batch_size_per_gpu', 'num_worker_per_gpu'):
        _require('datasets: train', opt['datasets']['train'], (key,))


def check_unlearn_options(opt):
    """Check what an option tree for UnlearnModel must have, or cannot have, beyond `check_sections`.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    train = opt['train']
    check_keys('the option file', opt, [*TOP, *ADDED_BY_BASICSR])
    _require('the option file', opt, ('scale',))
    _require('train', train, ('method',))
    check_keys('train', train, [*TRAIN, *TRAIN_ADDED])
    check_keys('path', opt['path'], [*PATH, *PATH_ADDED_BY_BASICSR])
    check_keys('logger', opt['logger'], LOGGER)
    check_keys('val', opt.get('val') or {}, VAL)
    check_choice('train: method: task', train['method'].get('task', 'degradation'), TASKS)
    if train.get('ema_decay'):
        raise InputError(
            f'train: ema_decay: {train["ema_decay"]}: an average over the run would validate and save weights '
            'that have not forgotten. Remove it or set 0.'
        )
    if not opt['path'].get('pretrain_network_g'):
        raise InputError('path: pretrain_network_g: is missing: there is nothing to unlearn without trained weights.')
    if goal_of(stop_options(train)) == 'heldout' and not opt['datasets']['train'].get('heldout'):
        raise InputError(
            'datasets: train: heldout: is missing. Name pairs like the forget set that were never trained on: train: '
            'stop: forget_psnr_below: heldout compares with them (or give a number, dB, or ~).'
        )
    audit_options(opt.get('audit'))
    _check_roles(opt['datasets'], train['method'].get('task', 'degradation'))


def check_dataset(option, section):
    """Check the keys of a data set of ours, and the kinds of the values of any."""
    kind = section.get('type')
    check_values(option, section, {'type': LOADER['type']})
    if kind in SETS:
        check_keys(option, section, [*LOADER, 'role', *SETS[kind]])
    check_values(option, section, {**LOADER, **SOURCE, **SETS.get(kind, {})})
    mode = section.get('prefetch_mode')
    check_choice(f'{option}: prefetch_mode', mode or 'cpu', ('cpu', 'cuda'))
    if mode == 'cuda' and not section.get('pin_memory'):
        raise InputError(f'{option}: prefetch_mode: cuda needs pin_memory: true.')
    if section.get('persistent_workers') and not (
        section.get('num_worker_per_gpu') and section.get('phase') == 'train'
    ):
        raise InputError(f'{option}: persistent_workers: true needs a num_worker_per_gpu above 0, in datasets: train.')
    if kind in SETS or kind == 'PairedImageDataset':
        _check_files(option, section)
    if kind not in SETS:
        return
    skipped_share(section)
    for key, kinds in (('forget', FORGET), ('heldout', SOURCE)):
        if section.get(key):
            check_source(f'{option}: {key}', section[key], kinds)
    for group, kinds in (('retain', RETAIN), ('sources', {**SOURCE, 'weight': RETAIN['weight']})):
        for name, source in (section.get(group) or {}).items():
            check_source(f'{option}: {group}: {name}', source, kinds)


def check_source(option, source, kinds=SOURCE):
    """Check the keys of a source of images, and the kinds of their values."""
    check_keys(option, source, kinds)
    check_values(option, source, kinds)
    _check_files(option, source)


def _check_files(option, section):
    template, backend = section.get('filename_tmpl', '{}'), section.get('io_backend') or {'type': 'disk'}
    if not re.fullmatch(r'[^{}/]*\{\}[^{}/]*', template):
        raise InputError(f'{option}: filename_tmpl: {template!r} must hold {{}} once, for the name of the clean file.')
    check_choice(f'{option}: io_backend: type', backend.get('type'), ('disk', 'lmdb'))
    check_keys(f'{option}: io_backend', backend, ('type',))


def _require(option, section, keys):
    for key in keys:
        if key not in section:
            raise InputError(f'{option}: {key}: is missing.')


def _check_roles(datasets, task):
    train = datasets['train']
    check_choice('datasets: train: type', train.get('type'), ['ForgetRetainPairedDataset'])
    forgotten = ((train.get('forget') or {}).get('degradation') or {}).get('type')
    for name, source in (train.get('retain') or {}).items():
        if task == 'degradation' and forgotten and (source.get('degradation') or {}).get('type') == forgotten:
            raise InputError(
                f'datasets: train: retain: {name}: is {forgotten} too, which task: degradation forgets as a '
                'whole. Remove it, or set task: source.'
            )
    names = [section.get('name') for key, section in datasets.items() if key != 'train']
    if len(set(names)) < len(names):
        raise InputError(f'datasets: the validation sets {", ".join(map(str, names))} must have different names.')
    for key, section in datasets.items():
        if key != 'train' and section.get('role') not in ROLES:
            raise InputError(f'datasets: {key}: role: {section.get("role")} must be forget, retain or forgotten.')
