"""A run that goes on from a state ends with the bits of the run that was never stopped: every method, any iteration."""

import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import latest, summary
from test_distributed import OTHERS, QUICK
from torch import nn

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.methods import METHOD_REGISTRY
from basicsr_unlearn.models import random_states

METHODS = {
    **QUICK,
    **OTHERS,
    'ascent': {'type': 'GradientAscent'},
    'identity': {'type': 'IdentityTarget'},
    'mirror': {'type': 'MirrorTarget'},
    'fine_tune': {'type': 'FineTune'},
    'sparse': {'type': 'L1Sparse', 'decay_steps': 4},
    'retraining': {'type': 'BudgetedRetraining'},
    'teacher': {'type': 'BadTeacher'},
}
EVERY = ('deep', 'cache', 'scrub')  # resumed at every iteration, the others at one


def make_short(options, section):
    if section['type'] == 'MirrorTarget':
        options['datasets']['train'].update(use_hflip=False, use_rot=False)
    options['train'].update(
        method=deepcopy(section), total_iter=5, scheduler={'type': 'MultiStepLR', 'milestones': [2]}
    )
    options['train']['stop'] = {'forget_psnr_below': None, 'retain_budget': None, 'every': 2, 'probes': 1}
    options['datasets']['train']['retain']['rain']['target'] = 'gt'
    options['logger'].update(save_checkpoint_freq=1, use_tb_logger=False)
    del options['datasets']['val_noise']
    return options


def resume_at(options, run, iteration):
    options['path']['resume_state'] = f'experiments/tiny/training_states/{iteration}.state'
    status, home = run(options)
    assert status == 0
    return latest(home), summary(home)


def are_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_all_methods_are_here():
    ours = {name for name, cls in METHOD_REGISTRY if cls.__module__.startswith('basicsr_unlearn.')}
    assert {section['type'] for section in METHODS.values()} == ours


@pytest.mark.parametrize('name', METHODS)
def test_every_method_goes_on_to_the_same_bits(options, run, name):
    make_short(options, METHODS[name])
    if METHODS[name].get('craft') == 'cache':
        options['train']['method']['keep_cache'] = True
    status, home = run(options)
    whole, facts = latest(home), summary(home)
    assert status == 0
    saved = sorted(int(path.stem) for path in (home / 'experiments/tiny/training_states').iterdir())
    assert saved == ([] if name == 'one_shot' else [1, 2, 3, 4, 5])  # one shot, and the run is over
    for iteration in saved if name in EVERY else saved[list(METHODS).index(name) % 4 :][:1]:
        weights, found = resume_at(options, run, iteration)
        assert are_equal(weights, whole), (name, iteration)
        assert (found['sets'], found['cost'], found['stopped_by']) == (
            facts['sets'],
            facts['cost'],
            facts['stopped_by'],
        )


@pytest.mark.parametrize('workers', [0, 1])
def test_networks_that_draw_random_numbers(options, run, workers):
    """Dropout draws from torch's own generator; epochs of one iteration begin between any two states."""

    class Drops(nn.Module):
        def __init__(self, width=8):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, 3, 3, 1, 1)

        def forward(self, image):
            noise = torch.empty(1).uniform_() + float(np.random.rand()) + random.random() if self.training else 0
            return image + self.last(nn.functional.dropout(self.first(image), 0.5, self.training)) * (1 + noise)

    torch.save({'params': Drops().state_dict()}, 'drops.pth')
    ARCH_REGISTRY.register(Drops)
    try:
        make_short(options, {'type': 'NegGrad'})
        options['network_g'] = {'type': 'Drops'}
        options['path']['pretrain_network_g'] = 'drops.pth'
        options['datasets']['train'].update(batch_size_per_gpu=4, num_worker_per_gpu=workers)
        _, home = run(options)
        whole = latest(home)
        assert all(are_equal(resume_at(options, run, iteration)[0], whole) for iteration in (1, 4))
    finally:
        del ARCH_REGISTRY._obj_map['Drops']


def test_random_states():
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    states = random_states.collect()

    def draw():
        return (
            torch.rand(3).tolist(),
            np.random.rand(3).tolist(),
            np.random.randn(),
            random.random(),
            random.gauss(0, 1),
        )

    before = draw()
    assert draw() != before
    random_states.restore(states)
    assert draw() == before


def test_half_written_files_are_removed_on_resume(options, run):
    make_short(options, {'type': 'NegGrad'})
    _, home = run(options)
    folder = home / 'experiments/tiny'
    for name in ('models/net_g_5.pth.123.tmp', 'training_states/5.state.9.tmp', 'unlearn_summary.json.77.tmp'):
        (folder / name).write_bytes(b'half')
    (folder / 'models/mine.tmp').write_bytes(b'of the user')
    resume_at(options, run, 3)
    assert [path.name for path in folder.rglob('*.tmp')] == ['mine.tmp']
