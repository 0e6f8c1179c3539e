"""The defining equations of the baselines, and the faults that their published programs have had."""

import hashlib
import logging
from copy import deepcopy

import pytest
import torch
from conftest import latest, make_net
from test_distributed import PROXIES
from torch import nn

from basicsr_unlearn import checkpoint
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import METHOD_REGISTRY, Batch, build_method, method_options
from basicsr_unlearn.methods.blindspot import attention_map
from basicsr_unlearn.methods.random_target import noise_like
from basicsr_unlearn.methods.taps import ENCODER, find_modules, tapped
from basicsr_unlearn.models.run import Run
from basicsr_unlearn.models.unlearn_model import UnlearnModel


class Scale(nn.Module):
    """Multiplies the image by one weight."""

    def __init__(self, weight=2.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, image):
        return self.weight * image


class FakeRun:
    """The part of Run that the methods use, around any net."""

    def __init__(self, net, batches=(), fresh=None, batch_size=2):
        self.net, self.original, self.untrained = net, deepcopy(net).requires_grad_(False), fresh
        self.device, self.logger, self.cost, self.batch_size = 'cpu', logging.getLogger('test'), 0.0, batch_size
        self.given, self.rank, self.world_size, self.whole_batch, self.seed = batches, 0, 1, batch_size, 0

    average, total, gather = Run.average, Run.total, Run.gather

    def fresh(self):
        return deepcopy(self.untrained)

    def batches(self, images, title, with_retain=True):
        yield from self.given

    def ask(self, images):
        self.cost += len(images)
        with torch.no_grad():
            return self.net(images)

    def ask_original(self, images):
        with torch.no_grad():
            return self.original(images)

    def forward(self, *images):
        return self.net(torch.cat(images)).split([len(image) for image in images])


def build(kind, net, batches=(), fresh=None, **options):
    return build_method({'type': kind, **options}, FakeRun(net, batches, fresh))


def constant(value, number=2):
    return torch.full((number, 3, 4, 4), value)


def values(found):
    return {name: pytest.approx(value.item(), abs=1e-6) for name, value in found.items()}


def fingerprint(net):
    data = b''.join(value.detach().numpy().tobytes() for value in net.state_dict().values())
    return hashlib.sha256(data).hexdigest()


def random_batch(number=2, retain=None, size=16):
    images = [torch.rand(n, 3, size, size) for n in (number, number, retain or number, retain or number)]
    return Batch(*images)


BATCH = Batch(constant(0.3), constant(0.4), constant(0.2), constant(0.5))  # answers 0.6 and 0.4


# --- equations ---


def test_bad_teacher():
    method = build('BadTeacher', Scale(), fresh=Scale(1.5), forget_weight=2.0, retain_weight=3.0)
    method.setup()
    assert values(method.losses(BATCH)) == {'l_forget': 2 * 0.15, 'l_retain': 3 * 0.1}
    assert method.run.cost == 2


def test_attention_maps_have_length_one_and_ignore_scale():
    feature = torch.rand(2, 5, 4, 4)
    found = attention_map(feature)
    assert torch.allclose(found.norm(dim=1), torch.ones(2))
    assert torch.allclose(found, attention_map(3 * feature))
    by_hand = (feature[1] ** 2).mean(0).flatten()
    assert torch.allclose(found[1], by_hand / by_hand.norm())


def two_layers(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))


def test_blindspot():
    batches = [random_batch() for _ in range(3)]
    method = build('Blindspot', two_layers(), batches, two_layers(1), feature_layers=['0'], forget_weight=2.0)
    method.setup()
    assert method.run.cost == 3 * 3 * 2 and fingerprint(method.teacher) != fingerprint(two_layers(1))
    batch, net, teacher = random_batch(), method.run.net, method.teacher
    before = fingerprint(teacher)
    found = method.losses(batch)
    attention = (attention_map(net[0](batch.forget_lq)) - attention_map(teacher[0](batch.forget_lq))).square().mean()
    assert values(found) == {
        'l_forget': 2 * (net(batch.forget_lq) - teacher(batch.forget_lq)).abs().mean().item(),
        'l_attention': 2 * 50 * attention.item(),
        'l_retain': (net(batch.retain_lq) - batch.retain_gt).abs().mean().item(),
    }
    found['l_attention'].backward()
    assert net[0].weight.grad.abs().sum() > 0 and fingerprint(teacher) == before
    assert all(weight.grad is None for weight in teacher.parameters())


def test_scrub_phases():
    options = {'max_steps': 2, 'min_steps': 1, 'max_phases': 2, 'jitter': 0.0}
    method = build('Scrub', Scale(), **options)
    method.run.original = Scale(2.5)
    seen = [values(method.losses(BATCH)) for _ in range(8)]
    up = {'l_forget': 0.45 - 0.15}  # the original is 0.45 from its input, the student 0.15 from the original
    down = {'l_distill': 0.5 * 0.1, 'l_retain': 0.1}
    assert seen == [up, up, down, up, up, down, down, down]
    again = build('Scrub', Scale(), **options)
    again.load_state_dict(method.state_dict())
    assert again.step == 8


def test_scrub_has_somewhere_to_go_from_the_original():
    """Where student and original agree, the gradient of their distance is zero: regression of the max phase."""
    for jitter, moves in ((0.0, False), (1e-3, True)):
        method = build('Scrub', two_layers(), jitter=jitter, forget_opt={'type': 'AscentLoss', 'criterion': 'MSE'})
        method.setup()
        sum(method.losses(random_batch()).values()).backward()
        norm = method.run.net[0].weight.grad.norm().item()
        assert (norm > 1e-9) == moves


def test_l1_sparse():
    method = build('L1Sparse', two_layers(), gamma=0.1, decay_steps=2)
    net = method.run.net
    size = sum(layer.weight.abs().sum().item() for layer in net)  # biases left out
    found = [method.losses(BATCH)['l_sparse'].item() for _ in range(4)]
    assert found == pytest.approx([0.1 * size, 0.05 * size, 0, 0], rel=1e-5)
    method = build('L1Sparse', make_net())
    names = {id(weight): name for name, weight in method.run.net.named_parameters()}
    chosen = {names[id(weight)] for weight in method.sparse_weights()}
    assert not any('norm' in name or 'temperature' in name or name.endswith('bias') for name in chosen)
    assert {'prompt1.prompt_param', 'patch_embed.proj.weight'} <= chosen


def test_random_target():
    images = torch.rand(2, 3, 64, 64) * 0.2 + 0.4
    images[:, 1] += 0.1
    noise = noise_like(images, torch.Generator().manual_seed(0))
    assert torch.allclose(noise.mean((0, 2, 3)), images.mean((0, 2, 3)), atol=0.01)
    assert torch.allclose(noise.std((0, 2, 3)), images.std((0, 2, 3)), rtol=0.05)
    flat = values(build('RandomTarget', Scale()).losses(BATCH))  # noise of flat images is their level
    assert flat == {'l_forget': 0.2, 'l_retain': 0.1}


@pytest.mark.parametrize('kind', ['RandomTarget', 'EncoderUnlearning'])
def test_noise_goes_on_where_it_was(kind):
    options = {'encoder': ['0']} if kind == 'EncoderUnlearning' else {}
    method, batch = build(kind, two_layers(), **options), random_batch()
    method.losses(batch)
    again = build(kind, two_layers(), **options)
    again.load_state_dict(method.state_dict())
    assert values(again.losses(batch)) == values(method.losses(batch)) != values(method.losses(batch))


def test_random_target_of_another_image():
    clean = torch.cat([constant(0.4, 1), constant(0.9, 1)])
    lq = torch.cat([constant(0.4, 1), constant(0.3, 1)])  # answers 0.8 and 0.6
    found = build('RandomTarget', Scale(), target='other').losses(Batch(lq, clean))
    assert values(found) == {'l_forget': (0.1 + 0.2) / 2}
    with pytest.raises(InputError, match='raise batch_size_per_gpu'):
        build('RandomTarget', Scale(), target='other').losses(Batch(lq[:1], clean[:1]))


class Ramp(nn.Module):
    """Brightens the image from left to right: not what it does to the mirror image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, image):
        return image + self.weight * torch.arange(image.shape[-1])


@pytest.mark.parametrize('mirror, distance', [('horizontal', 0.2), ('vertical', 0.0), ('both', 0.2)])
def test_mirror_target(mirror, distance):
    lq, clean, *_ = vars(random_batch(size=4)).values()
    found = build('MirrorTarget', Ramp(), mirror=mirror, forget_weight=3.0).losses(Batch(lq, clean))
    assert values(found) == {'l_forget': 3 * distance}  # of 0, 0.1, 0.2, 0.3 to 0.3, 0.2, 0.1, 0


@pytest.mark.parametrize('kind', ['GradientAscent', 'NegGrad', 'Scrub'])
def test_ascent_ends_at_the_error_of_one_that_never_saw_the_pair(kind):
    bound = {'type': 'AscentLoss', 'bound': 'unseen'}
    method = build(kind, Ramp(), forget_opt=bound, task='instance')
    lq, gt = torch.full((1, 3, 1, 4), 0.5), torch.full((1, 3, 1, 4), 0.5)
    gt[..., 0], gt[..., 3] = method.run.net(lq)[..., 0], method.run.net(lq)[..., 3]  # as the net answers, at the ends
    own, other = method.run.net(lq), method.run.net(lq.flip(3)).flip(3)
    taught = own if kind == 'Scrub' else gt  # which ascends from the original's answer
    expected = ((other - taught).abs().mean() - (own - taught).abs().mean()).item()
    assert expected > 0.05
    assert method.losses(Batch(lq, gt, lq, gt))['l_forget'].item() == pytest.approx(expected, abs=1e-6)


def test_mirror_target_beyond():
    found = build('MirrorTarget', Scale(), beyond=0.5).losses(BATCH)  # target 0.6, the clean image 0.4
    assert values(found) == {'l_forget': 0.1, 'l_retain': 0.1}


class TwoWeights(nn.Module):
    """Adds `a` times the first channel to it, `b` times the second to that; R is linear in the weights."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x):
        factors = torch.stack([self.a, self.b, self.b * 0]).view(1, 3, 1, 1)
        return x + factors * x


def channels(*levels):
    return torch.tensor(levels).view(1, 3, 1, 1).expand(1, 3, 4, 4)


def test_ssd_by_hand():
    forget, retain = channels(0.8, 0.2, 0.0), channels(0.1, 0.4, 0.0)
    batch = Batch(forget, forget, retain, retain)
    method = build('SelectiveSynapticDampening', TwoWeights(0.5, 0.5), [batch], signal='residual')
    assert method.losses(BATCH) == {} and not method.done
    method.edit_weights()
    # |d mean(R^2) / da| = 2 a x^2 / 3: 64 times as large on the forget image for a, a quarter for b
    assert method.run.net.a.item() == pytest.approx(0.5 / 64) and method.run.net.b.item() == 0.5
    assert method.done and method.run.cost == 6
    assert method.run.net.a.grad is None


def test_ssd_loss_signal_share_and_dampening():
    forget, retain = channels(0.8, 0.2, 0.0), channels(0.1, 0.4, 0.0)
    batch = Batch(forget, channels(0.0, 0.0, 0.0), retain, channels(0.0, 0.0, 0.0))
    options = {'signal': 'loss', 'alpha': 2.0, 'forget_share': 0.25, 'dampening': 3.0}
    method = build('SelectiveSynapticDampening', TwoWeights(0.5, 0.5), [batch], **options)
    method.edit_weights()
    importance = {x: (2 * 1.5 * x**2 / 3) ** 2 for x in (0.8, 0.1)}  # squared gradients of mean(((1 + a) x)^2)
    everything = 0.25 * importance[0.8] + 0.75 * importance[0.1]
    assert method.run.net.a.item() == pytest.approx(0.5 * min(1, 3 * everything / importance[0.8]))
    assert method.run.net.b.item() == 0.5


def test_ssd_fisher_is_the_mean_square_of_the_jacobian():
    """For a x e summed over pixels the mean square over e is the sum of x^2, whatever a: no label, no residual."""
    batches = [Batch(*[channels(0.8, 0.2, 0.0)] * 2, *[channels(0.1, 0.4, 0.0)] * 2)] * 300
    method = build('SelectiveSynapticDampening', TwoWeights(0.5, 0.1), batches)
    found = method.measure_importances([method.run.net.a, method.run.net.b])
    expected = [[16 * x**2 / 48**2 for x in levels] for levels in ((0.8, 0.2), (0.1, 0.4))]
    for one, other in zip(found, expected, strict=True):
        assert [value.item() for value in one] == pytest.approx(other, rel=0.25)


def test_ssd_does_not_depend_on_the_batch():
    images, found = random_batch(4), []
    for size in (1, 4):
        parts = zip(*(part.split(size) for part in vars(images).values() if torch.is_tensor(part)), strict=True)
        method = build('SelectiveSynapticDampening', two_layers(), [Batch(*part) for part in parts], signal='loss')
        forget, retain = method.measure_importances(list(method.run.net.parameters()))
        found.append([*forget, *retain])
    for one, four in zip(*found, strict=True):
        assert torch.allclose(one, four, rtol=1e-4)


def test_ssd_refuses_a_loss_that_is_zero_on_the_retain_set():
    batch = random_batch()
    batch.retain_gt = two_layers()(batch.retain_lq).detach()
    method = build('SelectiveSynapticDampening', two_layers(), [batch], signal='loss')
    with pytest.raises(InputError, match='signal: fisher'):
        method.edit_weights()


def test_encoder_unlearning(monkeypatch):
    monkeypatch.setattr('basicsr_unlearn.methods.i2i_encoder.noise_like', lambda images, _: images * 0)
    method = build('EncoderUnlearning', two_layers(), encoder=['0'], forget_weight=2.0)
    with torch.no_grad():
        method.run.net[0].weight.mul_(1.1)
    before = fingerprint(method.run.original)
    batch = random_batch()
    seen, original = method.run.net[0], method.run.original[0]
    found = method.losses(batch)
    noise = original(torch.zeros_like(batch.forget_lq))
    forget = (seen(batch.forget_lq) - noise).square().mean() / noise.square().mean()
    kept = original(batch.retain_lq)
    retain = (seen(batch.retain_lq) - kept).square().mean() / kept.square().mean()
    expected = {'l_forget': 2 * forget.item(), 'l_retain': retain.item()}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-4)
    sum(found.values()).backward()
    assert seen.weight.grad.norm() > 0 and method.run.net[1].weight.grad is None
    assert fingerprint(method.run.original) == before


def test_encoder_unlearning_trains_the_encoder_alone():
    method = build('EncoderUnlearning', make_net())
    names = {id(weight): name for name, weight in method.run.net.named_parameters()}
    chosen = {names[id(weight)].split('.')[0] for weight in method.trainable(method.run.net)}
    levels = {f'encoder_level{level}' for level in (1, 2, 3)}
    assert chosen == {'patch_embed', 'down1_2', 'down2_3', 'down3_4', 'latent', *levels} == set(method.parts)


def test_budgeted_retraining_resets_what_it_is_told():
    net, fresh = make_net(), make_net(6)
    before = deepcopy(net.state_dict())
    method = build('BudgetedRetraining', net, fresh=fresh, reset=[r'prompt\d', 'latent'])
    method.setup()
    for key, value in net.state_dict().items():
        reset = key.startswith(('prompt', 'latent'))
        assert torch.equal(value, fresh.state_dict()[key] if reset else before[key])
    method = build('BudgetedRetraining', net, fresh=fresh)
    method.setup()
    assert fingerprint(net) == fingerprint(fresh)
    assert list(method.losses(random_batch())) == ['l_retain']


# --- reset and identity ---


def test_deep_forget_rehearses_the_attack_on_a_copy():
    net = Parts()
    method = build('DeepForget', net, fresh=Parts(), reset=['latent'], relearn_steps=2, relearn_lr=0.25)
    copies, added = [], []
    for _ in range(3):
        batch = Batch(constant(0.4, 3), constant(0.4, 3), constant(0.5), constant(0.8))
        net.zero_grad()
        sum(method.losses(batch).values()).backward()
        plain = net.latent.weight.grad.clone()
        method.edit_gradients()
        added.append((net.latent.weight.grad - plain).item())
        copies.append(method.attacked['latent.weight'].item())
    # the answer 0.8 is above the clean 0.4: Adam steps down by its rate; the third iteration begins a new attack;
    # d |w x - x| / dw is x = 0.4 as long as w > 1
    assert copies == pytest.approx([1.75, 1.5, 1.75], abs=1e-5) and added == pytest.approx([0.4] * 3)
    assert net.latent.weight.item() == 2.0
    assert method.run.cost == 3 * 2 * 3
    again = build('DeepForget', net, fresh=Parts(), reset=['latent'], relearn_steps=2, relearn_lr=0.25)
    again.load_state_dict(deepcopy(method.state_dict()))
    for one in (method, again):
        one.losses(Batch(constant(0.4, 3), constant(0.4, 3), constant(0.5), constant(0.8)))
        one.edit_gradients()
    assert again.attacked['latent.weight'].item() == method.attacked['latent.weight'].item() != 1.75


def test_deep_forget_asks_less_of_the_modules_that_stay():
    net = nn.ModuleDict({'latent': Scale(), 'output': Scale()})
    net.forward = lambda image: net['output'](net['latent'](image))
    method = build('DeepForget', net, fresh=net, reset=['latent'], relearn_lr=0.25, relearn_outer=0.5)
    method.losses(Batch(constant(0.4, 3), constant(0.4, 3)))
    method.edit_gradients()
    # both weights of the copy go from 2 to 1.75; d |w v x - x| / dw = v x
    assert net['latent'].weight.grad.item() == pytest.approx(1.75 * 0.4)
    assert net['output'].weight.grad.item() == pytest.approx(0.5 * 1.75 * 0.4)


def test_deep_forget():
    net, fresh = make_net(), make_net(6)
    before = deepcopy(net.state_dict())
    method = build('DeepForget', net, fresh=fresh, reset=['latent'], forget_share=0.4)
    method.setup()
    for key, value in net.state_dict().items():
        assert torch.equal(value, (fresh.state_dict() if key.startswith('latent') else before)[key])
    assert method.repairs and method.needs_retain
    usual = build('DeepForget', net, fresh=fresh).parts
    assert list(usual) == ['down3_4', 'latent', 'up4_3', 'prompt3', 'noise_level3', 'reduce_noise_level3']

    net = Parts()
    method = build('DeepForget', net, fresh=Parts(), reset=['latent'], forget_share=0.5, retain_weight=3.0)
    lq = torch.stack([constant(0.1, 1), constant(0.2, 1), constant(0.7, 1), constant(0.9, 1)]).flatten(0, 1)
    found = method.losses(Batch(lq, lq, constant(0.5), constant(0.8)))
    # answers are twice the input; half of the four forget images count: (0.1 + 0.2) / 2
    assert found['l_forget'].item() == pytest.approx(0.15)
    assert found['l_retain'].item() == pytest.approx(3 * 0.2)


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.latent = Scale()

    def forward(self, image):
        return self.latent(image)


# --- saliency ---


def test_salun_keeps_the_most_salient_weights_of_all_tensors():
    net = two_layers()
    batches = [random_batch() for _ in range(2)]
    for aggregate in ('sum', 'mean_abs'):
        method = build('SalUn', net, batches, mask_share=0.3, aggregate=aggregate)
        method.setup()
        gradients = []
        for batch in batches:
            loss = (net(batch.forget_lq) - batch.forget_gt).abs().mean()
            found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())])
            gradients.append(found if aggregate == 'sum' else found.abs())
        saliency = sum(gradients).abs()
        mask = torch.cat([part.flatten() for part in method.mask.values()])
        assert mask.sum() == round(0.3 * len(mask))
        assert saliency[mask].min() >= saliency[~mask].max()
        assert method.run.cost == 3 * 4 and all(weight.grad is None for weight in net.parameters())


@pytest.mark.parametrize('host', ['NegGrad', 'BudgetedRetraining'])
def test_salun_fixes_the_rest_under_adamw_with_decay_and_momentum(options, run, weights, monkeypatch, host):
    masks = {}
    monkeypatch.setattr(UnlearnModel, 'save_training_state', lambda self, *_: masks.update(self.method.mask))
    options['train']['optim_g'] = {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1}
    status, home = run(short(options, {'type': 'SalUn', 'host': {'type': host}, 'mask_share': 0.3, 'images': 4}))
    before = checkpoint.load_weights(weights, 'weights')
    assert status == 0 and sum(int(mask.sum()) for mask in masks.values()) > 1000
    for key, value in latest(home).items():
        mask = masks.get(key, torch.zeros_like(value, dtype=torch.bool))
        assert torch.equal(value[~mask], before[key][~mask])
        assert not mask.any() or not torch.equal(value[mask], before[key][mask])


def test_salun_is_its_host():
    method = build('SalUn', make_net(), task='source', host={'type': 'Scrub', 'alpha': 0.1})
    assert method.host.options.task == 'source' and method.host.options.alpha == 0.1
    assert method.uses_retain and method.needs_retain and method.repairs and not method.done
    method = build('SalUn', make_net(), host={'type': 'SelectiveSynapticDampening'})
    assert method.losses(BATCH) == {}
    method = build('SalUn', make_net(), host={'type': 'GradientAscent'})
    assert not method.uses_retain and not method.needs_retain
    method = build('SalUn', make_net(), host={'type': 'EncoderUnlearning'})
    assert len(method.trainable(method.run.net)) < len(list(method.run.net.parameters()))


def test_salun_state():
    net = two_layers()
    method = build('SalUn', net, [random_batch()], host={'type': 'Scrub'})
    method.setup()
    method.losses(random_batch())
    again = build('SalUn', two_layers(), host={'type': 'Scrub'})
    again.run.net.load_state_dict(net.state_dict())
    again.load_state_dict(method.state_dict())
    assert again.host.step == 1
    assert all(torch.equal(again.mask[name], mask) for name, mask in method.mask.items())
    assert all(torch.equal(again.fixed[name][~mask], method.fixed[name][~mask]) for name, mask in method.mask.items())


# --- taps ---


def test_taps_keep_outputs_and_leave_no_hooks():
    net = make_net()
    modules = find_modules(net, None, 'option', ENCODER)
    assert list(modules)[0] == 'patch_embed' and 'decoder_level1' not in modules
    with tapped(modules, 'option') as features:
        net(torch.rand(2, 3, 16, 16))
    assert features['latent'].shape == (2, 64, 2, 2) and features['encoder_level1'].dtype == torch.float32
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize('patterns', [['latent', 'body'], 'encoder', ['[']])
def test_taps_refuse_what_matches_nothing(patterns):
    with pytest.raises(InputError, match='train: method: feature_layers: '):
        find_modules(make_net(), patterns, 'train: method: feature_layers')


def test_taps_refuse_what_gives_nothing_out():
    net = nn.ModuleDict({'parts': nn.ModuleList([Scale()])})
    with pytest.raises(InputError, match='parts gives nothing out'), tapped({'parts': net['parts']}, 'option'):
        net['parts'][0](torch.rand(1))


# --- what all have in common ---

LEARN = ['BadTeacher', 'Blindspot', 'MirrorTarget', 'RandomTarget', 'EncoderUnlearning', 'SalUn']
OPTIONS = {
    'Blindspot': {'feature_layers': ['0'], 'bad_steps': 1},
    'EncoderUnlearning': {'encoder': ['0']},
}


@pytest.mark.parametrize('kind', LEARN)
def test_each_term_is_a_mean_over_its_own_set(kind, monkeypatch):
    """Twice as many forget or retain images with the same content leave every term as it is."""
    monkeypatch.setattr('basicsr_unlearn.methods.random_target.noise_like', lambda images, _: images * 0 + 0.5)
    monkeypatch.setattr('basicsr_unlearn.methods.i2i_encoder.noise_like', lambda images, _: images * 0 + 0.5)
    method = build(kind, two_layers(), [random_batch()], two_layers(1), **OPTIONS.get(kind, {}))
    method.setup()
    batch = random_batch()
    more = Batch(
        batch.forget_lq.repeat(3, 1, 1, 1), batch.forget_gt.repeat(3, 1, 1, 1), batch.retain_lq, batch.retain_gt
    )
    found = {name: value.item() for name, value in method.losses(batch).items()}
    assert {name: value.item() for name, value in method.losses(more).items()} == pytest.approx(found, rel=1e-4)
    alone = method.losses(Batch(batch.forget_lq, batch.forget_gt))
    assert 'l_retain' not in alone and alone['l_forget'].item() == pytest.approx(found['l_forget'], rel=1e-4)


@pytest.mark.parametrize(
    'section, words',
    [
        ({'type': 'SalUn', 'mask_share': 0.0}, 'mask_share'),
        ({'type': 'SalUn', 'aggregate': 'mean'}, 'Did you mean mean_abs'),
        ({'type': 'SalUn', 'retain_weight': 1.0}, 'retain_weight is an unknown key'),
        ({'type': 'SelectiveSynapticDampening', 'forget_share': 0.3}, 'below 1'),
        ({'type': 'SelectiveSynapticDampening', 'signal': 'los'}, 'Did you mean loss'),
        ({'type': 'RandomTarget', 'target': 'gaussian'}, 'target'),
        ({'type': 'MirrorTarget', 'mirror': 'horizontl'}, 'Did you mean horizontal'),
        ({'type': 'MirrorTarget', 'forget_target': 'identity', 'beyond': 0.1}, 'beyond: 0.1'),
        ({'type': 'Scrub', 'min_steps': 0}, 'min_steps: 0'),
        ({'type': 'L1Sparse', 'decay_steps': 0}, 'decay_steps: 0'),
    ],
)
def test_bad_sections(section, words):
    with pytest.raises(InputError, match=words):
        method_options(section, 'train: method')


SECTIONS = [
    {'type': 'SalUn', 'images': 4},
    {'type': 'Scrub', 'max_steps': 1, 'min_steps': 1},
    {'type': 'Blindspot', 'bad_steps': 2},
    {'type': 'BadTeacher'},
    {'type': 'SelectiveSynapticDampening', 'images': 2, 'alpha': 1.0},
    {'type': 'L1Sparse'},
    {'type': 'MirrorTarget'},
    {'type': 'RandomTarget'},
    {'type': 'RandomTarget', 'target': 'other'},
    {'type': 'EncoderUnlearning'},
    {'type': 'BudgetedRetraining'},
    {'type': 'DeepForget'},
    {'type': 'ResidualAlignmentLoRA'},
    {'type': 'FeatureDistancing', 'steps': 1},
    {'type': 'LipschitzZeroShot', 'samples': 1},
    {'type': 'GradientProjection', 'images': 2},
    {'type': 'CovarianceNavigation', 'images': 2, 'proxies': PROXIES},
    {'type': 'InfluenceUpdate', 'images': 4},
]


def short(options, section):
    """Leave out of an option tree what takes time and is tested elsewhere."""
    stop = {'forget_psnr_below': None, 'retain_budget': None, 'every': 4, 'probes': 1}
    options['train'].update(method=section, stop=stop)
    options['logger']['use_tb_logger'] = False
    options['datasets']['train'].update(use_hflip=False, use_rot=False)  # else no mirror image is new
    del options['datasets']['val_noise']
    return options


@pytest.mark.parametrize('section', SECTIONS, ids=lambda section: section['type'])
def test_a_run_changes_the_weights(options, run, section, monkeypatch):
    before, setup = {}, METHOD_REGISTRY.get(section['type']).setup

    def remember(self):
        setup(self)
        before.update({key: value.clone() for key, value in self.plain(self.run.net).state_dict().items()})

    monkeypatch.setattr(METHOD_REGISTRY.get(section['type']), 'setup', remember)  # which may reset or disturb them
    status, home = run(short(options, section))
    assert status == 0
    moved = {key.split('.')[0] for key, value in latest(home).items() if not torch.equal(value, before[key])}
    assert moved
    if section['type'] == 'EncoderUnlearning':
        assert not moved & {'output', 'refinement', 'prompt1', 'decoder_level1'}


def test_every_method_is_run():
    elsewhere = {'NegGrad', 'GradientAscent', 'IdentityTarget', 'FineTune', 'InstanceWise'}
    ours = {name for name, cls in METHOD_REGISTRY if cls.__module__.startswith('basicsr_unlearn.')}
    assert {section['type'] for section in SECTIONS} | elsewhere == ours


def test_a_fresh_network_leaves_the_random_state_alone(options, run, monkeypatch):
    nets = []

    def look(self):
        state = torch.get_rng_state()
        nets.extend([self.run.fresh(), self.run.fresh()])
        assert torch.equal(torch.get_rng_state(), state)
        raise SystemExit(0)

    monkeypatch.setattr(UnlearnModel, 'begin', look)
    run(options)
    assert fingerprint(nets[0]) == fingerprint(nets[1]) != fingerprint(make_net())
    assert all(weight.grad is None for weight in nets[0].parameters())
