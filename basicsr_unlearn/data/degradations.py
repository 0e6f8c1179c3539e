"""Degradations made on the fly: gaussian noise, haze, rain.

Every degradation is called as `degrade(image, rng, depth=None)`: a clean image (H, W, 3), float32 in [0, 1], becomes a
degraded image of the same kind whose values lie on the 8-bit grid, as if it had been stored as a PNG.
"""

import cv2
import numpy as np

from basicsr_unlearn.errors import InputError


def _to_8bit(image):
    return np.round(np.clip(image, 0, 1) * 255).astype(np.float32) / 255


def draw_depth(rng, height, width):
    """Draw a smooth depth map in [0, 1], far (1) towards the top: what a photograph without depth is given.

    Returns:
        ndarray: (height, width), float32.
    """
    coarse = rng.random((4, 5), dtype=np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    slope = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    share = rng.uniform(0.4, 0.8)
    return np.clip(share * slope + (1 - share) * smooth, 0, 1)


class GaussianNoise:
    """White gaussian noise, cut (not rounded) to 8 bits as the all-in-one recipe of AirNet and PromptIR does.

    Args:
        sigma (float | list[float]): Standard deviation in grey levels of 255; a list is drawn from. Default: 25.
    """

    def __init__(self, sigma=25):
        self.sigmas = list(sigma) if isinstance(sigma, (list, tuple)) else [sigma]
        if not self.sigmas or not all(isinstance(s, (int, float)) and 0 < s <= 255 for s in self.sigmas):
            raise InputError(f'degradation: sigma: {sigma} must be numbers in (0, 255].')

    def __call__(self, image, rng, depth=None):
        sigma = self.sigmas[rng.integers(len(self.sigmas))]
        noisy = np.round(image * 255) + sigma * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(noisy, 0, 255).astype(np.uint8).astype(np.float32) / 255


class Haze:
    """Homogeneous haze by the scattering law I = J t + A (1 - t), t = exp(-beta d) (Koschmieder; He et al. 2009).

    Args:
        beta (list[float]): Range of the scattering coefficient per unit of depth. Default: [0.6, 2.0].
        airlight (list[float]): Range of the airlight A in [0, 1]. Default: [0.7, 1.0].

    The depth d in [0, 1] is that of the scene where one is known, else a drawn one (`draw_depth`).
    """

    def __init__(self, beta=(0.6, 2.0), airlight=(0.7, 1.0)):
        self.beta = _range('beta', beta, 0, 20)
        self.airlight = _range('airlight', airlight, 0, 1)

    def __call__(self, image, rng, depth=None):
        if depth is None:
            depth = draw_depth(rng, *image.shape[:2])
        airlight = rng.uniform(*self.airlight)
        transmission = np.exp(-rng.uniform(*self.beta) * depth)[..., None]
        return _to_8bit(image * transmission + airlight * (1 - transmission))


class Rain:
    """Rain streaks: sparse drops smeared along one direction and added to the image (the model of Rain100L).

    Args:
        density (list[float]): Range of the share of pixels where a streak starts. Default: [0.002, 0.012].
        length (list[float]): Range of the length of a streak in pixels. Default: [9, 25].
        strength (list[float]): Range of the brightness of a streak in [0, 1]. Default: [0.3, 0.8].
        angle (list[float]): Range of the angle to the vertical in degrees. Default: [-30, 30].
    """

    def __init__(self, density=(0.002, 0.012), length=(9, 25), strength=(0.3, 0.8), angle=(-30, 30)):
        self.density = _range('density', density, 0, 1)
        self.length = _range('length', length, 1, 200)
        self.strength = _range('strength', strength, 0, 1)
        self.angle = _range('angle', angle, -90, 90)

    def __call__(self, image, rng, depth=None):
        height, width = image.shape[:2]
        length = int(round(rng.uniform(*self.length)))
        size = length | 1
        drops = rng.random((height + size, width + size), dtype=np.float32) < rng.uniform(*self.density)
        drops = drops * rng.uniform(0.5, 1.0, drops.shape).astype(np.float32)
        kernel = np.zeros((size, size), np.float32)
        kernel[:, size // 2] = np.hanning(size + 2)[1:-1]
        turn = cv2.getRotationMatrix2D((size // 2, size // 2), rng.uniform(*self.angle), 1)
        kernel = cv2.warpAffine(kernel, turn, (size, size))
        streaks = cv2.GaussianBlur(cv2.filter2D(drops, -1, kernel), (3, 3), rng.uniform(0.4, 0.8))
        streaks = streaks[size // 2 : size // 2 + height, size // 2 : size // 2 + width]
        return _to_8bit(image + rng.uniform(*self.strength) * np.clip(streaks, 0, 1)[..., None])


DEGRADATIONS = {'gaussian_noise': GaussianNoise, 'haze': Haze, 'rain': Rain}


def build_degradation(opt):
    """Build a degradation from an option such as `{type: gaussian_noise, sigma: [15, 25, 50]}`.

    Raises:
        InputError: An unknown type or key, or a value out of range.
    """
    opt = dict(opt)
    kind = opt.pop('type', None)
    if not isinstance(kind, str) or kind not in DEGRADATIONS:
        raise InputError(f'degradation: type: {kind} is unknown. Choose one of {", ".join(sorted(DEGRADATIONS))}.')
    try:
        return DEGRADATIONS[kind](**opt)
    except TypeError as error:
        raise InputError(f'degradation: {kind}: {str(error).split("() ")[-1]}.') from None


def _range(name, value, low, high):
    value = list(value) if isinstance(value, (list, tuple)) else [value, value]
    numbers = all(isinstance(v, (int, float)) for v in value)
    if len(value) != 2 or not numbers or not low <= value[0] <= value[1] <= high:
        raise InputError(f'degradation: {name}: {value} must be a number or [low, high] within [{low}, {high}].')
    return value
