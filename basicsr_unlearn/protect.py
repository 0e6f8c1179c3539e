"""`basicsr protect`: an experiment that perturbs photographs before their release, so that they teach less."""

import json
import os
import time
from os import path as osp

import numpy as np
import torch
from tqdm import tqdm

from basicsr_unlearn import __version__, option_file, restore_folder
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.attacks import surrogate
from basicsr_unlearn.data.degradations import build_degradation
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.pictures import Picture, read_picture, write_png
from basicsr_unlearn.models.tensorboard import sheet

RELEASE, RECORD, SHEET = 'release', 'protect.json', 'comparison.png'
LARGEST_EPS, MOST_STEPS, LAST_SEED = 64, 1000, 2**31 - 1
GAIN = 8  # of the change on the sheet
ABOUT = f"""An experiment: perturb photographs before their release, by at most EPS grey levels, so that restorers
trained on them learn less. Protection, not unlearning: nothing that is trained or released already changes. The effect
is small, that of plain noise, and JPEG undoes it (options/README.md, protect). Writes OUT/{RELEASE}/NAME.png, and
beside that folder, not to be released, {SHEET} and {RECORD}. OUT must be new or empty. 8 or 16 bits, grey, alpha and
colour profiles stay."""


def add_command(commands):
    """Add `protect` to the command line."""
    text = 'experiment: perturb photographs so that restorers learn less from them'
    command = commands.add_parser('protect', help=text, description=ABOUT)
    command.add_argument('-i', '--input', required=True, metavar='FOLDER', help='photographs, or one photograph')
    command.add_argument('-o', '--output', required=True, metavar='OUT', help='folder of the results')
    command.add_argument('--eps', type=int, default=8, help='largest change in grey levels of 255. Default: 8')
    command.add_argument('--steps', type=int, default=5, help='gradient steps on each photograph. Default: 5')
    command.add_argument('--seed', type=int, default=0, help='of all draws. Default: 0')
    command.add_argument(
        '--degradation',
        default='{type: gaussian_noise, sigma: 25}',
        metavar='SECTION',
        help='what others are expected to degrade the photographs with, as in an option file. Default: %(default)s',
    )
    command.set_defaults(run=_protect)


def _protect(options):
    section = option_file.forced_value(options.degradation, f'--degradation {options.degradation}')
    record, skipped = run(options.input, options.output, options.eps, options.steps, options.seed, section)
    print(
        f'protected {len(record["pictures"])} photographs in {osp.join(options.output, RELEASE)}: at most '
        f'{record["largest_change"]:g} grey levels, PSNR {record["psnr"]:.2f} dB, L1 of the surrogate '
        f'{record["l1"]["photographs"]:.4f} before and {record["l1"]["protected"]:.4f} after'
    )
    if skipped:
        print(f'left alone {len(skipped)} files that are no pictures: {", ".join(skipped[:5])}')
    return 0


def run(source, target, eps, steps, seed, degradation):
    """Perturb a photograph or a folder of photographs, subfolders included.

    All options and all pixels are looked at before the first file is written. On a CPU equal seeds give equal files.

    Args:
        source (str): Photograph or folder.
        target (str): Folder of the results, new or empty.
        eps (int): Largest change of a value, in grey levels of 255.
        steps (int): Gradient steps on each photograph.
        seed (int): Of all draws.
        degradation (dict | str): What others are expected to degrade with: a section, or its `type`.

    Returns:
        tuple(dict, list): What `protect.json` holds, and names of the files that are no pictures.

    Raises:
        InputError: A bad option or picture, or files in the output folder.
    """
    started = time.time()
    for option, value, low, high in (
        ('eps', eps, 1, LARGEST_EPS),
        ('steps', steps, 1, MOST_STEPS),
        ('seed', seed, 0, LAST_SEED),
    ):
        if not low <= value <= high:
            raise InputError(f'--{option} {value}: must be a whole number from {low} to {high}.')
    degradation = degradation if isinstance(degradation, dict) else {'type': degradation}
    degrade = build_degradation(degradation)
    if osp.lexists(target) and not (osp.isdir(target) and not os.listdir(target)):
        raise InputError(f'-o {target}: exists already and is no empty folder. Give another one.')
    jobs, skipped = restore_folder.plan(source, osp.join(target, RELEASE), False)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    patches = _patches([job.source for job in jobs], np.random.default_rng(seed)).to(device)
    net = surrogate.train_surrogate(patches, degrade, eps, seed)
    pictures = []
    for number, job in enumerate(tqdm(jobs, 'protecting', unit='photograph', disable=None)):
        rng = np.random.default_rng([seed, number])
        picture = read_picture(job.source)
        image = picture.to_tensor().to(device)
        protected = picture.with_colour(surrogate.hardest_of_any_size(net, image, degrade, eps, steps, rng))
        if number == 0:
            write_png(osp.join(target, SHEET), _sheet(picture, protected))
        write_png(job.target, protected)
        name = osp.relpath(job.target, osp.join(target, RELEASE))
        pictures.append({'name': name, **_measure(net, picture, protected, degrade, [seed, number], device)})
    record = _record(pictures, {'degradation': degradation, 'eps': eps, 'steps': steps, 'seed': seed}, started)
    atomic_write(json.dumps(record, indent=2) + '\n', osp.join(target, RECORD))
    return record, skipped


def _patches(paths, rng):
    """Read every photograph in full, and cut as many patches of each; (N, 3, 48, 48)."""
    size, patches = surrogate.PATCH, []
    for path in tqdm(paths, 'reading photographs', unit='photograph', disable=None):
        image = read_picture(path).to_tensor()[0]
        height, width = image.shape[1:]
        if min(height, width) < size:
            raise InputError(f'{path}: {width}x{height} pixels are less than {size}x{size}. Take it out of the folder.')
        for _ in range(-(-surrogate.POOL // len(paths))):
            top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
            patches.append(image[:, top : top + size, left : left + size].clone())
    return torch.stack(patches)


def _measure(net, picture, protected, degrade, seed, device):
    """Return PSNR and largest change of a photograph, and the surrogate's loss on a centre of 256 pixels of both."""
    scale = np.iinfo(picture.colour.dtype).max / 255
    change = (protected.colour.astype(np.float64) - picture.colour) / scale
    values = {}
    for name, own in (('photographs', picture), ('protected', protected)):
        image = own.to_tensor()
        top, left = (max(0, (length - 256) // 2) for length in image.shape[2:])
        image = image[..., top : top + 256, left : left + 256].to(device)
        with torch.no_grad():
            values[name] = surrogate.loss(net, image, degrade, np.random.default_rng(seed)).item()
    psnr = float(-10 * np.log10(max(np.square(change / 255).mean(), 1e-10)))
    return {'psnr': psnr, 'largest_change': float(np.abs(change).max()), 'l1': values}


def _sheet(picture, protected):
    change = GAIN * (protected.to_8_bits().astype(np.int64) - picture.to_8_bits()) + 128
    panels = {'photograph': picture.to_8_bits(), 'protected': protected.to_8_bits()}
    panels[f'change x {GAIN}'] = change.clip(0, 255).astype(np.uint8)
    return Picture(sheet(panels, list(panels)))


def _record(pictures, options, started):
    return {
        'version': __version__,
        **options,
        'seconds': round(time.time() - started, 1),
        'psnr': float(np.mean([entry['psnr'] for entry in pictures])),
        'largest_change': max(entry['largest_change'] for entry in pictures),
        'l1': {
            kind: float(np.mean([entry['l1'][kind] for entry in pictures])) for kind in ('photographs', 'protected')
        },
        'pictures': pictures,
    }
