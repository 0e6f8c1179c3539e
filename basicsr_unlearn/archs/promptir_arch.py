"""PromptIR, written from the paper with the parameter names of the authors' checkpoints."""

import torch
from torch import nn
from torch.nn import functional as F

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.archs.blocks import Downsample, PatchEmbed, TransformerBlock, Upsample
from basicsr_unlearn.compat import register_unless_taken


def _scaled(width, dim):
    """Return the multiple of 4 nearest to `width * dim / 48` (the published net has dim 48)."""
    return max(4, 4 * int(width * dim / 48 / 4 + 0.5))


class PromptGenBlock(nn.Module):
    """A mixture of learned prompts, weighted by what the features say of the degradation.

    Args:
        prompt_dim (int): Channels of a prompt.
        prompt_size (int): Height and width of a prompt in pixels; resized to the feature map.
        in_dim (int): Channels of the features.
        num_prompts (int): Number of prompts. Default: 5.
    """

    def __init__(self, prompt_dim, prompt_size, in_dim, num_prompts=5):
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, num_prompts, prompt_dim, prompt_size, prompt_size))
        self.linear_layer = nn.Linear(in_dim, num_prompts)
        self.conv3x3 = nn.Conv2d(prompt_dim, prompt_dim, 3, padding=1, bias=False)

    def forward(self, x):
        weights = self.linear_layer(x.mean(dim=(-2, -1))).softmax(dim=1)
        prompt = torch.einsum('np,pchw->nchw', weights, self.prompt_param[0])
        return self.conv3x3(F.interpolate(prompt, x.shape[-2:], mode='bilinear', align_corners=False))


@register_unless_taken(ARCH_REGISTRY)
class PromptIR(nn.Module):
    """All-in-one restorer with prompts in the decoder.

    Source: Potlapalli et al., PromptIR: Prompting for All-in-One Blind Image Restoration (NeurIPS 2023). With the
    default arguments it has the authors' 548 tensors and 35,592,263 parameters and loads their checkpoints. Six 1x1
    convolutions (`chnl_reduce*`, `reduce_noise_channel_*`) exist in those checkpoints and are never used: their
    gradient stays None. Any other `dim` scales every width with it.

    Args:
        inp_channels (int): Channels of the input image. Default: 3.
        out_channels (int): Channels of the output image, equal to `inp_channels`. Default: 3.
        dim (int): Channels of the first level, even; `dim * 2**i` must be divisible by `heads[i]`. Default: 48.
        num_blocks (list[int]): Transformer blocks of levels 1 to 3 and of the latent. Default: [4, 6, 6, 8].
        num_refinement_blocks (int): Blocks after the decoder. Default: 4.
        heads (list[int]): Attention heads of levels 1 to 3 and of the latent. Default: [1, 2, 4, 8].
        ffn_expansion_factor (float): Hidden width of the feed-forward layers. Default: 2.66.
        bias (bool): Bias of the convolutions in the blocks. Default: False.
        LayerNorm_type (str): `WithBias` or `BiasFree`. Default: `WithBias`.
        decoder (bool): Prompts in the decoder. Only True exists: without it the published net cannot run.
        prompt_sizes (list[int]): Height and width of the prompts of levels 1 to 3. Default: [64, 32, 16].

    Shapes: (N, 3, H, W) float in [0, 1] to the same shape; H and W are multiples of `size_multiple`.

    Raises:
        ValueError: An argument that gives no working network; a size that is no multiple of 8.
    """

    size_multiple = 8

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
        prompt_sizes=(64, 32, 16),
    ):
        super().__init__()
        if not decoder:
            raise ValueError(
                'network_g: decoder: false is not a working PromptIR (it fails in the published code too). '
                'Set decoder: true.'
            )
        if dim % 2 or any(dim * 2**level % number for level, number in enumerate(heads)):
            raise ValueError(
                f'network_g: dim: {dim} must be even and, doubled at each level, divisible by heads: {heads}.'
            )
        p1, p2, p3 = (_scaled(width, dim) for width in (64, 128, 320))
        dead = _scaled(256, dim)

        def block(channels, num_heads):
            return TransformerBlock(channels, num_heads, ffn_expansion_factor, bias, LayerNorm_type)

        def stage(channels, num_heads, number):
            return nn.Sequential(*(block(channels, num_heads) for _ in range(number)))

        def conv1x1(in_channels, channels):
            return nn.Conv2d(in_channels, channels, 1, bias=bias)

        self.patch_embed = PatchEmbed(inp_channels, dim)
        self.prompt1 = PromptGenBlock(p1, prompt_sizes[0], dim * 2)
        self.prompt2 = PromptGenBlock(p2, prompt_sizes[1], dim * 4)
        self.prompt3 = PromptGenBlock(p3, prompt_sizes[2], dim * 8)
        self.chnl_reduce1 = conv1x1(p1, p1)  # this and the reduce_noise_channel_* are never used: see the docstring
        self.chnl_reduce2 = conv1x1(p2, p2)
        self.chnl_reduce3 = conv1x1(p3, dead)

        self.reduce_noise_channel_1 = conv1x1(dim + p1, dim)
        self.encoder_level1 = stage(dim, heads[0], num_blocks[0])
        self.down1_2 = Downsample(dim)
        self.reduce_noise_channel_2 = conv1x1(dim * 2 + p2, dim * 2)
        self.encoder_level2 = stage(dim * 2, heads[1], num_blocks[1])
        self.down2_3 = Downsample(dim * 2)
        self.reduce_noise_channel_3 = conv1x1(dim * 4 + dead, dim * 4)
        self.encoder_level3 = stage(dim * 4, heads[2], num_blocks[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = stage(dim * 8, heads[3], num_blocks[3])

        self.up4_3 = Upsample(dim * 4)
        self.reduce_chan_level3 = conv1x1(dim * 6, dim * 4)
        self.noise_level3 = block(dim * 8 + p3, heads[2])
        self.reduce_noise_level3 = conv1x1(dim * 8 + p3, dim * 4)
        self.decoder_level3 = stage(dim * 4, heads[2], num_blocks[2])
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = conv1x1(dim * 4, dim * 2)
        self.noise_level2 = block(dim * 4 + p2, heads[2])
        self.reduce_noise_level2 = conv1x1(dim * 4 + p2, dim * 4)
        self.decoder_level2 = stage(dim * 2, heads[1], num_blocks[1])
        self.up2_1 = Upsample(dim * 2)
        self.noise_level1 = block(dim * 2 + p1, heads[2])
        self.reduce_noise_level1 = conv1x1(dim * 2 + p1, dim * 2)
        self.decoder_level1 = stage(dim * 2, heads[0], num_blocks[0])
        self.refinement = stage(dim * 2, heads[0], num_refinement_blocks)
        self.output = nn.Conv2d(dim * 2, out_channels, 3, padding=1, bias=bias)

    def forward(self, x):
        height, width = x.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f'PromptIR takes sizes that are multiples of {self.size_multiple}, not {height}x{width}. '
                'RestorationModel and UnlearnModel pad for you.'
            )
        level1 = self.encoder_level1(self.patch_embed(x))
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        latent = self.latent(self.down3_4(level3))

        y = torch.cat([latent, self.prompt3(latent)], 1)
        y = self.up4_3(self.reduce_noise_level3(self.noise_level3(y)))
        y = self.decoder_level3(self.reduce_chan_level3(torch.cat([y, level3], 1)))

        y = torch.cat([y, self.prompt2(y)], 1)
        y = self.up3_2(self.reduce_noise_level2(self.noise_level2(y)))
        y = self.decoder_level2(self.reduce_chan_level2(torch.cat([y, level2], 1)))

        y = torch.cat([y, self.prompt1(y)], 1)
        y = self.up2_1(self.reduce_noise_level1(self.noise_level1(y)))
        y = self.refinement(self.decoder_level1(torch.cat([y, level1], 1)))
        return self.output(y) + x
