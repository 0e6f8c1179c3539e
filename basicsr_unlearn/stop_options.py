"""The options of the stop rule."""

import dataclasses
import re

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import from_section


@dataclasses.dataclass
class StopOptions:
    """`train: stop:`. Probes are patches cut from the training pairs, the same for the whole run."""

    forget_psnr_below: object = 'input+0.2'  # dB, or input+X: X dB above the degraded probes; ~: never stop for this
    retain_budget: float | None = 0.5  # dB that any retain probe may lose; ~: no limit
    every: int = 10  # iterations between two looks at the probes
    patience: int = 0  # looks to go on after the forget level is met, in search of better retain probes
    probes: int = 8  # patches of each source
    gradient_limit: float = 1000.0  # diverged: times the largest gradient norm of the first ten iterations; ~: no limit
    max_cost_share: float = None  # end when this share of the oracle's training cost is spent; ~: no limit


def stop_options(train):
    """Return the checked StopOptions of a section `train`.

    Raises:
        InputError: Also for a task other than degradation without a level of its own: there, `input` is no goal.
    """
    stop = from_section(StopOptions, train.get('stop') or {}, 'train: stop')
    for key in ('every', 'probes'):
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
    level_in_db(stop.forget_psnr_below, 0.0)
    task = train['method'].get('task', 'degradation')
    if task != 'degradation' and isinstance(stop.forget_psnr_below, str):
        raise InputError(
            f'train: stop: forget_psnr_below: {stop.forget_psnr_below} is the goal of task: degradation. '
            f'For task: {task} give a number: the PSNR (dB) on such pairs that were never trained on.'
        )
    return stop


def level_in_db(value, input_psnr):
    """Return the forget level in dB that `forget_psnr_below` means when the degraded probes are at `input_psnr`."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    match = re.fullmatch(r'input\s*([+-]\s*\d+(?:\.\d*)?)?', str(value))
    if not match:
        raise InputError(f'train: stop: forget_psnr_below: {value} must be a number (dB), input, input+X or ~.')
    return input_psnr + float((match[1] or '0').replace(' ', ''))
