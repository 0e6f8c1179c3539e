"""InfluenceUpdate: its solvers, its equations by hand, and what a run with it moves."""

import pytest
import torch
from conftest import latest, summary
from test_rivals import FakeRun, Scale, constant
from torch import nn

from basicsr_unlearn.errors import Diverged, InputError
from basicsr_unlearn.methods import Batch, build_method, method_options
from basicsr_unlearn.methods.curvature import (
    conjugate_gradient,
    flat,
    gauss_newton_product,
    hessian_product,
    lissa,
    step_along,
)


class OrderedRun(FakeRun):
    """Gives the same batches to every pass, and notes what was asked for."""

    def batches(self, images, title, with_retain=True, first=0):
        self.asked = [*getattr(self, 'asked', []), (title, first, images)]
        for batch in self.given:
            yield batch if with_retain else Batch(batch.forget_lq, batch.forget_gt, forget_region=batch.forget_region)


def build(net, batches, **options):
    return build_method({'type': 'InfluenceUpdate', **options}, OrderedRun(net, batches))


def quadratic(size=6, largest=4.0):
    """Return a symmetric H with eigenvalues from 0 to `largest`, and a g."""
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0]
    hessian = basis @ torch.diag(torch.linspace(0, largest, size, dtype=torch.float64)) @ basis.T
    return hessian, torch.randn(size, dtype=torch.float64)


def solution(hessian, gradient, damping):
    return torch.linalg.solve(hessian + damping * torch.eye(len(gradient), dtype=torch.float64), gradient)


# --- solvers ---


@pytest.mark.parametrize('damping, scale', [(0.05, 4.0), (0.3, 2.5), (0.01, 40.0)])
def test_lissa_finds_its_fixed_point(damping, scale):
    hessian, gradient = quadratic()
    found = lissa(lambda vector: hessian @ vector, gradient, damping, scale, 4000, 4000)
    assert torch.allclose(found, solution(hessian, gradient, damping * scale), rtol=1e-9, atol=1e-12)


def test_lissa_by_hand():
    """g = 2, H = 3, d = 0.1, s = 6: u = 2; 2 + 0.9 * 2 - 3 * 2 / 6 = 2.8; 2 + 0.9 * 2.8 - 1.4 = 3.12; divided by 6."""
    found = lissa(lambda vector: 3 * vector, torch.tensor([2.0]), 0.1, 6.0, 2, 5)
    assert found.item() == pytest.approx(3.12 / 6)


def test_lissa_stops_when_the_change_falls_no_more():
    asked = []

    def noisy(vector):
        asked.append(0.5 + 0.4 * (-1) ** len(asked))
        return asked[-1] * vector

    lissa(noisy, torch.ones(3), 0.01, 1.0, 1000, 5)
    assert 5 < len(asked) < 50


@pytest.mark.parametrize('scale', [0.5, 1.5])
def test_lissa_that_grows_is_refused(scale):
    """Half the largest eigenvalue is 2: below that the recursion grows, whether its numbers stay finite or not."""
    hessian, gradient = quadratic()
    for patience in (10, 10_000):
        with pytest.raises(Diverged) as fault:
            lissa(lambda vector: hessian @ vector, gradient, 0.001, scale, 10_000, patience)
        assert 'does not settle' in fault.value.args[0] and 'method: scale or damping' in fault.value.args[1]


@pytest.mark.parametrize('damping', [0.01, 1.0])
def test_conjugate_gradients(damping):
    hessian, gradient = quadratic()
    found = conjugate_gradient(lambda vector: hessian @ vector, gradient, damping, 6, tolerance=0.0)
    assert torch.allclose(found, solution(hessian, gradient, damping), rtol=1e-8)
    once = conjugate_gradient(lambda vector: hessian @ vector, gradient, damping, 1)
    damped = hessian @ gradient + damping * gradient
    assert torch.allclose(once, gradient * gradient.dot(gradient) / gradient.dot(damped))  # the steepest descent


def test_conjugate_gradients_that_are_not_finite():
    with pytest.raises(Diverged, match='not finite'):
        conjugate_gradient(lambda vector: vector * float('nan'), torch.ones(2), 0.1, 3)


# --- products ---


def charbonnier(pred, target):
    return ((pred - target).square() + 1e-2).sqrt().mean()


def small_net():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, 1, 1), nn.Tanh(), nn.Conv2d(2, 3, 1)).double()
    weights = list(net.parameters())
    images, target = torch.rand(2, 2, 3, 5, 5, dtype=torch.float64)

    def answer(vector):
        parts = vector.split([weight.numel() for weight in weights])
        named = {n: p.view(w.shape) for (n, w), p in zip(net.named_parameters(), parts, strict=True)}
        return torch.func.functional_call(net, named, (images,))

    return net, weights, images, target, answer


def test_products_are_those_of_autograd():
    net, weights, images, target, answer = small_net()
    theta = flat(weights).detach()
    jacobian = torch.autograd.functional.jacobian(lambda t: answer(t).flatten(), theta)
    output = answer(theta).flatten()
    curvature = torch.autograd.functional.hessian(lambda out: charbonnier(out, target.flatten()), output)
    gauss_newton = jacobian.T @ curvature @ jacobian
    hessian = torch.autograd.functional.hessian(lambda t: charbonnier(answer(t), target), theta)
    for vector in torch.randn(3, len(theta), dtype=torch.float64):
        found = gauss_newton_product(net(images), lambda out: charbonnier(out, target), weights, vector)
        assert torch.allclose(found, gauss_newton @ vector, rtol=1e-8, atol=1e-12)
        found = hessian_product(charbonnier(net(images), target), weights, vector)
        assert torch.allclose(found, hessian @ vector, rtol=1e-8, atol=1e-12)
    assert torch.linalg.eigvalsh(gauss_newton).min() > -1e-9 > torch.linalg.eigvalsh(hessian).min()


def test_a_step_has_its_length():
    weights = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]  # |theta| = 5
    step_along(weights, torch.tensor([0.0, 2.0, 0.0]), 0.1)
    assert weights[0].tolist() == [3.0, -0.5] and weights[1].tolist() == [[4.0]]


# --- the update by hand ---

MSE = {'type': 'MSELoss'}
PAIR = Batch(constant(0.5), constant(0.8), constant(0.2), constant(0.4))


@pytest.mark.parametrize('weight, gradient', [(1.0, 0.3), (0.0, 0.5), (2.0, 0.1)])
def test_first_order(weight, gradient):
    """f(x) = 2 x = 1: d (f - 0.5)^2 = 2 * 0.5 * 0.5 = 0.5, d (f - 0.8)^2 = 2 * 0.2 * 0.5 = 0.2."""
    net = Scale()
    method = build(net, [PAIR], forget_opt=MSE, forget_weight=weight, tau=0.01)
    assert method.measure_gradient(list(net.parameters())).item() == pytest.approx(gradient)
    assert method.losses(PAIR) == {} and not method.uses_retain
    method.edit_weights()
    assert net.weight.item() == pytest.approx(2 - 0.01 * 2)
    assert method.run.cost == 2 * 3 * 2  # two measurements of two images


def test_the_way_ends_where_answers_lie_beyond_the_correction():
    """f(x) = 0.8 x lies beyond x, away from the clean image: both halves of G point alike."""
    net = Scale(0.8)
    method = build(net, [PAIR], forget_opt={'type': 'L1Loss'})
    method.edit_weights()
    assert method.done and net.weight.item() == pytest.approx(0.8)
    assert method.state_dict() == {'updates': 0, 'finished': True}


def test_every_update_sees_other_images():
    method = build(Scale(), [PAIR], images=4, order='gauss_newton', curvature_images=2)
    method.edit_weights()
    method.edit_weights()
    assert method.run.asked == [('gradient', 0, 4), ('curvature', 0, 2), ('gradient', 4, 8), ('curvature', 4, 6)]
    assert method.state_dict() == {'updates': 2, 'finished': False}


class TwoScales(nn.Module):
    """Multiplies the first two channels by one weight, the third by another."""

    def __init__(self):
        super().__init__()
        self.refinement = nn.ParameterList([nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))])

    def forward(self, image):
        one, two = self.refinement
        return image * torch.stack([one, one, two]).view(3, 1, 1)


@pytest.mark.parametrize('order, steps', [('lissa', 60), ('gauss_newton', 2)])
def test_second_order(order, steps):
    """The net is linear and the loss a square: both are (H + lambda I)^-1 G with H = 2 / 3 (2 a, a), a = E x^2."""
    net = TwoScales()
    options = {'forget_opt': MSE, 'retain_opt': MSE, 'retain_weight': 3.0, 'damping': 0.2, 'scale': 2.0}
    method = build(net, [PAIR], order=order, steps=steps, patience=steps, tau=0.1, **options)
    weights = list(net.parameters())
    gradient = torch.tensor([(0.5 - 0.2) * 2 / 3, (1.0 - 0.7) / 3])  # of 2 and 3 times 0.5, as in test_first_order
    assert torch.allclose(method.measure_gradient(weights), gradient)
    square = 0.5**2 + 3 * 0.2**2
    expected = gradient / (2 / 3 * torch.tensor([2 * square, square]) + 0.2)
    assert torch.allclose(method.solve(weights, gradient), expected, rtol=1e-4)
    method.edit_weights()
    moved = torch.tensor([2.0, 3.0]) - 0.1 * 13**0.5 * expected / expected.norm()
    assert torch.allclose(flat(weights), moved, atol=1e-4)
    alone = build(TwoScales(), [Batch(PAIR.forget_lq, PAIR.forget_gt)], order='gauss_newton', **options)
    expected = gradient / (2 / 3 * torch.tensor([2 * 0.25, 0.25]) + 0.2)
    assert torch.allclose(alone.solve(list(alone.run.net.parameters()), gradient), expected, rtol=1e-4)


# --- options ---


@pytest.mark.parametrize(
    'options, words',
    [
        ({'order': 'second'}, 'order: second'),
        ({'tau': 0.0}, 'tau: 0.0 must be a positive number'),
        ({'order': 'lissa', 'retain_opt': {'type': 'L1Loss'}}, 'no curvature.*CharbonnierLoss, eps: 1e-3'),
        ({'order': 'gauss_newton', 'retain_opt': {'type': 'CharbonnierLoss'}}, 'no curvature'),
        ({'order': 'lissa', 'scale': 0.0}, 'scale: 0.0'),
        ({'forget_target': 'region', 'beyond': 0.1}, 'beyond: 0.1'),
        ({'forget_target': 'region', 'region_fill': 'gray'}, 'Did you mean grey'),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        method_options({'type': 'InfluenceUpdate', **options})


def test_the_first_order_needs_no_curvature():
    for section in ({'type': 'L1Loss'}, {'type': 'MSELoss'}):
        assert method_options({'type': 'InfluenceUpdate', 'retain_opt': section}).retain_opt == section


# --- runs ---


def influence(options, **more):
    options['train'].update(method={'type': 'InfluenceUpdate', 'images': 4, **more}, total_iter=2)
    options['train']['stop'].update(every=1, probes=1)
    options['logger']['use_tb_logger'] = False
    del options['datasets']['val_noise']
    return options


@pytest.mark.parametrize(
    'section', [{'order': 'lissa', 'steps': 3, 'scale': 1e4}, {'order': 'gauss_newton', 'layers': ['output']}]
)
def test_named_layers_alone_move(options, run, weights, section):
    status, home = run(influence(options, curvature_images=2, **section))
    before, after = torch.load(weights)['params'], latest(home)
    moved = {key.split('.')[0] for key in after if not torch.equal(after[key], before[key])}
    assert status == 0 and moved == set(section.get('layers', ['output', 'refinement']))
    way = torch.cat([(after[key] - before[key]).flatten() for key in after]).norm()
    size = torch.cat([before[key].flatten() for key in before if key.split('.')[0] in moved]).norm()
    assert 0 < way <= 2 * 1e-4 * size * 1.01
    assert len(list((home / 'experiments/tiny').glob('train_*.log'))) == 1  # no check may start the log before


@pytest.mark.parametrize(
    'name, words', [('ending', 'ending matches no module'), ('down1_2.body.1', 'down1_2.body.1 has no weights')]
)
def test_layers_that_cannot_move(options, run, capsys, name, words):
    status, home = run(influence(options, layers=[name]))
    error = capsys.readouterr().err
    assert status == 2 and 'train: method: layers: ' in error and words in error
    assert list(home.iterdir()) == []


def test_a_scale_that_is_too_small_ends_the_run_with_the_last_good_weights(options, run, weights, capsys):
    status, home = run(influence(options, order='lissa', scale=1e-6, curvature_images=2))
    assert status == 3
    assert (
        'LiSSA does not settle at iteration 1. The weights of iteration 0 are saved. Raise' in capsys.readouterr().err
    )
    assert summary(home)['stopped_by'] == 'diverged'
    before = torch.load(weights)['params']
    assert all(torch.equal(value, before[key]) for key, value in latest(home).items())
