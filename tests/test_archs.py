"""The networks: keys of the authors' checkpoints, values of the formulas, gradients, memory savers."""

import importlib.util
from copy import deepcopy
from os import path as osp

import pytest
import torch
from conftest import make_net
from torch.nn import functional as F

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.archs.adair_arch import AdaIR, FreModule
from basicsr_unlearn.archs.blocks import Attention, GatedGELU, LayerNorm
from basicsr_unlearn.archs.promptir_arch import DEAD, PromptGenBlock, PromptIR

HERE = osp.dirname(__file__)
ONE_BLOCK = {'dim': 8, 'num_blocks': [1] * 4, 'num_refinement_blocks': 1}
TINY = {
    'PromptIR': {**ONE_BLOCK, 'prompt_sizes': [8, 4, 2]},
    'AdaIR': ONE_BLOCK,
    'Restormer': {**ONE_BLOCK, 'LayerNorm_type': 'BiasFree', 'bias': True},
    'NAFNet': {'width': 4, 'middle_blk_num': 1, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
}


def build(name, **options):
    """A tiny network whose zero-initialised branches are awake."""
    torch.manual_seed(0)
    net = ARCH_REGISTRY.get(name)(**{**TINY[name], **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def plain_networks():
    path = osp.join(HERE, osp.pardir, 'scripts', 'plain_networks.py')
    spec = importlib.util.spec_from_file_location('plain_networks', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_keys(name):
    with open(osp.join(HERE, 'keys', f'{name}.txt'), encoding='utf-8') as file:
        entries = (line.split() for line in file)
        return {entry[0]: tuple(int(size) for size in entry[1].split('x')) for entry in entries if entry}


@pytest.mark.parametrize(
    'name, file, tensors, parameters',
    [
        ('PromptIR', 'PromptIR', 548, 35592263),
        ('AdaIR', 'AdaIR', 587, 28784824),
        ('Restormer', 'Restormer', 494, 26126644),
        ('NAFNet', 'NAFNet_width32', 664, 29159715),
    ],
)
def test_the_published_nets(name, file, tensors, parameters):
    with torch.device('meta'):
        net = ARCH_REGISTRY.get(name)()
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert shapes == published_keys(file)
    assert len(shapes) == tensors
    assert sum(value.numel() for value in net.parameters()) == parameters


def test_the_published_restormer_without_bias():
    with torch.device('meta'):
        net = ARCH_REGISTRY.get('Restormer')(LayerNorm_type='BiasFree')
    assert len(net.state_dict()) == 406
    assert sum(value.numel() for value in net.parameters()) == 26111668


@pytest.mark.parametrize('name', TINY)
def test_same_function_as_the_plain_network(name):
    net = build(name)
    plain = plain_networks().make_plain(deepcopy(net))
    x = torch.rand(2, 3, 40, 56)
    ours, theirs = net(x), plain(x)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
    grad = torch.randn_like(ours)
    ours.backward(grad)
    theirs.backward(grad)
    for (key, one), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        if one.grad is not None:
            assert (one.grad - other.grad).abs().max() <= 1e-3 * other.grad.abs().max() + 1e-5, key


def test_dead_layers_are_frozen_and_all_others_learn():
    for name in TINY:
        net = build(name)
        net(torch.rand(2, 3, 40, 40)).square().mean().backward()
        frozen = {key.rpartition('.')[0] for key, value in net.named_parameters() if not value.requires_grad}
        if name == 'PromptIR':
            assert frozen == set(DEAD)
        elif name == 'AdaIR':
            inside = ('conv', 'score_gen', 'rate_conv.0', 'rate_conv.2')
            assert frozen == {f'fre{number}.{part}' for number in (1, 2, 3) for part in inside}
        else:
            assert not frozen
        for key, value in net.named_parameters():
            assert (value.grad is not None) == value.requires_grad, key


@pytest.mark.parametrize('name', TINY)
def test_checkpoint_changes_no_gradient(name):
    x, grads = torch.rand(1, 3, 32, 24), []
    for checkpoint in (False, True):
        net = build(name, checkpoint=checkpoint)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            loss = net(x).square().mean()
        loss.backward()
        grads.append(([p.grad for p in net.parameters() if p.grad is not None], sum(saved)))
    (plain, kept), (thrifty, kept_less) = grads
    assert all(torch.equal(one, other) for one, other in zip(plain, thrifty, strict=True))
    assert kept_less < kept / 2


@pytest.mark.parametrize('dim, heads', [(8, (1, 2, 4, 8)), (12, (1, 2, 4, 8)), (10, (1, 1, 1, 1))])
def test_other_widths(dim, heads):
    net = PromptIR(dim=dim, heads=heads, num_blocks=[1] * 4, num_refinement_blocks=1, prompt_sizes=[8, 4, 2])
    assert net(torch.rand(1, 3, 24, 16)).shape == (1, 3, 24, 16)
    assert net.prompt3.prompt_param.shape[2] % 4 == 0


def test_global_residual():
    net = make_net()
    torch.nn.init.zeros_(net.output.weight)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(net(x), x)


@pytest.mark.parametrize(
    'name, options, word',
    [
        ('PromptIR', {'decoder': False}, 'decoder'),
        ('PromptIR', {'dim': 9}, 'dim'),
        ('PromptIR', {'heads': [1, 1, 3, 1]}, 'heads'),
        ('PromptIR', {'prompt_sizes': [4]}, 'prompt_sizes'),
        ('AdaIR', {'heads': [1, 2, 4]}, 'heads'),
        ('AdaIR', {'heads': [1, 2, 32, 8]}, 'heads'),
        ('Restormer', {'num_blocks': [1]}, 'num_blocks'),
        ('Restormer', {'heads': [0, 1, 1, 1]}, 'heads'),
        ('PromptIR', {'LayerNorm_type': 'Batch'}, 'LayerNorm_type'),
        ('AdaIR', {'decoder': False}, 'Restormer'),
        ('AdaIR', {'out_channels': 1}, 'out_channels'),
        ('Restormer', {'dual_pixel_task': True}, 'dual_pixel_task'),
        ('NAFNet', {'dec_blk_nums': [1]}, 'dec_blk_nums'),
    ],
)
def test_bad_arguments(name, options, word):
    with pytest.raises(ValueError, match=word):
        ARCH_REGISTRY.get(name)(**{**TINY[name], **options})


@pytest.mark.parametrize('name', ['PromptIR', 'AdaIR', 'Restormer'])
def test_sizes_must_be_multiples_of_eight(name):
    with pytest.raises(ValueError, match='multiples of 8'):
        build(name)(torch.rand(1, 3, 20, 24))


def test_nafnet_pads_with_zeros():
    net, x = build('NAFNet'), torch.rand(1, 3, 13, 9)
    assert torch.equal(net(x), net(F.pad(x, (0, 3, 0, 3)))[..., :13, :9])
    assert net.size_multiple == 4


def test_attention_is_between_channels():
    torch.manual_seed(1)
    attention, x = Attention(8, 2), torch.randn(1, 8, 5, 6)
    torch.nn.init.constant_(attention.temperature, 0.7)
    q, k, v = attention.qkv_dwconv(attention.qkv(x)).flatten(2).chunk(3, dim=1)
    expected = []
    for head in range(2):
        rows = slice(4 * head, 4 * head + 4)
        cosine = torch.stack([torch.stack([F.cosine_similarity(a, b, dim=0) for b in k[0, rows]]) for a in q[0, rows]])
        expected.append((cosine * 0.7).softmax(1) @ v[0, rows])
    expected = attention.project_out(torch.cat(expected).reshape(1, 8, 5, 6))
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_attention_to_nothing_is_the_mean():
    attention = Attention(4, 1)
    with torch.no_grad():
        attention.qkv.weight[:8] = 0  # queries and keys are zero: every channel gets the mean of the values
    x = torch.randn(1, 4, 6, 6)
    v = attention.qkv_dwconv(attention.qkv(x))[:, 8:]
    expected = attention.project_out(v.mean(1, keepdim=True).expand_as(v))
    out = attention(x)
    assert torch.allclose(out, expected, atol=1e-6)
    out.sum().backward()
    assert all(value.grad.isfinite().all() for value in attention.parameters())


def test_gated_gelu_and_its_first_and_second_derivative():
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    gate, value = x.chunk(2, 1)
    assert torch.allclose(GatedGELU.apply(x), F.gelu(gate) * value)
    assert torch.autograd.gradcheck(GatedGELU.apply, x)
    assert torch.autograd.gradgradcheck(GatedGELU.apply, x)


@pytest.mark.parametrize('kind', ['WithBias', 'BiasFree'])
def test_layer_norm(kind):
    norm, x = LayerNorm(6, kind), torch.randn(2, 6, 3, 4) + 1
    scale = (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    expected = (x - x.mean(1, keepdim=True)) / scale if kind == 'WithBias' else x / scale
    assert torch.allclose(norm(x), expected, atol=1e-5)


def test_prompt_is_the_weighted_sum():
    block, x = PromptGenBlock(4, 3, 6), torch.randn(2, 6, 8, 10)
    weights = block.linear_layer(x.mean((2, 3))).softmax(1)
    prompt = (weights[:, :, None, None, None] * block.prompt_param).sum(1)
    expected = block.conv3x3(F.interpolate(prompt, (8, 10), mode='bilinear', align_corners=False))
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_frequency_mask_of_the_publication():
    """Below 128 pixels everything is high; above, the lowest `size // 128 * rate` frequencies are low."""
    block = FreModule(8, 1)
    z = torch.randn(1, 8, 64, 256)
    low, high = block.split_frequencies(z)
    assert not low.any() and torch.equal(high, z.abs())
    torch.nn.init.constant_(block.rate_conv[0].weight, 1.0)
    torch.nn.init.constant_(block.rate_conv[2].weight, 9.0)  # a bright image: both rates are one
    z = torch.full((1, 8, 256, 128), 3.0)
    z += torch.cos(torch.arange(256) * 2 * torch.pi * 40 / 256)[:, None]  # frequency 40: high
    low, high = block.split_frequencies(z)
    assert torch.allclose(low, torch.full_like(low, 3.0), atol=1e-4)
    assert torch.allclose(high, (z - 3).abs(), atol=1e-4)


def test_frequencies_of_each_image_of_a_batch():
    """Against the plain loop over images, with rates that differ between images and axes."""
    block = FreModule(8, 1)
    plain = plain_networks().PlainFreModule.split_frequencies
    z = torch.randn(3, 8, 640, 390) + torch.tensor([-4.0, 0.0, 4.0]).reshape(3, 1, 1, 1)
    torch.nn.init.constant_(block.rate_conv[0].weight, 1.0)
    with torch.no_grad():  # rates: one half both for a dark image, one and zero (an empty mask) for a bright one
        block.rate_conv[2].weight.copy_(torch.tensor([3.0, -3.0]).reshape(2, 1, 1, 1))
    low, high = block.split_frequencies(z)
    expected_low, expected_high = plain(block, z)
    assert torch.allclose(low, expected_low, atol=1e-5) and torch.allclose(high, expected_high, atol=1e-5)
    empty = [not image.any() for image in expected_low]
    assert any(empty) and not all(empty)


def test_the_soft_mask_learns_its_rate():
    torch.manual_seed(0)
    net = AdaIR(**ONE_BLOCK, soft_mask=True)
    with torch.no_grad():
        for block in (net.fre1, net.fre2, net.fre3):
            block.para1.fill_(0.5)
    net(torch.rand(1, 3, 32, 32)).square().mean().backward()
    for block in (net.fre1, net.fre2, net.fre3):
        assert block.rate_conv[0].weight.grad.abs().max() > 0
        low, high = block.split_frequencies(torch.randn(1, block.conv1.out_channels, 8, 8))
        assert low.abs().max() > 0.1 and high.abs().max() > 0.1
