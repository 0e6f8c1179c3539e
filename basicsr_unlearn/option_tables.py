"""The tables of known keys of an option file, each with the kind of its value; a ? behind it allows ~."""

import math

from basicsr_unlearn.errors import InputError


def _whole(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


KINDS = {  # what the value of a key must be, for people and for the check
    'text': ('text', lambda value: isinstance(value, str) and value.isprintable()),
    'flag': ('true or false', lambda value: isinstance(value, bool)),
    'count': ('a positive whole number', lambda value: _whole(value, 1)),
    'whole': ('a whole number, 0 or more', lambda value: _whole(value, 0)),
    'positive': ('a positive number', lambda value: _number(value) and value > 0),
    'number': ('a number', _number),
    'section': ('a section of keys', lambda value: isinstance(value, dict)),
    'any': ('', lambda value: True),
}

TOP = {
    'name': 'any',
    'model_type': 'text',
    'scale': 'count',
    'num_gpu': 'any',
    'manual_seed': 'whole?',
    'find_unused_parameters': 'flag',
    'datasets': 'section',
    'network_g': 'section',
    'path': 'section',
    'train': 'section',
    'val': 'section?',
    'logger': 'section',
    'dist_params': 'section',
    'audit': 'section?',
}
ADDED_BY_BASICSR = ('dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path')
PATH = {
    'pretrain_network_g': 'text?',
    'param_key_g': 'text',
    'strict_load_g': 'flag',
    'pretrain_network_oracle': 'text?',
    'param_key_oracle': 'text',
    'pretrain_network_reference': 'text?',
    'param_key_reference': 'text',
    'pretrain_network_original': 'text?',
    'param_key_original': 'text',
    'resume_state': 'text?',
    'ignore_resume_networks': 'any',
}
PATH_ADDED_BY_BASICSR = ('experiments_root', 'models', 'training_states', 'log', 'visualization', 'results_root')
TRAIN = {
    'method': 'section',
    'stop': 'section?',
    'amp': 'any',
    'compile': 'flag',
    'oracle_cost': 'positive?',
    'optim_g': 'section',
    'scheduler': 'section',
    'total_iter': 'positive',
    'warmup_iter': 'number',
    'ema_decay': 'number?',
}
TRAIN_ADDED = ('planned_iter',)  # by a debug run
VAL = {
    'val_freq': 'positive',
    'save_img': 'flag',
    'pbar': 'flag?',
    'suffix': 'any',
    'metrics': 'section?',
    'tile': 'any',
    'tile_overlap': 'any',
    'size_multiple': 'any',
}
LOGGER = {
    'print_freq': 'positive',
    'save_checkpoint_freq': 'positive',
    'use_tb_logger': 'flag',
    'wandb': 'section?',
    'keep_last': 'whole?',
    'private': 'flag?',
}
LOADER = {
    'name': 'any',
    'type': 'text',
    'phase': 'text',
    'scale': 'count',
    'manual_seed': 'whole?',
    'gt_size': 'count?',
    'use_hflip': 'flag',
    'use_rot': 'flag',
    'num_worker_per_gpu': 'whole',
    'batch_size_per_gpu': 'count',
    'dataset_enlarge_ratio': 'positive',
    'prefetch_mode': 'text?',
    'num_prefetch_queue': 'count',
    'pin_memory': 'flag',
    'persistent_workers': 'flag',
}
SOURCE = {
    'dataroot_lq': 'text?',
    'dataroot_gt': 'text?',
    'io_backend': 'section?',
    'meta_info_file': 'text?',
    'file_list': 'text?',
    'glob': 'any',
    'without': 'text',
    'filename_tmpl': 'text',
    'degradation': 'section',
    'scenes': 'count',
    'first_scene': 'whole',
    'fixed': 'flag',
    'cache': 'flag',
}
FORGET = {**SOURCE, 'regions': 'text?'}
RETAIN = {**SOURCE, 'from': 'text', 'weight': 'positive', 'target': 'text'}
FILES = {key: SOURCE[key] for key in ('dataroot_gt', 'io_backend', 'file_list', 'glob')}
PAIRS = {key: SOURCE[key] for key in ('dataroot_lq', 'meta_info_file', 'filename_tmpl')} | FILES
DEGRADATION = {'degradation': SOURCE['degradation']}
SKIPPING = {'on_error': 'text', 'max_skipped': 'number'}
SETS = {  # the keys of our data sets, beside role and those of the loader
    'ForgetRetainPairedDataset': {'forget': 'section?', 'retain': 'section?', 'heldout': 'section?'} | SKIPPING,
    'MixedPairedDataset': {'sources': 'section?'} | SKIPPING,
    'PairedFilesDataset': PAIRS,
    'DegradedImageDataset': FILES | DEGRADATION,
    'PhotographDataset': DEGRADATION,
    'SceneDataset': {key: SOURCE[key] for key in ('scenes', 'first_scene', 'fixed')} | DEGRADATION,
}
ROLES = ('forget', 'retain', 'forgotten')
FORGOTTEN_ROLES = ('forget', 'forgotten')  # by this request, by an earlier one
TASKS = ('degradation', 'source', 'instance')
SEEDS = 2**31  # what BasicSR and its workers add to manual_seed still fits NumPy


def check_values(option, section, kinds):
    """Raise InputError for a value that is not of the kind of its key; unknown keys are left alone.

    Args:
        option (str): Name of the section.
        section (dict): The section.
        kinds (dict): `{key: kind of KINDS}`; with a `?` behind it ~ will do as well.
    """
    for key, value in section.items():
        kind = kinds.get(key, 'any')
        words, fits = KINDS[kind.rstrip('?')]
        if not fits(value) and not (value is None and kind.endswith('?')):
            raise InputError(f'{option}: {key}: {value!r} must be {words}.')
