"""The attack and what it aims at: values, and that the attacked network stays as it is."""

from types import SimpleNamespace

import pytest
import torch
from conftest import make_net

from basicsr_unlearn.archs.nafnet_arch import NAFNet
from basicsr_unlearn.attacks.pgd import pgd, rms
from basicsr_unlearn.attacks.targets import TARGETS, degradation_code, error
from basicsr_unlearn.checkpoint import fingerprint
from basicsr_unlearn.errors import InputError

EPS = 8 / 255


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def images(number=3, size=16, seed=1):
    return torch.rand(number, 3, size, size, generator=random(seed))


def asked(net):
    """Return a run that asks a network as the original."""

    def ask(batch):
        with torch.no_grad():
            return net(batch)

    return SimpleNamespace(original=net, ask_original=ask, differentiable_original=net)


def size_of(change, norm):
    return rms(change).flatten() if norm == 'l2' else change.abs().flatten(1).amax(1)


@pytest.mark.parametrize('norm', ['l2', 'linf'])
@pytest.mark.parametrize('steps', [1, 4])
def test_stays_in_the_ball_and_in_range(norm, steps):
    x = images()
    x[0], x[1] = 0.0, 1.0  # where every second direction leads out of the range
    direction = torch.randn(x.shape, generator=random(2))
    attacked = pgd(x, lambda a, _: (a * direction).flatten(1).sum(1), random(), norm, EPS, steps)
    assert attacked.min() >= 0 and attacked.max() <= 1 and not attacked.requires_grad
    assert (size_of(attacked - x, norm) <= EPS * (1 + 1e-5)).all() and (attacked != x).flatten(1).any(1).all()


@pytest.mark.parametrize('norm', ['l2', 'linf'])
def test_finds_the_optimum_of_a_linear_objective(norm):
    x = torch.full((2, 3, 16, 16), 0.5)
    direction = torch.randn(x.shape, generator=random(2))
    change = pgd(x, lambda a, _: (a * direction).flatten(1).sum(1), random(), norm, EPS, 8) - x
    if norm == 'linf':
        torch.testing.assert_close(change, EPS * direction.sign())
    else:
        assert size_of(change, norm).tolist() == pytest.approx([EPS, EPS], rel=1e-4)
        assert (torch.cosine_similarity(change.flatten(1), direction.flatten(1)) > 0.97).all()


@pytest.mark.parametrize('norm', ['l2', 'linf'])
def test_the_start_is_random_and_inside(norm):
    starts = []

    def objective(attacked, given):
        starts.append((attacked - given).detach())
        return attacked.flatten(1).sum(1)

    x = torch.full((64, 3, 8, 8), 0.5)
    first = pgd(x, objective, random(), norm, EPS, 1)
    assert (size_of(starts[0], norm) <= EPS * (1 + 1e-5)).all()
    assert size_of(starts[0], norm).mean() == pytest.approx(EPS * (0.5 if norm == 'l2' else 0.995), rel=0.2)
    assert torch.equal(first, pgd(x, objective, random(), norm, EPS, 1))
    assert torch.equal(starts[0], starts[1])
    pgd(x, objective, random(1), norm, EPS, 1)
    assert not torch.equal(starts[0], starts[2])


def test_no_gradient_no_step():
    x = images()
    flat = pgd(x, lambda a, _: 0 * a.flatten(1).sum(1), random(), 'l2', EPS, 3)
    assert flat.isfinite().all() and (size_of(flat - x, 'l2') <= EPS).all()


def test_unknown_norm():
    with pytest.raises(InputError, match='pgd: norm: l1 is unknown'):
        pgd(images(), None, random(), 'l1')


@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize('kind', TARGETS)
def test_every_target_is_climbed_and_the_net_left_alone(kind, frozen):
    net = make_net().eval().requires_grad_(not frozen)
    before, x = fingerprint(net.state_dict()), images(2, 32)
    run = asked(net)
    target = TARGETS[kind](run, x, images(2, 32, 3))
    probe = (x + 0.01 * images(2, 32, 4)).requires_grad_()
    (gradient,) = torch.autograd.grad(target(probe, x).sum(), probe)
    assert (gradient.flatten(1).abs().amax(1) > 0).all() and gradient.isfinite().all()
    attacked = pgd(x, target, random(), 'l2', EPS, 4)
    with torch.no_grad():
        assert (target(attacked, x) > target(x, x)).all()
        answers = run.ask_original(attacked)
    assert target.reached(attacked, answers, 0.0).all()
    assert fingerprint(net.state_dict()) == before and all(p.grad is None for p in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_what_identity_counts_as_reached():
    """A net that adds 0.1: PSNR(f(x), x) is 20 dB anywhere; answers nearer to the example count by the margin."""
    x = torch.full((3, 3, 8, 8), 0.5)
    target = TARGETS['identity'](asked(lambda batch: batch + 0.1), x)
    answers = x + torch.tensor([0.01, 0.05, 0.2]).view(3, 1, 1, 1)  # 40, 26 and 14 dB
    assert target.reached(x, answers, 0.0).tolist() == [True, True, False]
    assert target.reached(x, answers, 10.0).tolist() == [True, False, False]
    assert target(x, x).tolist() == pytest.approx([-0.01] * 3)


def test_untargeted_by_values():
    x = torch.full((2, 3, 8, 8), 0.5)
    target = TARGETS['untargeted'](asked(lambda batch: 2 * batch), x)
    assert target(x, x).tolist() == [0, 0] and target(x + 0.1, x).tolist() == pytest.approx([0.04] * 2)
    assert target.reached(x, x, 99.0).tolist() == [True, True]


def test_degradation_codes():
    net, x = make_net(), images(2, 32)
    with degradation_code(net) as code:
        net(x)
    assert [tuple(part.shape) for part in code] == [(2, 5)] * 3
    assert all(part.sum(1).tolist() == pytest.approx([1, 1]) for part in code)
    net = NAFNet(width=8, enc_blk_nums=[1, 1], middle_blk_num=1, dec_blk_nums=[1, 1])
    with degradation_code(net) as code:
        net(x)
    assert [tuple(part.shape) for part in code] == [(2, 64)]
    with (
        pytest.raises(InputError, match='Conv2d has no prompts.*Choose identity'),
        degradation_code(torch.nn.Conv2d(3, 3, 1)),
    ):
        pass


def test_error_is_of_each_pair():
    assert error(torch.zeros(2, 3, 4, 4), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)).tolist() == [
        1,
        4,
    ]
