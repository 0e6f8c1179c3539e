"""The perturbation and what pulls at it, by values and gradients; the losses on perturbed images."""

import pytest
import torch
from conftest import summary
from test_rivals import BATCH, Scale, build, constant, random_batch, short, two_layers, values
from torch.nn import functional as F

from basicsr_unlearn.attacks.pgd import rms
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.losses.transport import transport_cost
from basicsr_unlearn.methods import Batch, method_options
from basicsr_unlearn.methods.feature_distancing import embedding

BOTH = {'feature_layers': ['0', '1']}


def method_with(net=None, **options):
    return build('FeatureDistancing', net or two_layers(), **{**BOTH, **options})


def moments(feature):
    return torch.cat([feature.mean((2, 3)), (feature.var((2, 3), correction=0) + 1e-8).sqrt()], 1)


def gradient(method, images, answers, forget):
    images = images.clone().requires_grad_()
    return torch.autograd.grad(method.objective(images, answers, forget), images)[0]


def test_embedding():
    features = {'a': torch.rand(3, 4, 8, 8), 'b': 100 * torch.rand(3, 2, 4, 4)}
    found = embedding(features)
    assert found.shape == (3, 2 * (4 + 2))
    expected = torch.cat([F.normalize(moments(features[name]), dim=1) for name in 'ab'], 1) / 2**0.5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embedding({'a': features['a']}), embedding({'a': 7 * features['a']}))


def test_objective_by_hand():
    """The mean of the cosine distances over the taps, transported, less the task loss."""
    method, batch = method_with(task_weight=3.0, reg=0.5), random_batch(3)
    net = method.run.net
    cost = 0
    for tap in (net[0], net):
        one, other = moments(tap(batch.retain_lq)), moments(tap(batch.forget_lq))
        cost = cost + (1 - F.cosine_similarity(one[:, None], other[None], dim=2)) / 2
    expected = transport_cost(cost, 0.5) - 3 * (net(batch.retain_lq) - batch.retain_gt).abs().mean()
    found = method.objective(batch.retain_lq, batch.retain_gt, method.embed_forget(batch.forget_lq))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert method.run.cost == 3 + 2 * 3


def test_each_term_pulls_at_the_perturbation():
    """Regression of the released program, whose transport did not depend on the perturbation; with none yet, too."""
    batch = random_batch(3)
    for perturbed in (batch.retain_lq, (batch.retain_lq + 0.01 * torch.randn_like(batch.retain_lq)).clamp(0, 1)):
        transport, both = (method_with(task_weight=weight) for weight in (0.0, 1.0))
        forget = transport.embed_forget(batch.forget_lq)
        far, all_ = (gradient(method, perturbed, batch.retain_gt, forget) for method in (transport, both))
        images = perturbed.clone().requires_grad_()
        loss = (both.run.net(images) - batch.retain_gt).abs().mean()
        (task,) = torch.autograd.grad(loss, images)
        assert (rms(far) > 1e-6).all() and (rms(task) > 1e-6).all()
        torch.testing.assert_close(all_, far - task)


def test_the_original_pulls_back_as_soon_as_there_is_a_perturbation():
    """y_r is the answer to the image without it: at f = f_0 the task term is least there, and the transport begins."""
    method, batch = method_with(task_weight=0.5), random_batch(3)
    answers, forget = method.run.ask_original(batch.retain_lq), method.embed_forget(batch.forget_lq)
    alone = method_with(task_weight=0.0)
    noise = 0.01 * torch.randn_like(batch.retain_lq)
    for change, pulls in ((0 * noise, False), (noise, True)):
        found, far = (gradient(one, batch.retain_lq + change, answers, forget) for one in (method, alone))
        assert (rms(far) > 1e-6).all() and ((rms(found - far) > 1e-6) == pulls).all()


def test_the_perturbation_leads_away_from_the_forget_features():
    batch, found = random_batch(4), []
    for weight in (0.0, 10.0):
        method = method_with(task_weight=weight, eps_rms=0.05, steps=6)
        batch.retain_gt = method.run.ask_original(batch.retain_lq)
        forget = method.embed_forget(batch.forget_lq)
        perturbed = method.perturb(batch)
        noise = torch.randn_like(perturbed)
        noisy = (batch.retain_lq + 0.05 * noise / rms(noise)).clamp(0, 1)
        alone = method_with(task_weight=0.0)
        distances = [
            alone.objective(images, batch.retain_gt, forget).item() for images in (perturbed, noisy, batch.retain_lq)
        ]
        found.append((distances[0], (method.run.net(perturbed) - batch.retain_gt).abs().mean().item()))
        if not weight:
            assert distances[0] > 1.1 * max(distances[1:])
    assert found[0][0] > found[1][0] and found[0][1] > 1.1 * found[1][1]  # mu trades the one for the other


@pytest.mark.parametrize('eps', [4 / 255, 0.5])
def test_stays_in_the_ball_and_in_range(eps):
    batch = random_batch(3)
    batch.retain_lq[0], batch.retain_lq[1] = 0.0, 1.0
    images, method = batch.retain_lq.clone(), method_with(eps_rms=eps)
    found = method.perturb(batch)
    assert found.min() >= 0 and found.max() <= 1 and (rms(found - images) <= eps * (1 + 1e-5)).all()
    assert (rms(found - images) > 0.1 * min(eps, 0.1)).all() and not found.requires_grad
    assert all(weight.grad is None for weight in method.run.net.parameters())


def test_each_process_climbs_the_transport_of_the_whole_batch():
    batch, method = random_batch(4), method_with(task_weight=2.0)
    forget = method.embed_forget(batch.forget_lq)
    whole = gradient(method, batch.retain_lq, batch.retain_gt, forget)
    net = method.run.net
    of_all = embedding({'0': net[0](batch.retain_lq), '1': net(batch.retain_lq)}).detach()
    for rank in (0, 1):
        own = slice(2 * rank, 2 * rank + 2)
        part = method_with(task_weight=2.0)
        part.run.rank, part.run.world_size, part.run.gather = rank, 2, lambda values: of_all
        found = gradient(part, batch.retain_lq[own], batch.retain_gt[own], forget)
        torch.testing.assert_close(found, whole[own], atol=1e-8, rtol=1e-3)
        part.embed_forget = lambda images: forget
        part.objective = lambda perturbed, *_: perturbed.flatten(1).sum(1)  # the starts alone
        part.run.gather = method.run.gather
        method.objective = part.objective
        mine = Batch(*[images[own] for images in (batch.forget_lq, batch.forget_gt, batch.retain_lq, batch.retain_gt)])
        torch.testing.assert_close(part.perturb(mine), method.perturb(batch)[own])


def test_losses():
    """Twice the input: the forget images are 0.3 from theirs; the perturbed retain images keep the answer 0.5."""
    method = method_with(Scale(), feature_layers=[''], eps_rms=0.01, forget_weight=2.0, retain_weight=3.0)
    batch = Batch(*[images.clone() for images in (BATCH.forget_lq, BATCH.forget_gt, BATCH.retain_lq, BATCH.retain_gt)])
    given = batch.retain_lq.clone()
    expected = method.perturb(batch)
    found = method.losses(batch)
    assert torch.equal(batch.retain_lq, expected) and not torch.equal(expected, given)
    assert values(found) == {'l_forget': 2 * 0.3, 'l_retain': 3 * (2 * expected - 0.5).abs().mean().item()}
    (slope,) = torch.autograd.grad(found['l_retain'], method.run.net.weight)
    assert slope.item() == pytest.approx(-3 * expected.mean().item(), rel=1e-5)
    batch = Batch(constant(0.3), constant(0.4), constant(0.2), constant(0.5))
    assert list(method_with(Scale(), feature_layers=[''], forget_weight=0.0).losses(batch)) == ['l_retain']


def test_starts_go_on_where_they_were():
    method, batch = method_with(), random_batch()
    images = batch.retain_lq
    method.losses(batch)
    again = method_with()
    again.load_state_dict(method.state_dict())
    batch.retain_lq = images
    found = method.perturb(batch)
    assert torch.equal(again.perturb(batch), found) and not torch.equal(method_with().perturb(batch), found)


@pytest.mark.parametrize(
    'options, words',
    [
        ({'steps': 0}, 'steps: 0 must be a positive number'),
        ({'eps_rms': 0.0}, 'eps_rms: 0.0 must be a positive number'),
        ({'reg': 0.0}, 'reg: 0.0 must be a positive number'),
        ({'task_weight': -1.0}, 'task_weight: -1.0 must be at least 0'),
        ({'forget_target': 'mirrored'}, 'Did you mean mirror'),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=f'train: method: .*{words}'):
        method_options({'type': 'FeatureDistancing', **options})


def test_no_forget_term_asks_for_no_target():
    """Else `task: instance` would be refused a mirror that nobody looks into."""
    options = {'type': 'FeatureDistancing', 'task': 'instance'}
    assert method_options(options).forget_target == 'mirror'
    assert method_options({**options, 'forget_weight': 0.0}).forget_target is None


def test_cost_of_a_run(options, run):
    tree = short(options, {'type': 'FeatureDistancing', 'steps': 2})
    tree['datasets']['train']['retain']['rain']['target'] = 'gt'
    status, home = run(tree)
    assert status == 0
    # for each pair of images: features of the forget image, two steps, the training step on both; one look at 2 probes
    assert summary(home)['cost'] == 4 * 2 * (1 + 2 * 2 + 6) + 2 * 2
