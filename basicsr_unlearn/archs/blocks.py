"""Layers that the networks share, and the encoder-decoder of the Restormer family.

Source: Zamir et al., Restormer: Efficient Transformer for High-Resolution Image Restoration (CVPR 2022). Written from
the paper; attribute names are those of the published checkpoints. Feature maps have shape (N, C, H, W) and, in memory,
the layout `channels_last`: there LayerNorm and the convolutions of CPUs need no copies. Every layer goes through its
module, so that hooks and adapters on any convolution see what it does.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def channels_last(x):
    """Return (N, C, H, W) in the memory layout that the networks work in."""
    return x.contiguous(memory_format=torch.channels_last)


def check_multiple(net, x):
    """Raise ValueError unless height and width are multiples of what the network takes."""
    height, width = x.shape[-2:]
    if height % net.size_multiple or width % net.size_multiple:
        raise ValueError(
            f'{type(net).__name__} takes sizes that are multiples of {net.size_multiple}, not {height}x{width}. '
            'RestorationModel and UnlearnModel pad for you.'
        )


def check_heads(dim, num_heads):
    """Raise ValueError unless that many attention heads share the channels evenly."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f'heads: {dim} channels (dim: times 2 at each level) cannot be shared by {num_heads} heads.')


class _ChannelNorm(nn.Module):
    """Weights of a LayerNorm over channels; kept apart so that the keys read `norm1.body.weight`."""

    def __init__(self, dim, with_bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        if with_bias:
            self.bias = nn.Parameter(torch.zeros(dim))
        else:
            self.register_parameter('bias', None)

    def forward(self, x):
        """Normalise the last axis of (N, H, W, C) with the biased variance, eps 1e-5."""
        if self.bias is not None:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)
        return x * torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5) * self.weight


class LayerNorm(nn.Module):
    """LayerNorm over the channels of each pixel.

    Args:
        dim (int): Number of channels.
        layer_norm_type (str): `WithBias`, or `BiasFree` (no shift, and the mean stays in the signal).
    """

    def __init__(self, dim, layer_norm_type='WithBias'):
        super().__init__()
        if layer_norm_type not in ('WithBias', 'BiasFree'):
            raise ValueError(f'LayerNorm_type: {layer_norm_type!r} is unknown. Choose WithBias or BiasFree.')
        self.body = _ChannelNorm(dim, layer_norm_type == 'WithBias')

    def forward(self, x):
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def channel_attention(q, k, v, temperature):
    """Attention between channels: softmax(cos(q_i, k_j) * temperature) v, equation 1 of the Restormer paper.

    The cosines come from the products and the norms of whole channels, so that no normalised copy of q or k is made.

    Args:
        q, k, v (Tensor): (N, C, H, W); each head is a contiguous group of channels.
        temperature (Tensor): (heads, 1, 1).

    Returns:
        Tensor: (N, C, H, W).
    """
    n, c, h, w = q.shape
    heads = len(temperature)

    def split(x):
        x = x.permute(0, 2, 3, 1).reshape(n, h * w, heads, c // heads)
        return x.transpose(1, 2).reshape(n * heads, h * w, c // heads)

    q, k, v = split(q), split(k), split(v)
    q_scale, k_scale = (x.square().sum(1, dtype=torch.float32).clamp_min(1e-24).rsqrt() for x in (q, k))
    cosine = (q.transpose(1, 2) @ k) * (q_scale.unsqueeze(2) * k_scale.unsqueeze(1))
    weights = (cosine.reshape(n, heads, *cosine.shape[1:]) * temperature).softmax(-1).flatten(0, 1)
    out = v @ weights.transpose(1, 2).to(v.dtype)
    return out.reshape(n, heads, h * w, -1).transpose(1, 2).reshape(n, h, w, c).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head attention between channels (transposed attention)."""

    def __init__(self, dim, num_heads, bias=False):
        super().__init__()
        check_heads(dim, num_heads)
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, dim * 3, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(dim * 3, dim * 3, 3, padding=1, groups=dim * 3, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x):
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        return self.project_out(channel_attention(q, k, v, self.temperature))


class GatedGELU(torch.autograd.Function):
    """GELU of the first half of the channels times the second half, (N, 2C, H, W) to (N, C, H, W).

    Keeps its input only and computes the GELU again in the backward pass, which costs little time and saves a tenth of
    the memory of a training step. Can be differentiated twice.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        gate, value = x.chunk(2, dim=1)
        return torch.ops.aten.gelu_(gate.clone()).mul_(value)  # GELU is three times as fast on a dense copy

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        gate, value = ctx.saved_tensors[0].chunk(2, dim=1)
        gate = gate.clone()
        return torch.cat([torch.ops.aten.gelu_backward(grad * value, gate), grad * F.gelu(gate)], dim=1)


class FeedForward(nn.Module):
    """Gated feed-forward layer (equation 2 of the paper)."""

    def __init__(self, dim, expansion_factor=2.66, bias=False):
        super().__init__()
        hidden = int(dim * expansion_factor)
        self.project_in = nn.Conv2d(dim, hidden * 2, 1, bias=bias)
        self.dwconv = nn.Conv2d(hidden * 2, hidden * 2, 3, padding=1, groups=hidden * 2, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x):
        return self.project_out(GatedGELU.apply(self.dwconv(self.project_in(x))))


class CheckpointedBlock(nn.Module):
    """A block that, with `checkpoint`, keeps nothing inside for the backward pass and computes it again there."""

    checkpoint = False

    def forward(self, x):
        if self.checkpoint and torch.is_grad_enabled():
            return checkpoint(self.compute, x, use_reentrant=False)
        return self.compute(x)

    def compute(self, x):
        """Do the work of the block."""
        raise NotImplementedError


class TransformerBlock(CheckpointedBlock):
    """Attention and feed-forward layer, each behind a LayerNorm and inside a residual."""

    def __init__(self, dim, num_heads, expansion_factor=2.66, bias=False, layer_norm_type='WithBias'):
        super().__init__()
        self.norm1 = LayerNorm(dim, layer_norm_type)
        self.attn = Attention(dim, num_heads, bias)
        self.norm2 = LayerNorm(dim, layer_norm_type)
        self.ffn = FeedForward(dim, expansion_factor, bias)

    def compute(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class PatchEmbed(nn.Module):
    """3x3 convolution from the image to the first feature map."""

    def __init__(self, in_channels, dim):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, padding=1, bias=False)

    def forward(self, x):
        return self.proj(channels_last(x))


class Downsample(nn.Module):
    """Halve the size and double the channels: (N, C, H, W) to (N, 2C, H/2, W/2)."""

    def __init__(self, dim):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x):
        return channels_last(self.body(x))


class Upsample(nn.Module):
    """Double the size and halve the channels: (N, C, H, W) to (N, C/2, 2H, 2W)."""

    def __init__(self, dim):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim * 2, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x):
        return channels_last(self.body(x))


class RestormerBody(nn.Module):
    """Encoder, latent and decoder of the Restormer family; a network says in `forward` what lies between the levels.

    Args:
        inp_channels (int): Channels of the input image.
        out_channels (int): Channels of the output image, equal to `inp_channels`.
        dim (int): Channels of the first level, even; `dim * 2**i` must be divisible by `heads[i]`.
        num_blocks (list[int]): Transformer blocks of levels 1 to 3 and of the latent.
        num_refinement_blocks (int): Blocks after the decoder.
        heads (list[int]): Attention heads of levels 1 to 3 and of the latent.
        ffn_expansion_factor (float): Hidden width of the feed-forward layers.
        bias (bool): Bias of the convolutions in the blocks.
        LayerNorm_type (str): `WithBias` or `BiasFree`.
        checkpoint (bool): Keep no activations inside transformer blocks.
        latent_dim (int): Channels that reach the first upsampling. Default: those of the latent, `dim * 8`.

    Raises:
        ValueError: Widths that give no working network.
    """

    size_multiple = 8

    def __init__(
        self,
        inp_channels,
        out_channels,
        dim,
        num_blocks,
        num_refinement_blocks,
        heads,
        ffn_expansion_factor,
        bias,
        LayerNorm_type,
        checkpoint,
        latent_dim=None,
    ):
        super().__init__()
        if dim % 2:
            raise ValueError(f'dim: {dim} must be even.')
        for name, numbers in (('num_blocks', num_blocks), ('heads', heads)):
            if len(numbers) != 4:
                raise ValueError(f'{name}: {list(numbers)} must be four numbers: of levels 1 to 3 and of the latent.')
        if inp_channels != out_channels:
            raise ValueError(
                f'inp_channels: {inp_channels} and out_channels: {out_channels} must be equal: the image is added to '
                'the output.'
            )
        latent_dim = latent_dim or dim * 8

        def stage(level, number, channels=None):
            return nn.Sequential(*(self.block(channels or dim * 2**level, heads[level]) for _ in range(number)))

        self.block_options = (ffn_expansion_factor, bias, LayerNorm_type)
        self.checkpoint = checkpoint
        self.patch_embed = PatchEmbed(inp_channels, dim)
        self.encoder_level1 = stage(0, num_blocks[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = stage(1, num_blocks[1])
        self.down2_3 = Downsample(dim * 2)
        self.encoder_level3 = stage(2, num_blocks[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = stage(3, num_blocks[3])
        self.up4_3 = Upsample(latent_dim)
        self.reduce_chan_level3 = self.conv1x1(latent_dim // 2 + dim * 4, dim * 4)
        self.decoder_level3 = stage(2, num_blocks[2])
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = self.conv1x1(dim * 4, dim * 2)
        self.decoder_level2 = stage(1, num_blocks[1])
        self.up2_1 = Upsample(dim * 2)
        self.decoder_level1 = stage(0, num_blocks[0], dim * 2)
        self.refinement = stage(0, num_refinement_blocks, dim * 2)
        self.output = nn.Conv2d(dim * 2, out_channels, 3, padding=1, bias=bias)

    def block(self, channels, num_heads):
        """Build one more transformer block with the options of the network."""
        block = TransformerBlock(channels, num_heads, *self.block_options)
        block.checkpoint = self.checkpoint
        return block

    def conv1x1(self, in_channels, channels):
        """Build one more 1x1 convolution."""
        return nn.Conv2d(in_channels, channels, 1, bias=self.block_options[1])

    def encode(self, x):
        """Return the features of levels 1, 2 and 3 (a list that the decoder empties) and of the latent."""
        check_multiple(self, x)
        level1 = self.encoder_level1(self.patch_embed(x))
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        return [level1, level2, level3], self.latent(self.down3_4(level3))

    def decode_level3(self, y, skips):
        """Go up from the latent to level 3."""
        return self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(y), skips.pop()], 1)))

    def decode_level2(self, y, skips):
        """Go up from level 3 to level 2."""
        return self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(y), skips.pop()], 1)))

    def decode_level1(self, y, skips, image):
        """Go up from level 2 to level 1 and to the restored image."""
        y = self.decoder_level1(torch.cat([self.up2_1(y), skips.pop()], 1))
        return self.output(self.refinement(y)) + image
