"""The look at a network before a run: its options, and whether the weights that the run will load fit it."""

from functools import partial
from os import path as osp

from basicsr_unlearn import checkpoint, full_disk, manifest, options
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class, method_options
from basicsr_unlearn.network import build_network_g
from basicsr_unlearn.stop_options import stop_options


def check_network(opt):
    """Build network_g and try the weights that the run will load."""
    net = build_network_g(opt.get('network_g'))
    for test in weight_tests(opt, net).values():
        test()
    if opt['path'].get('experiments_root'):
        full_disk.check_room(opt['path']['experiments_root'], net)


def weight_tests(opt, net):
    """Return `{name: function}`: the tests of what a run will load into network_g, each raises InputError by itself."""
    path, section = opt['path'], (opt.get('train') or {}).get('method')
    unlearning = opt['model_type'] == 'UnlearnModel' and opt['is_train']
    tests = {}
    if path.get('resume_state'):
        tests['path: resume_state'] = lambda: _check_state(path['resume_state'])
    if unlearning:
        tests['modules of the method'] = lambda: method_class(section).modules(method_options(section), net)
    for name in ['original', 'oracle', 'reference'] if unlearning else ['g']:
        resuming = name == 'g' and (opt.get('auto_resume') or path.get('resume_state'))
        if path.get(f'pretrain_network_{name}') and not resuming:
            option = 'path: pretrain_network_' + ('g' if name == 'original' else name)
            tests[option] = partial(_check_weights, opt, net, name, option)
    if unlearning:
        tests['train: oracle_cost'] = lambda: _check_cost(opt)
    return tests


def _check_state(state):
    if not osp.isfile(state):
        raise InputError(f'path: resume_state: {state}: no such file.')


def _check_weights(opt, net, name, option):
    path = opt['path']
    weights, strict = (
        path[f'pretrain_network_{name}'],
        name in ('oracle', 'reference') or path.get('strict_load_g', True),
    )
    resuming = opt.get('auto_resume') or path.get('resume_state')
    options.check_outside(option, weights, None if resuming else path.get('experiments_root'))
    loaded = checkpoint.load_into(net, weights, option, path.get(f'param_key_{name}', 'params'), strict)
    manifest.read_entry(weights)
    return loaded


def _check_cost(opt):
    cost = manifest.oracle_cost(opt)
    if stop_options(opt['train']).max_cost_share and not cost:
        raise InputError(
            'train: stop: max_cost_share: the cost of the oracle is not known. Set train: oracle_cost: iterations x '
            'images of an iteration x 3.'
        )
