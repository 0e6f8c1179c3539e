"""SSIM as the all-in-one papers measure it."""

from skimage.metrics import structural_similarity

from basicsr.utils.registry import METRIC_REGISTRY
from basicsr_unlearn.compat import register_unless_taken
from basicsr_unlearn.metrics.protocol import MULTIPLE, as_float_rgb, takes_float_rgb


@register_unless_taken(METRIC_REGISTRY)
@takes_float_rgb(crop=MULTIPLE)
def calculate_ssim_aio(img, img2, **kwargs):
    """Calculate SSIM by the protocol of PromptIR and AdaIR.

    Images as for `calculate_psnr_aio` (float RGB in [0, 1], not rounded, cut to multiples of 16 before the network);
    scikit-image's `structural_similarity` with `data_range=1` and its defaults: a uniform window of 7x7 pixels, sample
    covariance, K1 = 0.01, K2 = 0.03, the mean over the three channels. BasicSR's `calculate_ssim` uses a Gaussian
    window of 11x11, so the two are not comparable: they differ by about 0.01 on noisy photographs.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, TIP 2004.

    Args:
        img (ndarray): (H, W, 3): float RGB in [0, 1], or uint8 BGR as BasicSR hands it to metrics.
        img2 (ndarray): The clean image, likewise.

    Returns:
        float: 1 for equal images.

    Raises:
        ValueError: The images differ in size.
        InputError: An image smaller than 16 pixels.
    """
    result, clean = as_float_rgb(img, img2, MULTIPLE)
    return float(structural_similarity(clean, result, data_range=1, channel_axis=-1))
