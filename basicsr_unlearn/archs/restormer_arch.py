"""Restormer, written from the paper with the parameter names of the authors' checkpoints."""

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.archs.blocks import RestormerBody
from basicsr_unlearn.compat import register_unless_taken


@register_unless_taken(ARCH_REGISTRY)
class Restormer(RestormerBody):
    """Encoder-decoder with attention between channels.

    Source: Zamir et al., Restormer: Efficient Transformer for High-Resolution Image Restoration (CVPR 2022). With the
    default arguments it has the authors' 494 tensors and 26,126,644 parameters (`BiasFree`, their Gaussian denoisers:
    406 and 26,111,668) and loads their checkpoints.

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
        dual_pixel_task (bool): Only False exists here: defocus deblurring from two pixels is not all-in-one.
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
        dual_pixel_task=False,
        checkpoint=False,
    ):
        if dual_pixel_task:
            raise ValueError('dual_pixel_task: true is not supported. Remove it.')
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

    def forward(self, x):
        skips, y = self.encode(x)
        y = self.decode_level3(y, skips)
        y = self.decode_level2(y, skips)
        return self.decode_level1(y, skips, x)
