"""A user's option tree, made to run on the toy."""

from copy import deepcopy

from basicsr_unlearn.audits.toy import BATCH, NET, SIZE
from basicsr_unlearn.methods import method_options


def adapt(tree, iterations, seed, level):
    """Return a user's option tree for the toy; `toy_unlearn` fills names and files in.

    Kept: `train: method`, `optim_g`, `stop`, kind and number of the retain sources, their weights and targets, the
    batch size up to 8, the degradations of proxies. Changed: network, data and proxies are the toy's, without
    augmentation; a run of more than `iterations` is cut to them, its schedule with it; no limit of cost; float32 on one
    core. For `task: source` and `instance` the forget level, and for any task a bound of AscentLoss that is a number,
    are those of the toy (`level`): the user's belong to the user's images.

    Args:
        tree (dict): Of an unlearning run. Never changed.
        iterations (int): At most so many.
        seed (int): `manual_seed`.
        level (dict): `psnr`, `l1`, `mse` of pairs as they are to be forgotten that the toy was never trained on.
    """
    return {
        'model_type': 'UnlearnModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': seed,
        'datasets': {'train': _data(tree['datasets']['train'])},
        'network_g': NET,
        'train': _train(tree['train'], iterations, level),
        'val': {'val_freq': 10**9, 'save_img': False},
        'logger': {'print_freq': 10**9, 'save_checkpoint_freq': 10**9, 'use_tb_logger': False},
    }


def _data(user):
    data = {
        'name': 'toy',
        'type': 'ForgetRetainPairedDataset',
        'forget': {},
        'gt_size': SIZE,
        'num_worker_per_gpu': 0,
        'batch_size_per_gpu': min(user['batch_size_per_gpu'], BATCH),
        'dataset_enlarge_ratio': 100,
    }
    if user.get('retain'):
        data['retain'] = {name: _retain(source) for name, source in user['retain'].items()}
    return data


def _retain(source):
    keys = ('weight', 'target', *(('from', 'degradation') if source.get('from') == 'forget' else ()))
    return {key: source[key] for key in keys if key in source}


def _train(user, iterations, level):
    train = {key: deepcopy(value) for key, value in user.items() if key not in ('amp', 'compile', 'oracle_cost')}
    train['stop'] = {**(train.get('stop') or {}), 'max_cost_share': None}
    method = train['method']
    if method.get('task', 'degradation') != 'degradation' and train['stop'].get('forget_psnr_below', 0) is not None:
        train['stop']['forget_psnr_below'] = level['psnr']  # toys have no held-out pairs
    if method.get('proxies'):
        method['proxies'] = {name: _proxy(source) for name, source in method_options(method).proxies.items()}
    for section in (method, method.get('host') or {}):
        if section.get('forget_target') == 'reference':  # toys have none, but were trained without turns
            section.update(forget_target='mirror', mirror='horizontal')
        if section.get('forget_target') == 'region':  # nor regions: as the task says
            del section['forget_target']
        loss = section.get('forget_opt') or {}
        if isinstance(loss.get('bound'), (int, float)):
            loss['bound'] = level['mse' if loss.get('criterion') == 'MSE' else 'l1']
    _shorten(train, iterations)
    return train


def _proxy(source):
    degradation = source.get('degradation') or {'type': 'gaussian_noise', 'sigma': 25}
    return {'scenes': 100, 'cache': True, 'weight': source.get('weight', 1), 'degradation': degradation}


def _shorten(train, iterations):
    """Cut a run to so many iterations, and what is counted in iterations with it."""
    share = iterations / train['total_iter']
    if share >= 1:
        return

    def scaled(number):
        return max(1, round(number * share))

    train['total_iter'] = iterations
    if train.get('warmup_iter', -1) > 0:
        train['warmup_iter'] = scaled(train['warmup_iter'])
    if 'every' in train['stop']:
        train['stop']['every'] = scaled(train['stop']['every'])
    for key in ('periods', 'milestones', 'restarts'):
        if key in train['scheduler']:
            train['scheduler'][key] = [scaled(number) for number in train['scheduler'][key]]
