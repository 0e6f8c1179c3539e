"""The smoothing of the residual by values and gradients, and its draws."""

import pytest
import torch
from conftest import summary
from test_rivals import BATCH, Scale, TwoWeights, build, channels, constant, short, two_layers, values
from torch import nn

from basicsr_unlearn.attacks.examples import generator
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import Batch, method_options

ISOTROPIC = {'isotropic_weight': 1.0, 'directional_weight': 0.0}
EACH = [ISOTROPIC, {'isotropic_weight': 0.0, 'directional_weight': 1.0}]
PAIR = Batch(constant(0.3), constant(0.4))


def method_with(net=None, **options):
    return build('LipschitzZeroShot', net or Scale(), **options)


def asked(method):
    """Return the list that will hold the perturbed images."""
    ask, seen = method.run.ask, []
    method.run.ask = lambda images: seen.append(images) or ask(images)
    return seen


def slope(method, batch, term):
    (found,) = torch.autograd.grad(method.losses(batch)[term], method.run.net.weight)
    return found.item()


@pytest.mark.parametrize('options', EACH)
def test_a_network_that_adds_nothing(options):
    """f(x) = x has no residual; smoothing f itself would have 1 here, and take the image away."""
    method = method_with(Scale(1.0), **options)
    found = sum(method.losses(PAIR).values())
    assert found.item() < 1e-6
    found.backward()
    assert torch.isfinite(method.run.net.weight.grad)
    net = nn.Identity()
    net.weight = nn.Parameter(torch.zeros(()))
    found = method_with(net, **options).losses(PAIR)
    assert [value.item() for value in found.values()] == [0.0]


@pytest.mark.parametrize('weight', [2.0, 0.25])
def test_values_of_a_linear_net(weight):
    """R(x) = (w - 1) x: K is |w - 1| whatever the perturbation."""
    method = method_with(Scale(weight), isotropic_weight=3.0, directional_weight=5.0, samples=2)
    change = abs(weight - 1)
    assert values(method.losses(BATCH)) == {
        'l_isotropic': pytest.approx(3 * change, rel=1e-4),
        'l_directional': pytest.approx(5 * change, rel=1e-4),
    }


def test_the_gradient_flows_through_the_clean_output_alone():
    """d |(w - 1) x - c| / dw = x (x - x') / |x - x'|, which is not 1 as it would be through both."""
    t = 0.05 + 0.95 * torch.rand((2, 1, 1, 1), generator=generator(method_with().run, 0))
    expected = (0.3 * -0.1 * t / (0.1 * t) ** 2).mean().item()
    assert slope(method_with(samples=1), PAIR, 'l_directional') == pytest.approx(expected, rel=1e-4)

    noise = torch.randn((2, 3, 4, 4), generator=generator(method_with().run, 0)) * 0.01
    expected = (-0.3 * noise.flatten(1).sum(1) / noise.square().flatten(1).sum(1)).mean().item()
    method = method_with(samples=1, sigma=0.01, **ISOTROPIC)
    assert slope(method, PAIR, 'l_isotropic') == pytest.approx(expected, rel=1e-3)


def test_the_direction_of_the_degradation():
    """y differs from x in the second channel, and the residual lies in the first: nothing to smooth on that way."""
    batch = Batch(channels(0.4, 0.3, 0.2), channels(0.4, 0.5, 0.2))
    found = method_with(TwoWeights(0.5, 0.0), isotropic_weight=1.0).losses(batch)
    assert found['l_directional'].item() < 1e-5 and found['l_isotropic'].item() > 0.1
    assert values(method_with(TwoWeights(0.0, 0.5)).losses(batch))['l_directional'] == pytest.approx(0.5, rel=1e-4)


def test_a_pair_without_degradation():
    method = method_with()
    found = method.losses(Batch(constant(0.4), constant(0.4)))['l_directional']
    found.backward()
    assert found.item() == 0.0 and torch.isfinite(method.run.net.weight.grad)


def test_perturbations():
    images, clean = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1)).unbind()
    images[0], images[1] = 0.0, 1.0
    method = method_with(samples=5, sigma=0.02, **ISOTROPIC)
    seen = asked(method)
    method.losses(Batch(images, clean))
    noise = torch.stack(seen)[:, 2:] - images[2:]
    inside = (images[2:] > 0.1) & (images[2:] < 0.9)
    assert noise[:, inside].std().item() == pytest.approx(0.02, rel=0.05)
    assert len(seen) == 5 and torch.stack(seen).min() == 0 and torch.stack(seen).max() == 1  # cut to the range

    method = method_with(samples=50)
    seen = asked(method)
    method.losses(Batch(images, clean))
    way, t = clean - images, []
    for moved in seen:
        t.append(((moved - images) * way).flatten(1).sum(1) / way.square().flatten(1).sum(1))
        torch.testing.assert_close(moved, images + t[-1].view(-1, 1, 1, 1) * way)
    t = torch.stack(t)
    assert t.min() >= 0.0499 and t.max() <= 1 and t.min() < 0.1 and t.max() > 0.95
    assert t.mean().item() == pytest.approx(0.525, abs=0.05)


def test_a_part_of_a_batch_has_the_draws_of_the_whole():
    images = torch.rand(4, 3, 4, 4)
    options = {'isotropic_weight': 1.0, 'directional_weight': 1.0, 'samples': 2}
    whole, part = method_with(**options), method_with(**options)
    all_, own = asked(whole), asked(part)
    for _ in range(2):
        whole.losses(Batch(images, 1 - images))
        part.losses(Batch(images[2:], 1 - images[2:], whole=4, first=2))
    assert len(all_) == 8
    for one, other in zip(all_, own, strict=True):
        assert torch.equal(one[2:], other)
    again = method_with(**options)
    again.load_state_dict(part.state_dict())
    more = asked(again)
    part.losses(Batch(images, images)), again.losses(Batch(images, images))
    assert all(torch.equal(one, other) for one, other in zip(own[8:], more, strict=True))
    assert not torch.equal(own[0], own[4]) and len(more) == 4


def test_dropout_is_no_part_of_the_slope():
    net = nn.Sequential(nn.Dropout(0.5), two_layers()).train()
    found = method_with(net, **ISOTROPIC).losses(PAIR)['l_isotropic']
    assert found.item() == method_with(two_layers(), **ISOTROPIC).losses(PAIR)['l_isotropic'].item()


def test_the_anchor_by_values():
    method = method_with(Scale(1.5), anchor_weight=4.0)
    assert values(method.losses(PAIR))['l_anchor'] == 0.0
    with torch.no_grad():
        method.run.net.weight.fill_(2.0)
    found = method.losses(PAIR)['l_anchor']
    assert found.item() == pytest.approx(4 / 2 * 0.5**2)
    found.backward()
    assert method.run.net.weight.grad.item() == pytest.approx(4 * 0.5)


def test_the_task_chooses_the_perturbation():
    kinds = {task: list(method_with(task=task).losses(PAIR)) for task in ('degradation', 'source', 'instance')}
    assert kinds == {'degradation': ['l_directional'], 'source': ['l_directional'], 'instance': ['l_isotropic']}
    assert not method_with().uses_retain


@pytest.mark.parametrize(
    'options, words',
    [
        ({'samples': 0}, 'samples: 0 must be a positive number'),
        ({'sigma': 0.0}, 'sigma: 0.0 must be a positive number'),
        ({'anchor_weight': -1.0}, 'anchor_weight: -1.0 must be at least 0'),
        ({'directional_weight': 0.0}, 'isotropic_weight: 0.0 leaves nothing to do .* Raise one'),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=f'train: method: {words}'):
        method_options({'type': 'LipschitzZeroShot', **options})


def test_cost_of_a_run(options, run):
    section = {'type': 'LipschitzZeroShot', 'samples': 3, 'isotropic_weight': 1.0, 'anchor_weight': 1.0}
    status, home = run(short(options, section))
    assert status == 0
    assert summary(home)['cost'] == 4 * 2 * (3 + 2 * 3) + 2 * 2  # one look at 2 probes
