import logging
from types import SimpleNamespace

import pytest
import torch

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import Batch, build_method


class Doubler(torch.nn.Module):
    """A net whose answers are known: twice the input, by one weight; counts its forwards."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.forwards = 0

    def forward(self, *images):
        self.forwards += 1
        return [self.weight * image for image in images]


def constant(value):
    return torch.full((2, 3, 4, 4), value)


BATCH = Batch(constant(0.3), constant(0.4), constant(0.2), constant(0.5))  # answers 0.6 and 0.4


def losses(kind, batch=BATCH, **options):
    net = Doubler()
    run = SimpleNamespace(net=net, forward=net, device='cpu', logger=logging.getLogger('test'))
    found = build_method({'type': kind, **options}, run).losses(batch)
    assert net.forwards == 1
    sum(found.values()).backward()
    return {name: pytest.approx(value.item(), abs=1e-6) for name, value in found.items()}, net.weight.grad.item()


def test_fine_tune_sees_the_retain_set_only():
    assert losses('FineTune') == ({'l_retain': 0.1}, pytest.approx(-0.2))


def test_gradient_ascent():
    plain = {'forget_opt': {'type': 'AscentLoss', 'bound': 'none'}}
    assert losses('GradientAscent', **plain) == ({'l_forget': -0.2}, pytest.approx(-0.3))  # ascent: the weight grows
    # the answer (error 0.2) is already farther from the clean image than the input (0.1): nothing to do
    assert losses('GradientAscent') == ({'l_forget': 0.0}, 0.0)


def test_neg_grad_adds_descent_on_the_retain_set():
    forget = {'type': 'AscentLoss', 'bound': 0.5}
    value, gradient = losses('NegGrad', forget_opt=forget, forget_weight=2.0, retain_weight=3.0)
    assert value == {'l_forget': 0.6, 'l_retain': 0.3}
    assert gradient == pytest.approx(-2 * 0.3 - 3 * 0.2)


def test_identity_target_never_looks_at_clean_forget_images():
    value, gradient = losses('IdentityTarget')
    assert value == {'l_forget': 0.3, 'l_retain': 0.1}
    assert gradient == pytest.approx(0.3 - 0.2)
    blind = Batch(BATCH.forget_lq, torch.full((2, 3, 4, 4), float('nan')), BATCH.retain_lq, BATCH.retain_gt)
    assert losses('IdentityTarget', blind)[0] == value


@pytest.mark.parametrize('kind', ['NegGrad', 'IdentityTarget'])
def test_retain_free(kind):
    assert list(losses(kind, Batch(BATCH.forget_lq, BATCH.forget_gt))[0]) == ['l_forget']


@pytest.mark.parametrize(
    'section, words',
    [
        ({'type': 'NegGrid'}, 'Did you mean NegGrad'),
        ({'type': 'NegGrad', 'forgetweight': 1}, 'Did you mean forget_weight'),
        ({'type': 'NegGrad', 'forget_weight': '1e-1'}, 'must be of type float'),
    ],
)
def test_bad_sections(section, words):
    with pytest.raises(InputError, match=words):
        build_method(section, None)
