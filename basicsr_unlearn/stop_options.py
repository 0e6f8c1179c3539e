"""The options of the stop rule."""

import dataclasses
import re

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import from_section


@dataclasses.dataclass
class StopOptions:
    """`train: stop:`. Probes are patches cut from the training pairs, the same for the whole run."""

    forget_psnr_below: object = 'input+0.2'  # or heldout, of other tasks; +X: dB above; a number: dB; ~: off
    retain_budget: float | None = 0.5  # dB that any retain probe may lose; ~: no limit
    every: int = 10  # iterations between two looks at the probes
    patience: int = 0  # looks to go on after the forget level is met, in search of better retain probes
    probes: int = 8  # patches of each source
    heldout_probes: int = 128  # patches of the forget set and of `datasets: train: heldout`, where that is the goal
    gradient_limit: float = 1000.0  # diverged: times the largest gradient norm of the first ten iterations; ~: no limit
    max_cost_share: float = None  # end before more than this share of the oracle's training cost is spent; ~: no limit


def stop_options(train):
    """Return the checked StopOptions of a section `train`.

    Raises:
        InputError: Also for a task other than degradation with the goal `input`, which is that of a degradation.
    """
    task, section = train['method'].get('task', 'degradation'), train.get('stop') or {}
    usual = {} if task == 'degradation' else {'forget_psnr_below': 'heldout'}
    stop = from_section(StopOptions, {**usual, **section}, 'train: stop')
    for key in ('every', 'probes', 'heldout_probes'):
        if not getattr(stop, key) or getattr(stop, key) < 1:
            raise InputError(f'train: stop: {key}: {getattr(stop, key)} must be a positive whole number.')
    if stop.retain_budget is not None and stop.retain_budget <= 0:
        raise InputError(f'train: stop: retain_budget: {stop.retain_budget} must be positive (dB), or ~ for no limit.')
    if stop.max_cost_share is not None and stop.max_cost_share <= 0:
        raise InputError(
            f'train: stop: max_cost_share: {stop.max_cost_share} must be positive, for example 0.01, or ~.'
        )
    if stop.gradient_limit is not None and stop.gradient_limit <= 1:
        raise InputError(f'train: stop: gradient_limit: {stop.gradient_limit} must be above 1, for example 1000, or ~.')
    goal = goal_of(stop)
    if (goal == 'input' and task != 'degradation') or (goal == 'heldout' and task == 'degradation'):
        other = {'input': 'heldout', 'heldout': 'input+0.2'}[goal]
        raise InputError(
            f'train: stop: forget_psnr_below: {stop.forget_psnr_below} is no goal of task: {task}. Set {other}, or a '
            'number (dB), or ~.'
        )
    return stop


def goal_of(stop):
    """Return what the goal of StopOptions is measured by: `input`, `heldout`, `number`, or None."""
    value = stop.forget_psnr_below
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return None if value is None else 'number'
    return _parse(value)[1]


def level_in_db(value, points):
    """Return the forget level in dB that `forget_psnr_below` means.

    Args:
        value (str | float | None): Of the option.
        points (dict): `input`: PSNR of the degraded probes; `heldout`: how much easier the forget probes are than those
            of held-out pairs. dB.
    """
    if not isinstance(value, str):
        return value
    match = _parse(value)
    return points[match[1]] + float((match[2] or '0').replace(' ', ''))


def _parse(value):
    match = re.fullmatch(r'(input|heldout)\s*([+-]\s*\d+(?:\.\d*)?)?', str(value))
    if not match:
        raise InputError(
            f'train: stop: forget_psnr_below: {value} must be input, input+X, heldout, heldout+X, a number (dB) or ~.'
        )
    return match
