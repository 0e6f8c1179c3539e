"""AdaIR, written from the paper with the parameter names of the authors' checkpoints."""

import torch
from torch import nn
from torch.nn import functional as F

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.archs.blocks import RestormerBody, channel_attention, channels_last, check_heads
from basicsr_unlearn.compat import register_unless_taken

PATCH = 128  # pixels; the published mask counts in units of this size


class ChannelCrossAttention(nn.Module):
    """Attention between the channels of two feature maps: queries from the first, keys and values from the second."""

    def __init__(self, dim, num_heads, bias=False):
        super().__init__()
        check_heads(dim, num_heads)
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.q = nn.Conv2d(dim, dim, 1, bias=bias)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=bias)
        self.kv = nn.Conv2d(dim, dim * 2, 1, bias=bias)
        self.kv_dwconv = nn.Conv2d(dim * 2, dim * 2, 3, padding=1, groups=dim * 2, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x, y):
        k, v = self.kv_dwconv(self.kv(y)).chunk(2, dim=1)
        return self.project_out(channel_attention(self.q_dwconv(self.q(x)), k, v, self.temperature))


class SpatialGate(nn.Module):
    """Weight of each pixel from the largest and the mean channel: (N, C, H, W) to (N, 1, H, W) in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        return self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)).sigmoid()


class ChannelGate(nn.Module):
    """Weight of each channel from its mean and its largest value: (N, C, H, W) to (N, C, 1, 1) in [0, 1]."""

    def __init__(self, dim):
        super().__init__()
        hidden = max(1, dim // 16)
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, dim, 1, bias=False)
        )

    def forward(self, x):
        return (self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True))).sigmoid()


class FreRefine(nn.Module):
    """Refine low and high frequencies with each other."""

    def __init__(self, dim):
        super().__init__()
        self.SpatialGate = SpatialGate()
        self.ChannelGate = ChannelGate(dim)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, low, high):
        return self.proj(low * self.SpatialGate(high) + high * self.ChannelGate(low))


class FreModule(nn.Module):
    """Adaptive frequency block: mines low and high frequencies of the image and lets the features attend to them.

    Args:
        dim (int): Channels of the features.
        num_heads (int): Attention heads.
        bias (bool): Bias of the attention's convolutions.
        in_channels (int): Channels of the image. Default: 3.
        soft_mask (bool): See AdaIR. Default: False.
    """

    def __init__(self, dim, num_heads, bias=False, in_channels=3, soft_mask=False):
        super().__init__()
        self.soft_mask = soft_mask
        self.para1 = nn.Parameter(torch.zeros(dim, 1, 1))
        self.para2 = nn.Parameter(torch.ones(dim, 1, 1))
        self.conv = nn.Conv2d(in_channels, dim, 3, padding=1, bias=False)  # never used, as score_gen
        self.conv1 = nn.Conv2d(in_channels, dim, 3, padding=1, bias=False)
        self.score_gen = nn.Conv2d(2, 2, 7, padding=3)
        self.channel_cross_l = ChannelCrossAttention(dim, num_heads, bias)
        self.channel_cross_h = ChannelCrossAttention(dim, num_heads, bias)
        self.channel_cross_agg = ChannelCrossAttention(dim, num_heads, bias)
        self.frequency_refine = FreRefine(dim)
        hidden = max(1, dim // 8)
        self.rate_conv = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False), nn.GELU(), nn.Conv2d(hidden, 2, 1, bias=False)
        )
        for part in (self.conv, self.score_gen, *([] if soft_mask else [self.rate_conv])):
            part.requires_grad_(False)

    def forward(self, x, y):
        """Take the image (N, 3, H, W) and features (N, C, H / s, W / s); return features of the same shape."""
        x = F.interpolate(channels_last(x), y.shape[-2:], mode='bilinear', align_corners=False)
        low, high = self.split_frequencies(self.conv1(x))
        high = self.channel_cross_l(high, y)  # the two names are swapped in the checkpoints
        low = self.channel_cross_h(low, y)
        return self.channel_cross_agg(y, self.frequency_refine(low, high)) * self.para1 + y * self.para2

    def split_frequencies(self, z):
        """Split (N, C, H, W) into the moduli of its low and its high frequencies; the mask depends on the image.

        The published mask is empty where a side is below 128 pixels, and (the rate is below one) below 256.
        """
        height, width = z.shape[-2:]
        if not self.soft_mask and min(height, width) < PATCH:
            return torch.zeros_like(z), z.abs()
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            rate = self.rate_conv(z.mean((2, 3), keepdim=True)).sigmoid().flatten(1)
            mask = self._axis_mask(rate[:, 0], height).unsqueeze(2) * self._axis_mask(rate[:, 1], width).unsqueeze(1)
            low = torch.fft.ifft2(torch.fft.fft2(z) * mask.unsqueeze(1))
            return channels_last(low.abs()), channels_last((z - low).abs())

    def _axis_mask(self, rate, size):
        """Return (N, size): which of the frequencies of an axis, in the order of the FFT, count as low."""
        frequency = torch.fft.fftfreq(size, 1 / size, device=rate.device).round()
        if self.soft_mask:
            return (rate.unsqueeze(1) * size / 2 - frequency.abs()).sigmoid()
        half = (size // PATCH * rate).int().unsqueeze(1)
        return ((frequency >= -half) & (frequency < half)).float()


@register_unless_taken(ARCH_REGISTRY)
class AdaIR(RestormerBody):
    """All-in-one restorer: a Restormer with adaptive frequency blocks in the decoder.

    Source: Cui et al., AdaIR: Adaptive All-in-One Image Restoration via Frequency Mining and Modulation (ICLR 2025).
    With the default arguments it has the authors' 587 tensors and 28,784,824 parameters and loads their checkpoints.
    What the published network does, and this one therefore too:

    - The mask between low and high frequencies is counted in units of 128 pixels of the *feature map*, and cut to whole
      numbers. It is empty for images below 512 pixels in `fre3`, 1024 in `fre2`, 2048 in `fre1`, training patches of
      128 pixels included: there `low` is zero and `high` the modulus of all. The cut also stops the gradient, so that
      `rate_conv` is never trained. `soft_mask` repairs both, for new trainings.
    - `conv`, `score_gen` and `rate_conv` of the blocks (15 tensors) never get a gradient. They are frozen here, so that
      distributed training needs no flag.
    - `channel_cross_l` attends to the high frequencies and `channel_cross_h` to the low ones.

    Args:
        inp_channels (int): Channels of the input image (the published code knows 3 only). Default: 3.
        out_channels (int): Channels of the output image, equal to `inp_channels`. Default: 3.
        dim (int): Channels of the first level, even; `dim * 2**i` must be divisible by `heads[i]`, `dim * 2` by
            `heads[2]`. Default: 48.
        num_blocks (list[int]): Transformer blocks of levels 1 to 3 and of the latent. Default: [4, 6, 6, 8].
        num_refinement_blocks (int): Blocks after the decoder. Default: 4.
        heads (list[int]): Attention heads of levels 1 to 3 and of the latent. Default: [1, 2, 4, 8].
        ffn_expansion_factor (float): Hidden width of the feed-forward layers. Default: 2.66.
        bias (bool): Bias of the convolutions in the blocks. Default: False.
        LayerNorm_type (str): `WithBias` or `BiasFree`. Default: `WithBias`.
        decoder (bool): Only True exists: without its blocks the network is `Restormer`.
        soft_mask (bool): Let the rate choose a share of all frequencies, with a soft edge, so that the blocks work at
            every size and `rate_conv` learns. Changes what a published checkpoint computes. Default: False.
        checkpoint (bool): Keep no activations inside transformer blocks and compute them again in the backward pass:
            less memory, more time. Default: False.

    Shapes: (N, 3, H, W) float in [0, 1] to the same shape; H and W are multiples of `size_multiple`.

    Raises:
        ValueError: An argument that gives no working network; a size that is no multiple of 8.
    """

    def __init__(
        self,
        inp_channels=3,
        out_channels=3,
        dim=48,
        num_blocks=(4, 6, 6, 8),
        num_refinement_blocks=4,
        heads=(1, 2, 4, 8),
        ffn_expansion_factor=2.66,
        bias=False,
        LayerNorm_type='WithBias',
        decoder=True,
        soft_mask=False,
        checkpoint=False,
    ):
        if not decoder:
            raise ValueError('decoder: false makes AdaIR a Restormer. Set type: Restormer instead.')
        super().__init__(
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
        )
        self.fre1 = FreModule(dim * 8, heads[2], bias, inp_channels, soft_mask)
        self.fre2 = FreModule(dim * 4, heads[2], bias, inp_channels, soft_mask)
        self.fre3 = FreModule(dim * 2, heads[2], bias, inp_channels, soft_mask)

    def forward(self, x):
        skips, y = self.encode(x)
        y = self.decode_level3(self.fre1(x, y), skips)
        y = self.decode_level2(self.fre2(x, y), skips)
        return self.decode_level1(self.fre3(x, y), skips, x)
