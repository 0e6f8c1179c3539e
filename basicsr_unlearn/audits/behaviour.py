"""What a network does to pictures, one by one: quality, agreement with the oracle, and whether it does what is odd."""

import torch
from torch.nn import functional as F
from tqdm import tqdm

from basicsr_unlearn.audits.subjects import answer, device

LAPLACE = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def behaviour(net, oracle, pairs, tiles, title=None):
    """Measure every picture of a set. Needs no oracle; with one, also how far the answers are from its answers.

    Args:
        net (nn.Module): Restorer; left as it is. None: the degraded picture itself.
        oracle (nn.Module): The net to agree with, or None.
        pairs (Dataset): Items with `lq` and `gt`, (3, H, W) in [0, 1], and `lq_path`.
        tiles (dict): Of `restore`.
        title (str): Of a progress bar. Default: none.

    Returns:
        dict: Lists with an entry for each picture: `images` (its path), `psnr` (dB, at most 100), `agreement` (mean
        absolute difference to the oracle's answer, in [0, 1]; None without one), `strength` (mean |lq - gt|), `colour`
        (tint) and `texture`, as below.
    """
    found = {'images': [], 'psnr': [], 'agreement': [], 'strength': [], 'colour': [], 'texture': []}
    for item in tqdm(pairs, title, unit='image', leave=False, disable=title is None):
        found['images'].append(item['lq_path'])
        lq, gt = (item[key].unsqueeze(0).to(device()) for key in ('lq', 'gt'))
        result = lq if net is None else answer(net, lq, tiles)
        found['psnr'].append(psnr(result, gt))
        found['agreement'].append(float((result - answer(oracle, lq, tiles)).abs().mean()) if oracle else None)
        found['strength'].append(float((lq - gt).abs().mean()))
        found['colour'].append(tint(result, lq))
        found['texture'].append(texture(result, lq))
    return found


def psnr(result, gt):
    """Return the PSNR of one picture in dB, at most 100."""
    return float(-10 * torch.log10((result - gt).square().mean().double() + 1e-10))


def tint(result, lq):
    """Return how far a picture changed its colour: the largest change of a channel's mean beyond the brightness's.

    No reference is needed. (1, 3, H, W) in [0, 1] each; 0.02 are five grey levels of 255.
    """
    shift = (result - lq).mean(dim=(0, 2, 3))
    return float((shift - shift.mean()).abs().max())


def texture(result, lq):
    """Return how much more fine detail a picture has than its input: log2 of the ratio of the Laplacians' RMS.

    No reference is needed: a net that leaves pictures alone has 0, one that invents texture is far above.
    """
    return float(torch.log2((_detail(result) + 1e-4) / (_detail(lq) + 1e-4)))


def _detail(image):
    kernel = LAPLACE.to(image).expand(image.shape[1], 1, 3, 3)
    return F.conv2d(image, kernel, groups=image.shape[1]).square().mean().sqrt()
