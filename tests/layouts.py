"""Folder trees with tiny images, named as the READMEs of PromptIR and AdaIR prescribe."""

import cv2
import numpy as np

HAZY = ('0.8_0.04', '0.8_0.1', '1_0.2')
PAIRED = {'Train/Deblur': ('blur', 'sharp'), 'Train/Enhance': ('low', 'gt'), 'test/deblur/gopro': ('input', 'target')}
PAIRED.update({'test/enhance/lol': ('input', 'target'), 'test/derain/Rain100L': ('input', 'target')})


def write_image(path, seed, height=128, width=136):
    """Write an image of smooth random colours; the suffix says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def write_reside(folder, parts, clean_suffix='.jpg', **size):
    """Write RESIDE OTS: `parts` lists for each part the clean names; HAZY says how each of them is degraded."""
    for number, names in enumerate(parts, 1):
        for name in names:
            write_image(folder / 'original' / f'{name}{clean_suffix}', int(name), **size)
            for haze in HAZY:
                write_image(folder / 'synthetic' / f'part{number}' / f'{name}_{haze}.jpg', int(name) + 1, **size)


def write_rain100l(folder, number, **size):
    """Write Rain100L's training set: rainy/rain-1.png and gt/norain-1.png."""
    for index in range(1, number + 1):
        write_image(folder / 'rainy' / f'rain-{index}.png', index, **size)
        write_image(folder / 'gt' / f'norain-{index}.png', index + 1, **size)


def write_data_root(root):
    """Write Train/ and test/ with a few images of every set."""
    write_reside(root / 'Train/Dehaze', [['0025', '0039'], ['3068']])
    write_rain100l(root / 'Train/Derain', 2)
    for name in ('00001.bmp', '00012.bmp', '5096.jpg'):
        write_image(root / 'Train/Denoise' / name, len(name))
    for folder, sides in PAIRED.items():
        for side in sides:
            for name in ('1.png', '22.png'):
                write_image(root / folder / side / name, len(side))
    for name, haze in (('0001', '0.8_0.2'), ('0002', '0.8_0.08'), ('0002', '0.9_0.1')):
        write_image(root / 'test/dehaze/input' / f'{name}_{haze}.jpg', 1)
        write_image(root / 'test/dehaze/target' / f'{name}.png', 2)
    for name in ('3096.jpg', '12084.jpg'):
        write_image(root / 'test/denoise/bsd68' / name, 3)
