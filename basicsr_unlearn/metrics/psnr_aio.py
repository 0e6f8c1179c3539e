"""PSNR as the all-in-one papers measure it."""

import numpy as np
from skimage.metrics import peak_signal_noise_ratio

from basicsr.utils.registry import METRIC_REGISTRY
from basicsr_unlearn.compat import register_unless_taken
from basicsr_unlearn.metrics.protocol import MULTIPLE, as_float_rgb, takes_float_rgb


@register_unless_taken(METRIC_REGISTRY)
@takes_float_rgb(crop=MULTIPLE)
def calculate_psnr_aio(img, img2, **kwargs):
    """Calculate PSNR by the protocol of PromptIR and AdaIR.

    RGB, no border, no Y channel; both images cut to the centre of multiples of 16 pixels before the network sees the
    degraded one; the result cut to [0, 1] and not rounded to 8 bits; scikit-image's `peak_signal_noise_ratio` with
    `data_range=1`; the mean over the images of a set. Our validation (RestorationModel, UnlearnModel) does all of it.

    Called by anything else, the network has seen the whole image, and the cut happens here. That differs a little: the
    network knew some pixels more. BasicSR's own validation also hands 8-bit images: the result is rounded, which
    moves PSNR by some thousandths of a dB.

    Args:
        img (ndarray): (H, W, 3): float RGB in [0, 1], or uint8 BGR as BasicSR hands it to metrics.
        img2 (ndarray): The clean image, likewise.

    Returns:
        float: dB; infinite for equal images.

    Raises:
        ValueError: The images differ in size.
        InputError: An image smaller than 16 pixels.
    """
    result, clean = as_float_rgb(img, img2, MULTIPLE)
    with np.errstate(divide='ignore'):
        return float(peak_signal_noise_ratio(clean, result, data_range=1))
