"""Building the network of a section `network_g`, which BasicSR does without looking at the keys."""

import os
from functools import partial
from inspect import signature

import torch

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn import options
from basicsr_unlearn.errors import InputError

LARGEST = 20_000  # number among the arguments


def build_network_g(section):
    """Build the network of a section `network_g`, which BasicSR does without looking at the keys.

    Args:
        section (dict): `type` and the arguments. Never changed.

    Raises:
        InputError: An unknown type, an unknown argument, or arguments that the network refuses.
    """
    section = dict(section or {})
    kind = section.pop('type', None)
    options.check_choice('network_g: type', kind, [name for name, _ in ARCH_REGISTRY])
    cls = ARCH_REGISTRY.get(kind)
    if not any(p.kind is p.VAR_KEYWORD for p in signature(cls).parameters.values()):
        options.check_keys('network_g', section, list(signature(cls).parameters))
    _check_counts('network_g', section)
    _check_memory(kind, partial(cls, **section))
    try:
        return cls(**section)
    except Exception as error:  # networks of other packages complain in their own ways
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(f'network_g: {kind}: {reason}') from None


def _check_counts(option, value):
    """Raise InputError for a number that would build a network without end."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(entry, (dict, list)):
            _check_counts(f'{option}: {key}', entry)
        elif isinstance(entry, (int, float)) and abs(entry) > LARGEST:
            raise InputError(f'{option}: {key}: {entry} is beyond any network: at most {LARGEST}.')


def _check_memory(kind, build):
    """Raise InputError for a network that is larger than this machine; on the meta device weights take no memory."""
    try:
        with torch.device('meta'):
            size = sum(weight.numel() * weight.element_size() for weight in build().parameters())
    except Exception:  # not every network can be built so; building it in earnest says what is wrong
        return
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if size > memory:
        raise InputError(f'network_g: {kind}: its weights take {size >> 30} GiB, this machine has {memory >> 30}.')
