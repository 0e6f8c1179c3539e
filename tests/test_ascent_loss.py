import pytest
import torch

from basicsr.losses import build_loss
from basicsr_unlearn.errors import InputError

GT = torch.full((2, 3, 4, 4), 0.5)
LQ = torch.stack([torch.full((3, 4, 4), 0.9), torch.full((3, 4, 4), 0.6)])  # L1 to GT: 0.4 and 0.1
PRED = torch.stack([torch.full((3, 4, 4), 0.6), torch.full((3, 4, 4), 0.8)])  # L1 to GT: 0.1 and 0.3


def loss(**options):
    return build_loss({'type': 'AscentLoss', **options})


def test_bound_input_is_a_hinge_per_image():
    each = loss(reduction='none')(PRED, GT, LQ)
    assert torch.allclose(each, torch.tensor([0.3, 0.0]))  # the second image is past its bound: no gradient, no credit
    assert torch.allclose(loss()(PRED, GT, LQ), torch.tensor(0.15))
    assert torch.allclose(loss(reduction='sum', loss_weight=2.0)(PRED, GT, LQ), torch.tensor(0.6))


def test_number_and_none():
    assert torch.allclose(loss(bound=0.2, reduction='none')(PRED, GT), torch.tensor([0.1, 0.0]))
    assert torch.allclose(loss(bound='none', reduction='none')(PRED, GT), torch.tensor([-0.1, -0.3]))


@pytest.mark.parametrize('criterion, value', [('MSE', 0.16 - 0.01), ('Charbonnier', 0.3)])
def test_criteria(criterion, value):
    assert float(loss(criterion=criterion, reduction='none')(PRED, GT, LQ)[0]) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize('bound', ['input', 0.35, 'none'])
def test_descent_on_the_loss_raises_the_error(bound):
    pred = PRED.clone().requires_grad_()
    criterion = loss(bound=bound)
    before = (pred - GT).abs().mean()
    for _ in range(5):
        (gradient,) = torch.autograd.grad(criterion(pred, GT, LQ), pred)
        pred = (pred - 0.5 * gradient).detach().requires_grad_()
    assert (pred - GT).abs().mean() > before


def test_the_bound_is_where_ascent_ends():
    pred = PRED.clone().requires_grad_()
    optimizer = torch.optim.SGD([pred], 1.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss()(pred, GT, LQ).backward()
        optimizer.step()
    error = (pred - GT).abs().flatten(1).mean(1)
    assert error[0].item() == pytest.approx(0.4, abs=0.02)
    assert error[1].item() == pytest.approx(0.3, abs=1e-6)  # was past its bound from the start: untouched


def test_bound_unseen_is_the_error_of_one_that_never_saw_the_pair():
    each = loss(bound='unseen', reduction='none')(PRED, GT, unseen=GT + 0.25)
    assert torch.allclose(each, torch.tensor([0.15, 0.0]))
    with pytest.raises(ValueError, match='bound: unseen needs images'):
        loss(bound='unseen')(PRED, GT, PRED)


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match=r'loss\(pred, gt, lq, unseen\)'):
        loss()(PRED, GT)
    for options in ({'bound': 'output'}, {'bound': -1}, {'criterion': 'L3'}, {'reduction': 'max'}):
        with pytest.raises(InputError, match='Choose'):
            loss(**options)
