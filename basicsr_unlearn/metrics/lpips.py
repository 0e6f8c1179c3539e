"""LPIPS through torchmetrics, an optional extra."""

import functools

import numpy as np
import torch

from basicsr.utils.registry import METRIC_REGISTRY
from basicsr_unlearn.compat import register_unless_taken
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.metrics.protocol import as_float_rgb, takes_float_rgb


@register_unless_taken(METRIC_REGISTRY)
@takes_float_rgb(better='lower')
def calculate_lpips(img, img2, net='alex', **kwargs):
    """Calculate LPIPS, the distance of two images in the features of a trained classifier.

    Whole RGB images in [0, 1], not rounded, no cut; torchmetrics' `LearnedPerceptualImagePatchSimilarity` with
    `normalize=True`, on the CPU; the mean over the images of a set. The classifier's weights are fetched by
    torchvision on first use and kept in `TORCH_HOME`.

    Source: Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric, CVPR 2018.

    Args:
        img (ndarray): (H, W, 3): float RGB in [0, 1], or uint8 BGR as BasicSR hands it to metrics.
        img2 (ndarray): The clean image, likewise.
        net (str): `alex`, `vgg` or `squeeze`. Default: `alex`.

    Returns:
        float: 0 for equal images; lower is better.

    Raises:
        InputError: torchmetrics is not installed, or the weights cannot be fetched.
    """
    images = as_float_rgb(img, img2)
    tensors = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None] for image in images]
    metric = _metric(net)
    with torch.no_grad():
        value = float(metric(*tensors))
    metric.reset()
    return value


@functools.lru_cache(1)
def _metric(net):
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    except ImportError:
        raise InputError(
            'calculate_lpips: torchmetrics is not installed: pip install "basicsr-unlearn[eval]"'
        ) from None
    try:
        return LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True)
    except OSError as error:  # of urllib
        raise InputError(
            f'calculate_lpips: the weights of net: {net} cannot be fetched ({error}). Put the file that torchvision '
            'downloads into TORCH_HOME/hub/checkpoints.'
        ) from None
