"""Layers that the Restormer family of restorers shares.

Source: Zamir et al., Restormer: Efficient Transformer for High-Resolution Image Restoration (CVPR 2022). Written from
the paper; attribute names are those of the published checkpoints. Feature maps have shape (N, C, H, W).
"""

import torch
from torch import nn
from torch.nn import functional as F


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


class Attention(nn.Module):
    """Multi-head attention between channels (transposed attention, equation 1 of the paper)."""

    def __init__(self, dim, num_heads, bias=False):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, dim * 3, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(dim * 3, dim * 3, 3, padding=1, groups=dim * 3, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = self.qkv_dwconv(self.qkv(x)).reshape(n, 3, self.num_heads, c // self.num_heads, h * w).unbind(1)
        attn = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        out = (attn * self.temperature).softmax(dim=-1) @ v
        return self.project_out(out.reshape(n, c, h, w))


class FeedForward(nn.Module):
    """Gated feed-forward layer (equation 2 of the paper)."""

    def __init__(self, dim, expansion_factor=2.66, bias=False):
        super().__init__()
        hidden = int(dim * expansion_factor)
        self.project_in = nn.Conv2d(dim, hidden * 2, 1, bias=bias)
        self.dwconv = nn.Conv2d(hidden * 2, hidden * 2, 3, padding=1, groups=hidden * 2, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x):
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    """Attention and feed-forward layer, each behind a LayerNorm and inside a residual."""

    def __init__(self, dim, num_heads, expansion_factor=2.66, bias=False, layer_norm_type='WithBias'):
        super().__init__()
        self.norm1 = LayerNorm(dim, layer_norm_type)
        self.attn = Attention(dim, num_heads, bias)
        self.norm2 = LayerNorm(dim, layer_norm_type)
        self.ffn = FeedForward(dim, expansion_factor, bias)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class PatchEmbed(nn.Module):
    """3x3 convolution from the image to the first feature map."""

    def __init__(self, in_channels, dim, bias=False):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, padding=1, bias=bias)

    def forward(self, x):
        return self.proj(x)


class Downsample(nn.Module):
    """Halve the size and double the channels: (N, C, H, W) to (N, 2C, H/2, W/2)."""

    def __init__(self, dim):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x):
        return self.body(x)


class Upsample(nn.Module):
    """Double the size and halve the channels: (N, C, H, W) to (N, C/2, 2H, 2W)."""

    def __init__(self, dim):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim * 2, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x):
        return self.body(x)
