"""The states of all generators that a run may draw from: torch, its GPUs, numpy, Python."""

import random

import numpy as np
import torch


def collect():
    """Return the states, made of tensors, numbers and strings."""
    name, keys, *rest = np.random.get_state()
    return {
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all(),
        'numpy': [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        'python': random.getstate(),
    }


def restore(states):
    """Take back what `collect` gave."""
    torch.set_rng_state(states['torch'].cpu())
    if len(states['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states['cuda']])
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states['python']
    random.setstate((version, tuple(numbers), gauss))
