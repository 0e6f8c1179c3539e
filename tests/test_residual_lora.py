"""ResidualAlignmentLoRA: its equations, what is saved, and that base and adapter never leave together."""

import logging
import sys
from copy import deepcopy

import pytest
import torch
from conftest import NET, latest, make_net, summary
from test_rivals import FakeRun, random_batch, short
from torch import nn

from basicsr.archs import build_network
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import METHOD_REGISTRY, Batch, build_method, method_options

KIND = 'ResidualAlignmentLoRA'
NETWORKS = {
    'PromptIR': NET,
    'AdaIR': {'type': 'AdaIR', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1},
    'Restormer': {'type': 'Restormer', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1},
    'NAFNet': {'type': 'NAFNet', 'width': 8, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
}


class Mixed(nn.Module):
    """One layer of each kind: 3x3, depthwise, 1x1, grouped 1x1, Linear over channels, and one that is never used."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.point = nn.Conv2d(6, 6, 1)
        self.grouped = nn.Conv2d(6, 6, 1, groups=2)
        self.linear = nn.Linear(6, 3)
        self.unused = nn.Conv2d(6, 6, 1).requires_grad_(False)

    def forward(self, image):
        feature = self.grouped(self.point(self.depthwise(self.first(image))))
        return image + self.linear(feature.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def build(net=None, disturbed=True, **options):
    """Build the method around a net; `disturbed` gives the adapters random values, as after some steps."""
    method = build_method({'type': KIND, **options}, FakeRun(net or Mixed()))
    if disturbed:
        for name, weight in method.run.net.named_parameters():
            if '.lora_B.' in name:
                nn.init.normal_(weight, std=0.05)
    return method


def plain_weights(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


# --- equations ---


def test_nothing_is_added_at_first():
    batch = random_batch()
    method = build(disturbed=False)
    found = method.losses(batch)
    assert found.keys() == {'l_forget', 'l_residual', 'l_retain'} and found['l_residual'].item() == 0.0
    assert torch.equal(method.run.net(batch.forget_lq), method.run.original(batch.forget_lq))
    sum(found.values()).backward()
    moved = {
        name for name, weight in method.run.net.named_parameters() if weight.grad is not None and weight.grad.any()
    }
    assert moved == {f'{name}.lora_B.default.weight' for name in ('point', 'linear')}  # A stands still while B is zero


def features(net, image):
    """Return what the adapted layers of Mixed were trained to give, and what the adapters add; by hand."""
    up, down = {}, {}
    for name in ('point', 'linear'):
        layer = net.get_submodule(name)
        down[name], up[name] = layer.lora_A['default'].weight, layer.lora_B['default'].weight
    seen = net.depthwise(net.first(image))
    weight, bias = net.point.base_layer.weight[:, :, 0, 0], net.point.base_layer.bias
    point = torch.einsum('oi,nihw->nohw', weight, seen) + bias.view(-1, 1, 1)
    matrix = up['point'][:, :, 0, 0] @ down['point'][:, :, 0, 0]
    point_added = 0.5 * torch.einsum('oi,nihw->nohw', matrix, seen)
    seen = net.grouped(point + point_added).permute(0, 2, 3, 1)
    linear = seen @ net.linear.base_layer.weight.T + net.linear.base_layer.bias
    linear_added = 0.5 * seen @ (up['linear'] @ down['linear']).T
    return {'point': (point, point_added), 'linear': (linear, linear_added)}


@pytest.mark.parametrize('retain', [2, 3])
def test_terms_by_hand(retain):
    method = build(rank=4, alpha=2.0, residual_weight=3.0, shift_weight=0.5, forget_weight=2.0, retain_weight=5.0)
    batch, net = random_batch(2, retain, 8), method.run.net
    found = {name: value.item() for name, value in method.losses(batch).items()}
    kept, forgotten = features(net, batch.retain_lq), features(net, batch.forget_lq)
    residual = shift = 0.0
    for name, others in (('point', (0, 2, 3)), ('linear', (0, 1, 2))):
        (trained, added), forget = kept[name], sum(forgotten[name])
        size = trained.square().mean()
        residual += (added.square().mean() / size).item()
        shift += ((forget - trained.mean(others, keepdim=True)).square().mean() / size).item()
    assert residual > 1e-4
    assert found == {
        'l_forget': pytest.approx(2 * (net(batch.forget_lq) - batch.forget_lq).abs().mean().item(), rel=1e-4),
        'l_residual': pytest.approx(3 * residual, rel=1e-4),
        'l_shift': pytest.approx(0.5 * shift, rel=1e-4),
        'l_retain': pytest.approx(5 * (net(batch.retain_lq) - batch.retain_gt).abs().mean().item(), rel=1e-4),
    }


def test_wide_features_weigh_no_more():
    """A layer whose features and residual are a hundred times larger has the same part of l_residual."""
    method, batch = build(layers=['point']), random_batch()
    before, layer = method.losses(batch)['l_residual'].item(), method.run.net.point
    for weight in (layer.base_layer.weight, layer.base_layer.bias, layer.lora_B['default'].weight):
        weight.data *= 100
    assert method.losses(batch)['l_residual'].item() == pytest.approx(before, rel=1e-4)


def test_without_retain_images_the_forget_term_is_alone():
    lq, gt = random_batch().forget_lq, random_batch().forget_gt
    assert build(shift_weight=1.0).losses(Batch(lq, gt)).keys() == {'l_forget'}


@pytest.mark.parametrize('target', ['identity', 'mirror'])
def test_forget_targets(target):
    method, batch = build(forget_target=target), random_batch()
    goal = batch.forget_lq if target == 'identity' else method.run.original(batch.forget_lq.flip(3)).flip(3)
    expected = (method.run.net(batch.forget_lq) - goal).abs().mean().item()
    assert method.losses(batch)['l_forget'].item() == pytest.approx(expected, rel=1e-5)
    assert method_options({'type': KIND, 'task': 'instance'}).forget_target == 'mirror'


# --- adapters ---


@pytest.mark.parametrize('layers, chosen', [(None, {'point', 'linear'}), (['.*'], {'first', 'point', 'linear'})])
def test_who_has_adapters(layers, chosen, caplog):
    with caplog.at_level(logging.INFO, logger='test'):
        method = build(layers=layers)
    assert set(method.layers) == chosen
    assert f'adapters of {len(chosen)} layers; 2 depthwise or grouped convolutions have none' in caplog.text
    names = {name for name, weight in method.run.net.named_parameters() if weight.requires_grad}
    assert names == {f'{name}.lora_{part}.default.weight' for name in chosen for part in 'AB'}
    assert {id(weight) for weight in method.trainable(method.run.net)} == {
        id(weight) for name, weight in method.run.net.named_parameters() if name in names
    }


def test_patterns_name_layers_or_what_they_are_inside_of():
    options = method_options({'type': KIND, 'layers': ['encoder_level1', 'output']})
    found = METHOD_REGISTRY.get(KIND).modules(options, make_net())
    assert set(found) == {f'encoder_level1.0.{name}' for name in ('attn.qkv', 'attn.project_out')} | {
        f'encoder_level1.0.ffn.project_{end}' for end in ('in', 'out')
    } | {'output'}


def test_only_adapters_are_trained():
    method = build(shift_weight=0.1, layers=['.*'])
    net, before = method.run.net, plain_weights(method.run.net)
    optimizer = torch.optim.AdamW(method.trainable(net), 1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        sum(method.losses(random_batch()).values()).backward()
        optimizer.step()
    same = {key for key, value in net.state_dict().items() if torch.equal(value, before[key])}
    assert same == {key for key in before if '.lora_' not in key}


@pytest.mark.parametrize('name', NETWORKS)
def test_the_merged_network_is_the_adapted_one(name):
    torch.manual_seed(1)
    method = build(build_network(dict(NETWORKS[name])))
    net, image = method.run.net.eval(), torch.rand(2, 3, 32, 32)
    before, original = plain_weights(net), method.run.original
    with torch.no_grad():
        answer = net(image)
        assert (answer - original(image)).abs().max() > 1e-3
        merged = method.plain(net)
        assert (merged(image) - answer).abs().max() < 1e-5
        assert torch.equal(net(image), answer)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    changed = {key for key, value in merged.state_dict().items() if not torch.equal(value, original.state_dict()[key])}
    assert changed == {f'{layer}.weight' for layer in method.layers}  # depthwise kernels stay, bit for bit
    build_network(dict(NETWORKS[name])).load_state_dict(merged.state_dict(), strict=True)
    assert list(merged.state_dict()) == list(original.state_dict())
    method.export(net)
    assert list(net.state_dict()) == list(original.state_dict())
    for weights in (net, method.plain(net)):  # again, as when the last network is saved
        assert all(torch.equal(value, merged.state_dict()[key]) for key, value in weights.state_dict().items())


def test_state_brings_base_and_adapters_back():
    method = build(layers=['.*'])
    merged = Mixed()
    merged.load_state_dict(method.plain(method.run.net).state_dict())
    other = build(merged, layers=['.*'])  # as a run is resumed
    other.load_state_dict(method.state_dict())
    ours, theirs = method.run.net.state_dict(), other.run.net.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


# --- runs ---


def test_saved_files_are_merged(options, run, weights):
    status, home = run(short(options, {'type': KIND}))
    assert status == 0
    original, folder = torch.load(weights)['params'], home / 'experiments/tiny/models'
    assert {path.name for path in folder.iterdir()} == {'net_g_2.pth', 'net_g_4.pth', 'net_g_latest.pth'}
    for path in folder.iterdir():
        saved = torch.load(path)['params']
        assert list(saved) == list(original) and 'tensors' in load_into(make_net(1), str(path), 'weights')
        changed = {key for key, value in saved.items() if not torch.equal(value, original[key])}
        assert len(changed) > 20 and all(original[key].shape[2:] in ((1, 1), ()) for key in changed), path.name
        assert not any('dwconv' in key for key in changed)
    state = torch.load(home / 'experiments/tiny/training_states/4.state')
    kept = build(make_net(), disturbed=False)
    kept.load_state_dict(state['unlearn']['method'])
    merged = kept.plain(kept.run.net).state_dict()
    assert all(torch.equal(value, merged[key]) for key, value in torch.load(folder / 'net_g_4.pth')['params'].items())
    assert all(torch.equal(value, merged[key]) for key, value in latest(home).items())


def test_goes_back_to_the_kept_state(options, run):
    """The stop rule copies base and adapters; the state that it goes back to is merged like any other."""
    options = short(options, {'type': KIND})
    options['train']['stop'].update(every=1, retain_budget=0.5)
    options['train']['optim_g']['lr'] = 1.0
    status, home = run(options)
    saved = latest(home)
    assert status == 0 and summary(home)['stopped_by'] == 'retain_budget' and summary(home)['kept_iteration'] == 0
    assert saved.keys() == make_net().state_dict().keys()
    assert all(torch.equal(value, saved[key]) for key, value in make_net().state_dict().items())


def test_resumed_by_another_rank_is_refused(options, run, capsys):
    options = short(options, {'type': KIND})
    run(options)
    options['train']['method']['rank'] = 4
    options['path']['resume_state'] = 'experiments/tiny/training_states/2.state'
    status, _ = run(options)
    assert status == 2 and 'is that of a run with another' in capsys.readouterr().err


@pytest.mark.parametrize('amp', [None, 'bf16'])
def test_thrifty_networks(options, run, amp):
    """`checkpoint: true` computes activations anew in the backward pass, when nobody looks at them any more."""
    found = []
    for thrifty in (False, True):
        tree = short(deepcopy(options), {'type': KIND, 'shift_weight': 0.01})
        tree['network_g'] = {**NET, 'checkpoint': thrifty}
        tree['train']['amp'] = amp
        status, home = run(tree)
        assert status == 0
        found.append(latest(home))
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


@pytest.mark.slow
def test_compiled(options, run):
    found, weights = [], 'edsr.pth'
    tiny = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 1}
    net = build_network(dict(tiny))
    torch.save({'params': net.state_dict()}, weights)
    for compiled in (False, True):
        tree = short(deepcopy(options), {'type': KIND, 'layers': ['.*'], 'shift_weight': 0.01})
        tree['network_g'], tree['path']['pretrain_network_g'] = tiny, weights
        tree['train'].update(optim_g={'type': 'SGD', 'lr': 1e-2}, compile=compiled)
        status, home = run(tree)
        assert status == 0
        found.append(torch.cat([value.flatten() for value in latest(home).values()]))
    before = torch.cat([value.flatten() for value in net.state_dict().values()])
    assert (found[1] - found[0]).norm() < 0.02 * (found[0] - before).norm()


# --- bad input ---


@pytest.mark.parametrize(
    'options, words',
    [
        ({'rank': 0}, 'rank: 0 must be at least 1'),
        ({'alpha': 0.0}, 'alpha: 0.0 must be above 0'),
        ({'residual_weight': -1.0}, 'residual_weight: -1.0 must be at least 0'),
        ({'forget_target': 'miror'}, 'Did you mean mirror'),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        method_options({'type': KIND, **options})


@pytest.mark.parametrize(
    'layers, words',
    [(['pont'], 'pont matches no module'), (['depthwise'], 'names no layer of Mixed'), (['unused'], 'no layer')],
)
def test_bad_layers(layers, words):
    with pytest.raises(InputError, match=words):
        build(layers=layers)


def test_nothing_usual():
    with pytest.raises(InputError, match=r'layers: ~: names no layer of Sequential .* \.\* stands for all'):
        build(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)))


def refused(options, run, capsys):
    status, home = run(options)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: error: ')]
    assert status == 2 and not list(home.iterdir())
    return line


def test_without_peft(options, run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    line = refused(short(options, {'type': KIND}), run, capsys)
    assert f'train: method: type: {KIND} needs the library peft' in line and line.endswith('pip install peft')


def test_no_host_of_salun(options, run, capsys):
    line = refused(short(options, {'type': 'SalUn', 'host': {'type': KIND}}), run, capsys)
    assert f'train: method: host: type: {KIND} trains adapters' in line and 'Choose another host.' in line
