"""Interdegradation confusion: is the damage undone when exactly the wrong training pairs are forgotten?"""

from dataclasses import dataclass

import numpy as np

from basicsr_unlearn.audits import toy
from basicsr_unlearn.audits.toy_options import adapt
from basicsr_unlearn.errors import InputError

KINDS = toy.KINDS
KINDS_OF_PAIRS = {'haze': {'type': 'haze'}, 'rain': {'type': 'rain'}}
LEAST_DAMAGE = 0.3  # dB; below it `undone` is noise


@dataclass
class ConfusionSettings:
    """What the toy is trained on."""

    pairs: int = 32  # right ones of each degradation
    wrong: int = 48  # wrong ones of each: most of what is taught, so that the damage is real
    tests: int = 48  # right ones of each that it never sees
    steps: int = 400  # of a training
    iterations: int = 300  # of the unlearning at most
    seed: int = 0


def confusion(pool, tree, settings):
    """Plant wrong pairs in the training of the toy, forget exactly those, and see what comes back.

    Source: Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning (arXiv 2201.06640), who exchange
    the labels of two classes. Its twin, ours: hazy images are taught the clean images of rainy ones and the other way
    round. The wrong pairs are the forget set, the right ones the retain set, the method is the user's. The oracle is
    the toy trained without the wrong pairs, with the same seed.

    It needs neither the user's data nor the user's oracle.

    Args:
        pool (Pool): Does the work; knows KINDS.
        tree (dict): The user's option tree, of which `toy_options.adapt` says what is used. Never changed.
        settings (ConfusionSettings): As above.

    Returns:
        dict: `degradations`: for `haze` and `rain` what `undone` gives; `stopped_by`. Where the method cannot run
        `{'missing': reason}`.
    """
    sets = _sets(settings)
    names = {'confused': [*KINDS_OF_PAIRS, *_wrong()], 'oracle': list(KINDS_OF_PAIRS)}
    how, end = (settings.steps, settings.seed), f's{settings.seed}'
    confused, clean = (
        toy.training_job(pool, f'confusion-{name}-{end}', sets, dict.fromkeys(chosen), *how)
        for name, chosen in names.items()
    )
    trained = pool.run([confused, clean], 'toys with and without wrong pairs')
    before, oracle = trained[confused['key']], trained[clean['key']]
    level = {key: float(np.mean([oracle[key][name] for name in _wrong()])) for key in ('psnr', 'l1', 'mse')}
    adapted = adapt(tree, settings.iterations, settings.seed, level)
    job = toy.unlearning_job(confused, before, f'confusion-unlearned-{end}', _wrong(), adapted)
    try:
        after = pool.run([job], 'unlearning of the wrong pairs')[job['key']]
    except InputError as error:
        return {'missing': f'the method does not run on the toy: {error}'}
    means = {
        kind: [float(np.mean(net['psnr'][f'test_{kind}'])) for net in (before, after, oracle)]
        for kind in KINDS_OF_PAIRS
    }
    return {
        'degradations': {kind: undone(*values) for kind, values in means.items()},
        'stopped_by': after['stopped_by'],
    }


def undone(before, after, oracle):
    """Return the PSNRs (dB) of right test pairs and the share of the damage that was undone.

    Returns:
        dict: `before`, `after`, `oracle`, `damage` (oracle - before) and `undone`, (after - before) / damage: 1 is all,
        0 nothing, below 0 more damage; None with a `remark` where there was too little damage.
    """
    damage = oracle - before
    found = {'before': before, 'after': after, 'oracle': oracle, 'damage': damage}
    if damage < LEAST_DAMAGE:
        remark = f'not informative: the wrong pairs cost {damage:.2f} dB, less than {LEAST_DAMAGE}'
        return {**found, 'undone': None, 'remark': remark}
    return {**found, 'undone': (after - before) / damage}


def _wrong():
    return [f'wrong_{kind}' for kind in KINDS_OF_PAIRS]


def _sets(settings):
    sets = {}
    for place, (kind, degradation) in enumerate(KINDS_OF_PAIRS.items()):
        for group, number, first in (
            ('', settings.pairs, 0),
            ('test_', settings.tests, 2),
            ('wrong_', settings.wrong, 4),
        ):
            section = {'scenes': number, 'first_scene': 10000 * (first + place), 'degradation': degradation}
            sets[f'{group}{kind}'] = section
    first, second = (sets[name] for name in _wrong())
    first['answers'], second['answers'] = second['first_scene'], first['first_scene']
    return sets
