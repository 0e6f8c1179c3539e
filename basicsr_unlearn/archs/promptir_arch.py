"""PromptIR, written from the paper with the parameter names of the authors' checkpoints."""

import torch
from torch import nn
from torch.nn import functional as F

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.archs.blocks import RestormerBody, channels_last
from basicsr_unlearn.compat import register_unless_taken

DEAD = (
    'chnl_reduce1',
    'chnl_reduce2',
    'chnl_reduce3',
    'reduce_noise_channel_1',
    'reduce_noise_channel_2',
    'reduce_noise_channel_3',
)


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
        prompt = F.interpolate(channels_last(prompt), x.shape[-2:], mode='bilinear', align_corners=False)
        return self.conv3x3(prompt)


@register_unless_taken(ARCH_REGISTRY)
class PromptIR(RestormerBody):
    """All-in-one restorer with prompts in the decoder.

    Source: Potlapalli et al., PromptIR: Prompting for All-in-One Blind Image Restoration (NeurIPS 2023). With the
    default arguments it has the authors' 548 tensors and 35,592,263 parameters and loads their checkpoints. Six 1x1
    convolutions (`DEAD`) exist in those checkpoints and are never used: they are frozen here, so that distributed
    training needs no flag. Any other `dim` scales every width with it (the published code knows dim 48 only).

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
        prompt_sizes=(64, 32, 16),
        checkpoint=False,
    ):
        if not decoder:
            raise ValueError(
                'decoder: false is not a working PromptIR (it fails in the published code too). Set decoder: true.'
            )
        if len(prompt_sizes) != 3:
            raise ValueError(f'prompt_sizes: {list(prompt_sizes)} must be three numbers: of levels 1 to 3.')
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
            latent_dim=dim * 4,
        )
        p1, p2, p3 = (_scaled(width, dim) for width in (64, 128, 320))
        self.prompt1 = PromptGenBlock(p1, prompt_sizes[0], dim * 2)
        self.prompt2 = PromptGenBlock(p2, prompt_sizes[1], dim * 4)
        self.prompt3 = PromptGenBlock(p3, prompt_sizes[2], dim * 8)
        self.noise_level3 = self.block(dim * 8 + p3, heads[2])
        self.reduce_noise_level3 = self.conv1x1(dim * 8 + p3, dim * 4)
        self.noise_level2 = self.block(dim * 4 + p2, heads[2])
        self.reduce_noise_level2 = self.conv1x1(dim * 4 + p2, dim * 4)
        self.noise_level1 = self.block(dim * 2 + p1, heads[2])
        self.reduce_noise_level1 = self.conv1x1(dim * 2 + p1, dim * 2)
        self._add_dead_layers(dim, p1, p2, p3)

    def _add_dead_layers(self, dim, p1, p2, p3):
        unused = _scaled(256, dim)
        widths = (
            (p1, p1),
            (p2, p2),
            (p3, unused),
            (dim + p1, dim),
            (dim * 2 + p2, dim * 2),
            (dim * 4 + unused, dim * 4),
        )
        for name, (before, after) in zip(DEAD, widths, strict=True):
            self.add_module(name, self.conv1x1(before, after).requires_grad_(False))

    def forward(self, x):
        skips, y = self.encode(x)
        y = self.reduce_noise_level3(self.noise_level3(torch.cat([y, self.prompt3(y)], 1)))
        y = self.decode_level3(y, skips)
        y = self.reduce_noise_level2(self.noise_level2(torch.cat([y, self.prompt2(y)], 1)))
        y = self.decode_level2(y, skips)
        y = self.reduce_noise_level1(self.noise_level1(torch.cat([y, self.prompt1(y)], 1)))
        return self.decode_level1(y, skips, x)
