"""The relearning attack: does a little fine-tuning bring back what was forgotten?"""

import re
from copy import deepcopy

import numpy as np
import torch

from basicsr_unlearn.errors import InputError

LOOKS = (0, 1, 2, 5, 10, 20, 40, 70, 100, 150, 200, 300, 500, 700, 1000)  # steps; the first ones decide


def relearn(net, draw, measure, steps, lr, scope=('.*',), adapt=None):
    """Fine-tune a copy of a network on data of the forgotten kind, and measure it on the way.

    Source: the relearn time of Golatkar et al., Eternal Sunshine of the Spotless Net (CVPR 2020), as a curve. Adam at
    a constant learning rate on the L1 loss; ours.

    Args:
        net (nn.Module): Restorer; left as it is.
        draw (callable): Step (from 0) to a batch `(lq, gt)`, each (N, 3, H, W) in [0, 1], on the device of `net`.
        measure (callable): Network to the number to follow, for example the mean PSNR in dB.
        steps (int): Steps of the attack.
        lr (float): Learning rate.
        scope (sequence[str]): Regular expressions; the attacker may move the parameters whose names begin with a match.
            Default: all.
        adapt (callable): Changes the copy before that, for example adds adapters (lora.py). Default: None.

    Returns:
        dict: `{step: value}` at those of LOOKS that are below `steps`, and at `steps`.

    Raises:
        InputError: An expression matches no parameter.
    """
    net = deepcopy(net).train()
    if adapt:
        adapt(net)
    chosen = _choose(net, scope)
    optimizer = torch.optim.Adam(chosen, lr)
    curve = {}
    for step in range(steps + 1):
        if step in LOOKS or step == steps:
            curve[step] = measure(net)
        if step < steps:
            lq, gt = draw(step)
            optimizer.zero_grad(set_to_none=True)
            (net(lq) - gt).abs().mean().backward()
            optimizer.step()
    return curve


def _choose(net, scope):
    parameters = dict(net.named_parameters())
    for pattern in scope:
        if not any(re.match(pattern, name) for name in parameters):
            raise InputError(f'attack: scopes: {pattern} matches no parameter of {type(net).__name__}. Correct it.')
    for name, parameter in parameters.items():
        parameter.grad = None
        parameter.requires_grad_(any(re.match(pattern, name) for pattern in scope))
    return [parameter for parameter in parameters.values() if parameter.requires_grad]


def excess(curve, oracle, original, lead=1.0):
    """Return how much faster than the oracle a network relearns, and where that can be seen.

    E = mean over the steps k of max(0, curve@k - oracle@k), over those k from 1 on at which the original leads the
    oracle by at least `lead`. Between two looks the curves are straight lines.

    Args:
        curve, oracle, original (dict): What `relearn` gave for each, under one and the same attack.
        lead (float): dB. Default: 1.0.

    Returns:
        tuple: E in dB, and the number of such steps; `(None, 0)` where there is none: such an attack says nothing.
    """
    looks = sorted(oracle)
    steps = np.arange(1, looks[-1] + 1)
    ours, reference, before = (
        np.interp(steps, looks, [values[look] for look in looks]) for values in (curve, oracle, original)
    )
    window = before - reference >= lead
    if not window.any():
        return None, 0
    return float(np.maximum(ours - reference, 0)[window].mean()), int(window.sum())


def area(curve, oracle):
    """Return the mean lead of a curve over the oracle's from step 1 on, dB; below it where it is behind."""
    steps = np.arange(1, max(oracle) + 1)
    ours, reference = (np.interp(steps, sorted(c), [c[look] for look in sorted(c)]) for c in (curve, oracle))
    return float((ours - reference).mean())
