"""The tables of known keys, and the check of a whole option tree for UnlearnModel against them."""

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import check_choice, check_keys, check_numbers, skipped_share, stop_options, tile_options

TOP = (
    'name',
    'model_type',
    'scale',
    'num_gpu',
    'manual_seed',
    'find_unused_parameters',
    'datasets',
    'network_g',
    'path',
    'train',
    'val',
    'logger',
    'dist_params',
)
ADDED_BY_BASICSR = ('dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path')
PATH = (
    'pretrain_network_g',
    'param_key_g',
    'strict_load_g',
    'pretrain_network_oracle',
    'param_key_oracle',
    'pretrain_network_original',
    'param_key_original',
    'resume_state',
    'ignore_resume_networks',
)
PATH_ADDED_BY_BASICSR = ('experiments_root', 'models', 'training_states', 'log', 'visualization', 'results_root')
TRAIN = (
    'method',
    'stop',
    'amp',
    'compile',
    'oracle_cost',
    'optim_g',
    'scheduler',
    'total_iter',
    'warmup_iter',
    'ema_decay',
)
TRAIN_ADDED = ('planned_iter',)  # by a debug run
VAL = ('val_freq', 'save_img', 'pbar', 'suffix', 'metrics', 'tile', 'tile_overlap', 'size_multiple')
LOGGER = ('print_freq', 'save_checkpoint_freq', 'use_tb_logger', 'wandb', 'keep_last', 'private')
LOADER = (
    'name',
    'type',
    'phase',
    'scale',
    'manual_seed',
    'gt_size',
    'use_hflip',
    'use_rot',
    'num_worker_per_gpu',
    'batch_size_per_gpu',
    'dataset_enlarge_ratio',
    'prefetch_mode',
    'num_prefetch_queue',
    'pin_memory',
    'persistent_workers',
)
SOURCE = (
    'dataroot_lq',
    'dataroot_gt',
    'io_backend',
    'meta_info_file',
    'file_list',
    'filename_tmpl',
    'degradation',
    'scenes',
    'cache',
)
RETAIN = SOURCE + ('from', 'weight', 'target')
SKIPPING = ('on_error', 'max_skipped')
SETS = {  # the keys of the data sets of ours that hold no others, beside name, role and those of the loader
    'MixedPairedDataset': ('sources', *SKIPPING),
    'PairedFilesDataset': ('dataroot_lq', 'dataroot_gt', 'io_backend', 'meta_info_file', 'file_list', 'filename_tmpl'),
    'DegradedImageDataset': ('dataroot_gt', 'io_backend', 'file_list', 'degradation'),
    'PhotographDataset': ('degradation',),
}
ROLES = ('forget', 'retain')
TASKS = ('degradation', 'source', 'instance')


def check_unlearn_options(opt):
    """Check all of an option tree for UnlearnModel that can be judged without opening a file.

    Args:
        opt (dict): As BasicSR's `parse_options` returns it. Never changed.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    check_keys('the option file', opt, TOP + ADDED_BY_BASICSR)
    for section in ('datasets', 'network_g', 'path', 'train', 'logger'):
        if not isinstance(opt.get(section), dict):
            raise InputError(f'the option file has no section {section}.')
    train, val = opt['train'], opt.get('val')
    _require('the option file', opt, ('scale',))
    _require('train', train, ('method', 'optim_g', 'scheduler', 'total_iter'))
    _require('logger', opt['logger'], ('print_freq', 'save_checkpoint_freq', 'use_tb_logger'))
    _require('val', val or {'val_freq': 0, 'save_img': False}, ('val_freq', 'save_img'))
    check_keys('train', train, TRAIN + TRAIN_ADDED)
    check_keys('path', opt['path'], PATH + PATH_ADDED_BY_BASICSR)
    check_keys('logger', opt['logger'], LOGGER)
    check_keys('val', val or {}, VAL)
    tile_options(opt)
    check_numbers('train', train)
    _check_training(train, opt['path'])
    _check_datasets(opt['datasets'], train['method'].get('task', 'degradation'))


def check_dataset_keys(option, section):
    """Raise InputError for an unknown key in a section `datasets: ...` of one of our simpler data sets."""
    if section.get('type') not in SETS:
        return
    check_keys(option, section, LOADER + ('role', *SETS[section['type']]))
    skipped_share(section)
    for name, source in (section.get('sources') or {}).items():
        check_keys(f'{option}: sources: {name}', source, SOURCE + ('weight',))


def _require(option, section, keys):
    for key in keys:
        if key not in section:
            raise InputError(f'{option}: {key}: is missing.')


def _check_training(train, path):
    if train.get('ema_decay'):
        raise InputError(
            f'train: ema_decay: {train["ema_decay"]}: an average over the run would validate and save weights '
            'that have not forgotten. Remove it or set 0.'
        )
    for key in ('method', 'optim_g', 'scheduler'):
        if not isinstance(train[key], dict):
            raise InputError(f'train: {key}: must be a section of keys, for example {{type: ...}}.')
    check_choice('train: method: task', train['method'].get('task', 'degradation'), TASKS)
    if not isinstance(train['total_iter'], (int, float)) or train['total_iter'] < 1:
        raise InputError(f'train: total_iter: {train["total_iter"]} must be a positive number of iterations.')
    if not path.get('pretrain_network_g'):
        raise InputError('path: pretrain_network_g: is missing: there is nothing to unlearn without trained weights.')
    stop_options(train)


def _check_datasets(datasets, task):
    train = datasets.get('train')
    if not isinstance(train, dict):
        raise InputError('datasets: train: is missing.')
    check_choice('datasets: train: type', train.get('type'), ['ForgetRetainPairedDataset'])
    check_keys('datasets: train', train, LOADER + SKIPPING + ('forget', 'retain'))
    skipped_share(train)
    _require('datasets: train', train, ('num_worker_per_gpu',))
    for key in ('batch_size_per_gpu', 'gt_size'):
        if not isinstance(train.get(key), int) or train[key] < 1:
            raise InputError(f'datasets: train: {key}: {train.get(key)} must be a positive whole number.')
    forget = train.get('forget') or {}
    check_keys('datasets: train: forget', forget, SOURCE)
    forgotten = (forget.get('degradation') or {}).get('type')
    for name, source in (train.get('retain') or {}).items():
        check_keys(f'datasets: train: retain: {name}', source, RETAIN)
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
            raise InputError(f'datasets: {key}: role: {section.get("role")} must be forget or retain.')
