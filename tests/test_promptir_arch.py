import pytest
import torch
from conftest import make_net
from torch.nn import functional as F

from basicsr_unlearn.archs.blocks import Attention, LayerNorm
from basicsr_unlearn.archs.promptir_arch import PromptGenBlock, PromptIR

DEAD = {
    'chnl_reduce1',
    'chnl_reduce2',
    'chnl_reduce3',
    'reduce_noise_channel_1',
    'reduce_noise_channel_2',
    'reduce_noise_channel_3',
}
SHAPES = {  # of the authors' checkpoint
    'patch_embed.proj.weight': (48, 3, 3, 3),
    'prompt1.prompt_param': (1, 5, 64, 64, 64),
    'prompt3.linear_layer.weight': (5, 384),
    'chnl_reduce3.weight': (256, 320, 1, 1),
    'reduce_noise_channel_3.weight': (192, 448, 1, 1),
    'latent.7.ffn.project_in.weight': (2042, 384, 1, 1),
    'up4_3.body.0.weight': (384, 192, 3, 3),
    'noise_level3.attn.qkv.weight': (2112, 704, 1, 1),
    'noise_level2.ffn.dwconv.weight': (1702, 1, 3, 3),
    'reduce_noise_level1.weight': (96, 160, 1, 1),
    'refinement.3.norm2.body.bias': (96,),
    'output.weight': (3, 96, 3, 3),
}


def test_the_published_net():
    with torch.device('meta'):
        net = PromptIR()
    state = net.state_dict()
    assert len(state) == 548
    assert sum(value.numel() for value in state.values()) == 35592263
    for key, shape in SHAPES.items():
        assert tuple(state[key].shape) == shape, key


def test_dead_layers_and_no_others_get_no_gradient():
    net = make_net()
    net(torch.rand(2, 3, 32, 40)).square().mean().backward()
    dead = {name.split('.')[0] for name, value in net.named_parameters() if value.grad is None}
    assert dead == DEAD
    live = [value.grad.abs().max() for value in net.parameters() if value.grad is not None]
    assert min(live) > 0


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
    'options, word',
    [({'decoder': False}, 'decoder'), ({'dim': 9}, 'dim'), ({'LayerNorm_type': 'Batch'}, 'LayerNorm_type')],
)
def test_bad_arguments(options, word):
    with pytest.raises(ValueError, match=word):
        PromptIR(**options)
    with pytest.raises(ValueError, match='multiples of 8'):
        make_net()(torch.rand(1, 3, 20, 24))


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
