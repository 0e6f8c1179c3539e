"""The part of `basicsr check` that looks at the machine: is there room on the disk, and in memory?"""

import os
import shutil
from os import path as osp

import torch

from basicsr_unlearn import options
from basicsr_unlearn.check_images import CLEAN
from basicsr_unlearn.data.degraded_image_dataset import CROP
from basicsr_unlearn.models import estimate
from basicsr_unlearn.models.inference import AT_ONCE

MEMORY = '/proc/meminfo'


def check_disk(opt, net, sets, report):
    """Compare what the run writes with what is free where it writes."""
    hidden = opt['is_train'] and options.is_private(opt)
    shown = [one for one in sets if one.measured and not (hidden and one.part == 'forget')]
    pixels = {one.option: sum(_area(image) for image in one.side(CLEAN).values()) for one in shown}
    parts = estimate.disk_bytes(opt, net, pixels)
    needed, free = sum(parts.values()), shutil.disk_usage(os.getcwd()).free
    text = ', '.join(f'{name} {_mib(size)}' for name, size in parts.items() if size) or 'a log'
    report.add(
        'disk space',
        'ok' if needed < free else 'error',
        f'{_mib(needed)} MiB needed at most ({text}), {_mib(free)} MiB free in {os.getcwd()}.'
        + ('' if needed < free else ' Set logger: keep_last, or a larger save_checkpoint_freq.'),
    )


def _area(image):
    return image[1].width * image[1].height


def check_memory(opt, net, sets, baseline, report):
    """Compare the estimated peak of a training step and of measuring with what is free on the device."""
    gpu = opt['num_gpu'] != 0 and torch.cuda.is_available()
    try:
        parts = _passes(opt, net, sets)
    except Exception as error:  # a network that looks at the values of its images cannot be rehearsed
        if report.failed:
            raise
        report.add(
            'memory', 'warning', f'no estimate for this network ({type(error).__name__}); train --debug measures.'
        )
        return
    kept = estimate.kept_bytes(opt, net) if opt['is_train'] else 0
    needed = estimate.MARGIN * max(parts.values()) + kept + (0 if gpu else baseline)
    free = torch.cuda.mem_get_info()[0] if gpu else _free_memory() + baseline
    text = ', '.join(f'{name} {_mib(size)}' for name, size in parts.items())
    report.add(
        'memory',
        'ok' if needed < free else 'warning',
        f'about {_mib(needed)} MiB at the peak ({text}, copies of the weights and optimizer {_mib(kept)}), '
        f'{_mib(free)} MiB free on the {"GPU" if gpu else "CPU"}.'
        + ('' if needed < free else ' Lower batch_size_per_gpu or gt_size, or set val: tile.'),
    )


def _passes(opt, net, sets):
    """Return `{what: bytes}` of the largest image that is measured, and of a training step."""
    tiles = options.tile_options(opt)
    images = [image for one in sets if one.measured for _, image in one.side(CLEAN).values()]
    sizes = [(image.height, image.width) for image in images]
    largest = max(sizes or [(CROP, CROP)], key=lambda size: size[0] * size[1])
    multiple = tiles['multiple'] or getattr(net, 'size_multiple', getattr(net, 'window_size', 1))
    height, width = (-(-min(size, tiles['tile'] or size) // multiple) * multiple for size in largest)
    at_once = max(1, AT_ONCE // (height * width)) if tiles['tile'] else 1
    measuring = estimate.pass_bytes(net, at_once, height, width, training=False)
    found = {f'measuring {width}x{height} pixels': measuring}
    if opt['is_train']:
        images, size = estimate.images_in_step(opt), opt['datasets']['train']['gt_size']
        bf16 = opt['train'].get('amp') == 'bf16'
        step = estimate.pass_bytes(net, images, size, size, training=True, bf16=bf16)
        found[f'a step on {images} images of {size}x{size}'] = step
    return found


def _free_memory():
    """Return the bytes that new processes may take without swapping."""
    if not osp.isfile(MEMORY):
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    with open(MEMORY, encoding='ascii') as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith('MemAvailable'))


def _mib(size):
    return f'{size / 2**20:.0f}'
