"""Train restorers from scratch on photographs and on their protected copies, and compare what both have learnt.

    basicsr protect -i photographs -o out
    python scripts/judge_protection.py --photographs photographs --protected out/release --heldout others

Every row is a way to use what was released: as it is, after JPEG or a blur, mixed with other photographs, for another
network. Both columns of a row have the same recipe (patches of 48 pixels, batches of 8, AdamW at 2e-3 with a cosine,
L1) and the same random numbers. PSNR in dB on centres of 192 pixels of the held-out photographs and on twelve drawn
scenes. The yardsticks have a quarter of the photographs, or none of them: drawn scenes alone.
"""

import argparse
import json
from itertools import islice

import cv2
import numpy as np
import torch

from basicsr_unlearn import option_file
from basicsr_unlearn.archs.promptir_arch import PromptIR
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.attacks import surrogate
from basicsr_unlearn.attacks.targets import psnr
from basicsr_unlearn.data.crops import random_crop
from basicsr_unlearn.data.degradations import build_degradation
from basicsr_unlearn.data.pairing import find_images
from basicsr_unlearn.data.scenes import draw_scene
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.pictures import read_picture
from basicsr_unlearn.models.summary import markdown_table

CENTRE, SCENES, FIRST_HELDOUT = 192, 64, 10**6  # pixels; for training; number of the first of twelve to test on
HEADER = ('restorer trained on', 'photographs', 'protected', 'difference', 'scenes: phot.', 'protected', 'difference')


def jpeg(image):
    code = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def blur(image):
    return cv2.GaussianBlur(image, (3, 3), 0.7)


def read(option, folder):
    """Return the pictures of a folder, (H, W, 3) uint8 each."""
    return [read_picture(path).to_8_bits() for path in find_images(option, {'dataroot_gt': folder})]


def scenes(first, number):
    """Return drawn scenes, as `read` does."""
    drawn = [draw_scene(np.random.default_rng(first + i), CENTRE)[0][..., ::-1] for i in range(number)]
    return [np.round(image * 255).astype(np.uint8) for image in drawn]


def to_tensor(images):
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)).float() / 255


def centres(images):
    """Return the centres of 192 pixels of those that are as large, (N, 3, 192, 192)."""
    found = []
    for image in images:
        top, left = ((length - CENTRE) // 2 for length in image.shape[:2])
        if min(top, left) >= 0:
            found.append(image[top : top + CENTRE, left : left + CENTRE])
    if not found:
        raise InputError(f'--heldout: no picture of at least {CENTRE}x{CENTRE} pixels. Give another folder.')
    return to_tensor(found)


def promptir(seed):
    """Return an untrained PromptIR of 8 channels."""
    torch.manual_seed(seed)
    return PromptIR(dim=8, num_blocks=[1] * 4, num_refinement_blocks=1, prompt_sizes=[16, 8, 4])


def learn(images, net, degrade, iterations, seed):
    """Train a net on patches of 48 pixels of the images."""
    rng, size = np.random.default_rng(seed), surrogate.PATCH

    def draw():
        patches = []
        for number in rng.integers(len(images), size=surrogate.BATCH):
            patches += random_crop([images[number]], rng, size, 'a picture')
        return to_tensor(patches)

    return surrogate.train(net, draw, degrade, rng, iterations, 'training')


def measure(net, clean, degrade):
    """Return the mean PSNR of a restorer on degraded images; the same degradation whenever it is asked for."""
    lq = surrogate.degraded(clean, degrade, np.random.default_rng(7))
    with torch.no_grad():
        results = torch.cat([net(image) for image in lq.split(4)])
    return psnr(results.clamp(0, 1), clean).mean().item()


def rows(args):
    """Yield (name, photographs, protected or None, net) of every row."""
    own, protected, others = (
        read(f'--{name}', getattr(args, name)) if getattr(args, name) else []
        for name in ('photographs', 'protected', 'others')
    )
    yield 'what was released', own, protected, surrogate.small_net
    yield 'a quarter of the photographs', own[::4], None, surrogate.small_net
    yield 'none of them: drawn scenes', scenes(0, SCENES), None, surrogate.small_net
    for name, change in (('the same after JPEG 75', jpeg), ('the same, blurred', blur)):
        yield name, list(map(change, own)), list(map(change, protected)), surrogate.small_net
    if others:
        yield 'the same and as many others', own + others, protected + others, surrogate.small_net
    yield 'what was released, PromptIR', own, protected, promptir


def judge(args):
    """Return the rows of the table, and write them to `--out` after each."""
    degrade = build_degradation(option_file.forced_value(args.degradation, '--degradation'))
    tests = centres(read('--heldout', args.heldout)[:: args.every]), to_tensor(scenes(FIRST_HELDOUT, 12))
    table = []
    for name, own, protected, net in islice(rows(args), args.rows):
        values = []
        for images in (own, protected):
            nets = (
                [learn(images, net(seed), degrade, args.iterations, seed) for seed in range(args.seeds)]
                if images
                else []
            )
            values.append([[measure(trained, clean, degrade) for trained in nets] for clean in tests])
        table.append({'row': name, 'photographs': values[0], 'protected': values[1]})
        if args.out:
            atomic_write(json.dumps(table, indent=2) + '\n', args.out)
    return table


def cells(entry):
    """Return the cells of a row: means over the seeds, on photographs and on scenes."""
    found = [entry['row']]
    for own, protected in zip(entry['photographs'], entry['protected'], strict=True):
        own, protected = np.mean(own), np.mean(protected) if protected else None
        found.append(f'{own:.2f}')
        found += [f'{protected:.2f}', f'{protected - own:+.2f}'] if protected is not None else ['', '']
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photographs', required=True, help='folder that was protected')
    parser.add_argument('--protected', required=True, help='folder release/ of basicsr protect')
    parser.add_argument('--heldout', required=True, help='folder of photographs to measure on')
    parser.add_argument('--others', help='folder of photographs that are mixed in')
    parser.add_argument('--every', type=int, default=1, help='measure on every n-th of --heldout. Default: 1')
    parser.add_argument('--degradation', default='{type: gaussian_noise, sigma: 25}')
    parser.add_argument('--iterations', type=int, default=600)
    parser.add_argument('--seeds', type=int, default=1, help='trainings of each cell, averaged. Default: 1')
    parser.add_argument('--rows', type=int, help='only this many, from the top. Default: all')
    parser.add_argument('--out', help='JSON file of all values')
    args = parser.parse_args(argv)
    try:
        table = judge(args)
    except InputError as error:
        parser.error(str(error))
    print('\n'.join(markdown_table([HEADER, *map(cells, table)])))


if __name__ == '__main__':
    main()
