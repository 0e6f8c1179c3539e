"""Clean training scenes with true depth, drawn on the fly: the data of the quickstart, which downloads nothing.

Source: the dead-leaves model (Matheron 1968; Lee, Mumford and Huang, IJCV 2001): shapes of power-law size that
occlude one another have the edges, the scale invariance and the histograms of photographs. Each shape carries a depth
here, so that haze can follow the scattering law.
"""

import cv2
import numpy as np


def draw_scene(rng, size):
    """Draw one scene.

    Args:
        rng (numpy.random.Generator): Source of all randomness.
        size (int): Height and width in pixels.

    Returns:
        tuple(ndarray, ndarray): The image (size, size, 3), float32 in [0, 1] on the 8-bit grid, channel order BGR, and
        its depth (size, size), float32, 0 near to 1 far.
    """
    big = size * 2  # drawn at twice the size and averaged down: soft edges
    number = int(rng.integers(20, 90))
    labels = np.zeros((big, big), np.int32)
    radii = big * rng.uniform(0.03, 0.12) * (1 - rng.random(number) * 0.995) ** -0.5
    centres = rng.integers(0, big, (number, 2))
    for i in range(number):
        _fill(labels, rng, tuple(map(int, centres[i])), float(min(radii[i], big * 0.35)), i + 1)

    y, x = np.mgrid[0:big, 0:big].astype(np.float32) / big
    colour = _colours(rng, number + 1)[labels]
    shade = rng.normal(0, 0.25, (number + 1, 2)).astype(np.float32)[labels]
    shading = 1 + shade[..., 0] * (x - 0.5) + shade[..., 1] * (y - 0.5)
    image = colour * shading[..., None] + _texture(rng, labels, number + 1, x, y)[..., None]
    image = np.clip(image, 0, 1) ** rng.uniform(0.7, 1.6)

    order = np.sort(rng.random(number + 1, dtype=np.float32))[::-1]  # painted from far to near
    depth = (order / order[0])[labels] if rng.random() < 0.5 else (0.6 * order / order[0])[labels] + 0.4 * (1 - y)
    image = cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    depth = cv2.resize(np.clip(depth, 0, 1).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.round(image * 255).astype(np.float32) / 255, depth


def _fill(labels, rng, centre, radius, label):
    kind = rng.integers(3)
    if kind == 0:
        axes = (int(radius) + 1, int(radius * rng.uniform(0.3, 1)) + 1)
        cv2.ellipse(labels, centre, axes, float(rng.uniform(0, 180)), 0, 360, label, -1)
        return
    corners = 4 if kind == 1 else int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if kind == 2 else np.arange(4) * np.pi / 2 + rng.uniform(0, 7)
    reach = radius * (rng.uniform(0.5, 1.3, corners) if kind == 2 else 1)
    points = np.stack([centre[0] + reach * np.cos(angles), centre[1] + reach * np.sin(angles)], 1)
    cv2.fillPoly(labels, [points.astype(np.int32)], label)


def _colours(rng, number):
    """Draw `number` colours: grey levels of any brightness, most of them little saturated, some strongly."""
    grey = rng.beta(1.1, 1.4, (number, 1))
    tint = rng.normal(0, 1, (number, 3)) * rng.gamma(1.5, 0.08, (number, 1))
    return np.clip(grey + tint, 0, 1).astype(np.float32)


def _texture(rng, labels, number, x, y):
    """Draw a texture for each label: a plane wave and band-limited noise, both of random strength."""
    frequency = rng.uniform(3, 60, number)
    angle = rng.uniform(0, np.pi, number)
    wave = np.stack([frequency * np.cos(angle), frequency * np.sin(angle), rng.uniform(0, 6, number)]).astype(
        np.float32
    )
    strength = (rng.exponential(0.05, (2, number)) * (rng.random((2, number)) < 0.5)).astype(np.float32)
    size = labels.shape[0]
    noise = rng.standard_normal((size, size), dtype=np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.8, 3)))
    grain /= grain.std() + 1e-6
    waves = np.sin(2 * np.pi * (wave[0][labels] * x + wave[1][labels] * y) + wave[2][labels])
    return strength[0][labels] * waves + strength[1][labels] * grain
