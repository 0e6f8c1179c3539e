"""The state that a run goes on from, looked at before the run writes anything."""

import os
import re
from inspect import signature
from os import path as osp

import torch

from basicsr_unlearn import checkpoint, optimization
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class, method_options
from basicsr_unlearn.network import build_network_g
from basicsr_unlearn.options import OUR_MODELS

OPTION = 'path: resume_state'
ENTRIES = {'epoch': int, 'iter': int, 'optimizers': list, 'schedulers': list}
REMEDY = 'Take the option file of that run, or another state.'
DECOUPLED = 'decoupled_weight_decay'  # tells AdamW from Adam
FLAGS = {'params', 'initial_lr', 'foreach', 'fused', 'capturable', 'differentiable', 'maximize', DECOUPLED}


def check_names(opt):
    """Raise InputError for a file that `--auto_resume` would stumble over, or a state that does not exist."""
    folder, state = osp.join('experiments', opt['name'], 'training_states'), opt['path'].get('resume_state')
    if opt['auto_resume']:
        names = [name for name in os.listdir(folder) if name.endswith('state')] if osp.isdir(folder) else []
        for name in names:
            if not re.fullmatch(r'[0-9]+\.state|\..*', name):
                raise InputError(f'--auto_resume: {folder}/{name} is not the state of an iteration. Move it away.')
    elif state and not osp.isfile(state):
        raise InputError(f'{OPTION}: {state}: no such file.')


def read_state(load, path, map_location=None):
    """Read a state of BasicSR or of ours without running code from it.

    Args:
        load (callable): torch.load.
        path (str): The file.
        map_location: As for torch.load; without a GPU, the CPU.

    Raises:
        InputError: The file holds code, is damaged, or is no state.
    """
    location = map_location if torch.cuda.is_available() else 'cpu'
    try:
        state = load(path, map_location=location, weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader
        code = re.search(r'GLOBAL (\S+)', str(error))
        reason = f'holds {code[1]}, and reading that would run code' if code else 'is damaged or no state at all'
        raise InputError(f'{OPTION}: {path}: {reason}. Take another state.') from None
    fits = isinstance(state, dict) and all(isinstance(state.get(key), kind) for key, kind in ENTRIES.items())
    if not fits or state['iter'] < 1 or state['epoch'] < 0:
        raise InputError(f'{OPTION}: {path}: is no state of a training: it lacks {", ".join(ENTRIES)}.')
    return state


def check(opt, state):
    """Compare a state with the options that go on from it: network, method, optimizer, scheduler.

    Args:
        opt (dict): What `parse_options` returns, with the weights beside the state in `pretrain_network_g`.
        state (dict): As `read_state` gives it.

    Raises:
        InputError: One line that says what differs.
    """
    if opt['model_type'] not in OUR_MODELS:
        return
    name, own = f'{OPTION}: {opt["path"]["resume_state"]}', state.get('unlearn')
    if isinstance(own, dict) != (opt['model_type'] == 'UnlearnModel'):
        raise InputError(f'{name}: is not that of a run with model_type: {opt["model_type"]}. {REMEDY}')
    if own and own.get('type', opt['train']['method']['type']) != opt['train']['method']['type']:
        raise InputError(f'{name}: is that of a run with method: type: {own["type"]}. {REMEDY}')
    net = build_network_g(opt['network_g'])
    path = opt['path']
    if path.get('pretrain_network_g'):
        key = path.get('param_key_g', 'params')
        checkpoint.load_into(net, path['pretrain_network_g'], OPTION, key, path.get('strict_load_g', True))
    if own:
        section = opt['train']['method']
        method_class(section).adapt(method_options(section), net)
    _check_optimizer(name, opt['train'], state, [tuple(weight.shape) for weight in net.parameters()])


def _check_optimizer(name, train, state, shapes):
    optimizer, scheduler = optimization.build(train)
    ours = optimizer.param_groups[0]
    try:
        (saved,), (schedule,) = state['optimizers'], state['schedulers']
        theirs, moments = saved['param_groups'][0], saved['state']
        found = [list(moments[key].values()) for key in sorted(moments)]
        missing = set(vars(scheduler)) & set(signature(type(scheduler)).parameters) - set(schedule)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        raise InputError(f'{name}: holds no optimizer and scheduler of BasicSR. {REMEDY}') from None
    decoupled = ours.get(DECOUPLED)
    if set(ours) - FLAGS != set(theirs) - FLAGS or theirs.get(DECOUPLED, decoupled) != decoupled:
        raise InputError(f'{name}: is that of a run with another optimizer than {train["optim_g"]["type"]}. {REMEDY}')
    if missing - {'optimizer', 'last_epoch'}:
        raise InputError(f'{name}: is that of a run with another scheduler than {train["scheduler"]["type"]}. {REMEDY}')
    shapes = iter(shapes)
    for values in found:  # the weights that move are some of the network's, in its order
        own = {tuple(value.shape) for value in values if isinstance(value, torch.Tensor) and value.dim()}
        if own and not any(own == {shape} for shape in shapes):
            raise InputError(f'{name}: is that of a run with another network_g. {REMEDY}')
