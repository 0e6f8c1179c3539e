"""Optimizer and scheduler of a section `train`, which BasicSR builds only after it has made its folders."""

from inspect import signature

import torch

from basicsr.models import lr_scheduler
from basicsr_unlearn import compat, options
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.option_tables import check_values

NUMBERS = dict.fromkeys(('lr', 'weight_decay', 'momentum', 'gamma', 'eta_min'), 'number')
SCHEDULERS = {
    'MultiStepLR': lr_scheduler.MultiStepRestartLR,
    'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
    'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR,
}


def build(train):
    """Build optimizer and scheduler for one drawn weight, and look at the learning rate of the last iteration.

    Args:
        train (dict): The section. Never changed.

    Returns:
        tuple: The optimizer, the scheduler.

    Raises:
        InputError: An unknown type or key, or values that they refuse, such as periods that end before `total_iter`.
    """
    optimizer = _build(train, 'optim_g', {kind: getattr(torch.optim, kind) for kind in compat.OPTIMIZERS})
    return optimizer, _build(train, 'scheduler', SCHEDULERS, optimizer)


def _build(train, option, kinds, optimizer=None):
    section = dict(train[option])
    kind = section.pop('type', None)
    options.check_choice(f'train: {option}: type', kind, list(kinds))
    known = [name for name in signature(kinds[kind]).parameters if name not in ('params', 'optimizer', 'last_epoch')]
    options.check_keys(f'train: {option}', section, known)
    check_values(f'train: {option}', section, NUMBERS)
    try:
        if optimizer is None:
            return kinds[kind]([torch.nn.Parameter(torch.zeros(1))], **section)
        scheduler = kinds[kind](optimizer, **section)
        if sum(section.get('periods', [])) < int(train['total_iter']) - 1 and 'periods' in section:
            raise ValueError(f'the sum of periods: {section["periods"]} must be at least total_iter')
        scheduler.last_epoch = int(train['total_iter']) - 1
        if not all(isinstance(rate, float) for rate in scheduler.get_lr()):
            raise ValueError('the learning rate is no number')
        return scheduler
    except Exception as error:  # torch and BasicSR complain in their own ways
        reason = ' '.join(str(error).split()) or type(error).__name__
        over = '' if optimizer is None else f' over total_iter: {train["total_iter"]}'
        raise InputError(f'train: {option}: {kind} does not work{over}: {reason}') from None
