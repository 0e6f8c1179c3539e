import math

import pytest

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.stop_rule import StopRule
from basicsr_unlearn.stop_options import StopOptions, level_in_db, stop_options

ORIGINAL = {'forget': 20.0, 'retain/rain': 30.0, 'retain/noise': 28.0}


def run(states, **options):
    """Feed (forget, rain, noise) states 10 iterations apart; return why it stopped and which iteration is kept."""
    rule = StopRule(StopOptions(**options), {'input': 15.0}, ORIGINAL)
    for step, values in enumerate([(20.0, 30.0, 28.0), *states]):
        why = rule.judge(10 * step, dict(zip(ORIGINAL, values, strict=True)), lambda step=step: {'w': step})
        if why:
            break
    return why, rule.keep()['iter'], rule.keep()['weights']['w']


def test_stops_at_the_forget_level():
    assert run([(17, 30, 28), (15.2, 29.9, 28), (14, 30, 28)]) == ('forget_level', 20, 2)


def test_patience_finds_better_retain_probes():
    states = [(15.1, 29.6, 28), (15.0, 29.8, 28), (14.9, 29.9, 28), (14.9, 30, 28)]
    assert run(states, patience=2) == ('forget_level', 30, 3)
    # a state above the level does not count, however good its retain probes are
    assert run([(15.1, 29.6, 28), (15.5, 30, 28)], patience=1) == ('forget_level', 10, 1)


def test_retain_budget_goes_back_to_the_last_good_state():
    assert run([(18, 29.8, 28), (16, 29.4, 28)]) == ('retain_budget', 10, 1)
    assert run([(9, 20, 20)]) == ('retain_budget', 0, 0)  # the original: nothing was forgotten


def test_one_bad_probe_is_enough():
    assert run([(18, 35, 27.4)])[0] == 'retain_budget'
    assert run([(18, 35, 27.4)], retain_budget=None)[0] is None


def test_budget_after_the_level_was_met_keeps_the_best():
    assert run([(15, 29.8, 28), (15, 29.4, 28)], patience=5) == ('retain_budget', 10, 1)


def test_a_method_that_repairs_goes_on_but_leaves_nothing_beyond_the_budget():
    rule = StopRule(StopOptions(patience=9), {'input': 15.0}, ORIGINAL, repairs=True)
    states = [(20, 30, 28), (15, 20, 20), (15, 29.6, 28), (15, 29.8, 28), (15, 29.4, 28)]
    for step, values in enumerate(states):
        probes = dict(zip(ORIGINAL, values, strict=True))
        assert rule.judge(step, probes, lambda: {}) is None
    assert rule.keep()['iter'] == 3


def test_not_finite():
    assert run([(18, 30, 28), (math.nan, 30, 28)]) == ('diverged', 10, 1)
    assert run([(18, 30, math.inf)]) == ('diverged', 0, 0)


def test_state_survives():
    first = StopRule(StopOptions(patience=1), {'input': 15.0}, ORIGINAL)
    first.judge(10, {'forget': 15.0, 'retain/rain': 30.0, 'retain/noise': 28.0}, lambda: {'w': 1})
    second = StopRule(StopOptions(patience=1), {'input': 0.0}, {})
    second.load_state_dict(first.state_dict())
    assert (
        second.judge(20, {'forget': 15.0, 'retain/rain': 29.9, 'retain/noise': 28.0}, lambda: {'w': 2})
        == 'forget_level'
    )
    assert second.keep()['iter'] == 10


@pytest.mark.parametrize(
    'value, level',
    [
        ('input+0.2', 15.2),
        ('input', 15.0),
        ('input - 1', 14.0),
        (27.5, 27.5),
        (None, None),
        ('heldout', 1.5),
        ('heldout-0.5', 1.0),
    ],
)
def test_levels(value, level):
    assert level_in_db(value, {'input': 15.0, 'heldout': 1.5}) == level


def test_bad_levels():
    with pytest.raises(InputError, match='forget_psnr_below: output'):
        level_in_db('output+1', {'input': 15.0})
    with pytest.raises(InputError, match='input.0.2 is no goal of task: instance. Set heldout'):
        stop_options({'method': {'task': 'instance'}, 'stop': {'forget_psnr_below': 'input+0.2'}})
    with pytest.raises(InputError, match='heldout is no goal of task: degradation. Set input'):
        stop_options({'method': {}, 'stop': {'forget_psnr_below': 'heldout'}})


def test_the_usual_level_is_that_of_the_task():
    assert stop_options({'method': {}}).forget_psnr_below == 'input+0.2'
    assert stop_options({'method': {'task': 'instance'}}).forget_psnr_below == 'heldout'
    assert stop_options({'method': {'task': 'instance'}, 'stop': {'forget_psnr_below': 26}}).forget_psnr_below == 26


# forget, held-out, rain: forget probes are 0.5 dB easier, so the level is 0.5 dB above the held-out ones
PATHS = {
    'meets': ([(28, 25, 30), (26, 25.1, 30), (25.4, 25, 30)], 'forget_level', 30),  # gaps 2.5, 0.4, -0.1
    'nearer before': ([(28, 25, 30), (25.6, 25, 30), (24.5, 25, 30)], 'forget_level', 20),  # 2.5, 0.1, -1
    'not met': ([(28, 25, 30), (27, 25, 30)], None, 20),
    'held-out pairs suffer': ([(28, 25, 30), (24, 24.4, 30)], 'retain_budget', 10),
}


@pytest.mark.parametrize('path', PATHS)
def test_the_state_nearest_to_held_out_pairs_is_kept(path):
    states, why, kept = PATHS[path]
    names = ('forget', 'heldout', 'retain/rain')
    start = dict(zip(names, (32.0, 25.0, 30.0), strict=True))
    rule = StopRule(StopOptions(forget_psnr_below='heldout'), {'input': 15.0, 'heldout': 0.5}, start)
    assert rule.judge(0, start, lambda: {}) is None and rule.gap(start) == 6.5
    for step, values in enumerate(states, 1):
        found = rule.judge(10 * step, dict(zip(names, values, strict=True)), lambda: {})
        assert found is None or step == len(states)
    assert (found, rule.keep()['iter']) == (why, kept)
