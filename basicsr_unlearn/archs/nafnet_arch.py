"""NAFNet, written from the paper with the parameter names of the authors' checkpoints."""

import torch
from torch import nn
from torch.nn import functional as F

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.archs.blocks import CheckpointedBlock, channels_last
from basicsr_unlearn.compat import register_unless_taken


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of (N, C, H, W), eps 1e-6."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-6)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def simple_gate(x):
    """Product of the two halves of the channels."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(CheckpointedBlock):
    """Depthwise convolution with channel attention, then a feed-forward layer; gates instead of activations."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels * 2, 1)
        self.conv2 = nn.Conv2d(channels * 2, channels * 2, 3, padding=1, groups=channels * 2)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv4 = nn.Conv2d(channels, channels * 2, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.norm1 = LayerNorm2d(channels)
        self.norm2 = LayerNorm2d(channels)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def compute(self, x):
        y = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(y * self.sca(y)) * self.beta
        return x + self.conv5(simple_gate(self.conv4(self.norm2(x)))) * self.gamma


@register_unless_taken(ARCH_REGISTRY)
class NAFNet(nn.Module):
    """Nonlinear activation free network.

    Source: Chen et al., Simple Baselines for Image Restoration (ECCV 2022). With the default arguments it is the
    published width 32 for denoising, 29,159,715 parameters, and loads its checkpoint. It pads any size to a multiple of
    2**levels with zeros at right and bottom, as the published one does; RestorationModel and UnlearnModel pad by
    reflection before that.

    Args:
        img_channel (int): Channels of the image. Default: 3.
        width (int): Channels of the first level. Default: 32.
        middle_blk_num (int): Blocks of the lowest level. Default: 12.
        enc_blk_nums (list[int]): Blocks of each level on the way down. Default: [2, 2, 4, 8].
        dec_blk_nums (list[int]): Blocks of each level on the way up, lowest first; as many numbers as enc_blk_nums.
            Default: [2, 2, 2, 2].
        checkpoint (bool): Keep no activations inside blocks and compute them again in the backward pass: less memory,
            more time. Default: False.

    Shapes: (N, 3, H, W) float in [0, 1] to the same shape.

    Raises:
        ValueError: As many levels down as up are needed.
    """

    def __init__(
        self,
        img_channel=3,
        width=32,
        middle_blk_num=12,
        enc_blk_nums=(2, 2, 4, 8),
        dec_blk_nums=(2, 2, 2, 2),
        checkpoint=False,
    ):
        super().__init__()
        if len(enc_blk_nums) != len(dec_blk_nums):
            raise ValueError(
                f'enc_blk_nums: {list(enc_blk_nums)} and dec_blk_nums: {list(dec_blk_nums)} must have as '
                'many levels each.'
            )

        def stage(channels, number):
            return nn.Sequential(*(NAFBlock(channels) for _ in range(number)))

        levels = [width * 2**level for level in range(len(enc_blk_nums))]
        self.size_multiple = 2 ** len(levels)
        self.intro = nn.Conv2d(img_channel, width, 3, padding=1)
        self.ending = nn.Conv2d(width, img_channel, 3, padding=1)
        self.encoders = nn.ModuleList(stage(c, n) for c, n in zip(levels, enc_blk_nums, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(c, c * 2, 2, stride=2) for c in levels)
        self.middle_blks = stage(width * 2 ** len(levels), middle_blk_num)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c * 2, c * 4, 1, bias=False), nn.PixelShuffle(2)) for c in reversed(levels)
        )
        self.decoders = nn.ModuleList(stage(c, n) for c, n in zip(reversed(levels), dec_blk_nums, strict=True))
        for module in self.modules():
            if isinstance(module, NAFBlock):
                module.checkpoint = checkpoint

    def forward(self, x):
        height, width = x.shape[-2:]
        image = F.pad(x, (0, -width % self.size_multiple, 0, -height % self.size_multiple))
        y = self.intro(channels_last(image))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle_blks(y)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips), strict=True):
            y = decoder(channels_last(up(y)) + skip)
        return (self.ending(y) + image)[..., :height, :width]
