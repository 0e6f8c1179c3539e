"""Measuring restorers on whole validation sets, and the pictures of it."""

import os
from os import path as osp

import cv2
import numpy as np
import torch
import torch.distributed
from tqdm import tqdm

from basicsr.utils import tensor2img
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.data.image_header import check_bytes, read_file
from basicsr_unlearn.data.pairing import stem_of
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.metrics.chosen import choose_metrics, with_table
from basicsr_unlearn.metrics.protocol import centre_window
from basicsr_unlearn.models.inference import measuring, restore
from basicsr_unlearn.options import DRY_IMAGES, is_dry_run, tile_options

WHOLE = 1  # multiple of pixels that images are cut to


class Evaluator:
    """Measures networks with any registered metrics, each process on its share of the images.

    A metric is handed 8-bit BGR images as in BasicSR, or what it asks for (metrics/protocol.py): float RGB in [0, 1],
    not rounded, of images that are cut to a multiple of pixels before the network sees them.

    Args:
        opt (dict): The whole option tree; `val: tile` and `tile_overlap` are the tiles of `restore`, `val: pbar` shows
            (true) or hides (false) the progress bar, which else is shown on terminals.
        device (torch.device): Where the networks are.
        metrics (dict): As `val: metrics`. Default: those of `val: metrics`, and `psnr` and `ssim` of BasicSR (on RGB
            without border) unless they are among them.

    Raises:
        InputError: A metric or an option of it is unknown.
    """

    def __init__(self, opt, device, metrics=None):
        self.device, self.rank, self.world_size = device, opt['rank'], opt['world_size']
        self.tiles = tile_options(opt)
        val = opt.get('val') or {}
        self.metrics = choose_metrics(with_table(val.get('metrics')) if metrics is None else metrics)
        self.dry = is_dry_run(opt)
        self.groups = {}  # {form: rows of the metrics that want it}
        for row, metric in enumerate(self.metrics):
            self.groups.setdefault(metric.form, []).append(row)
        pbar = val.get('pbar')
        self.quiet = True if self.rank else None if pbar is None else not pbar  # None: only on a terminal

    def measure(self, nets, dataset, title, save_to=None):
        """Measure several networks on one set, reading every image once.

        Args:
            nets (dict): Name to network; None stands for the degraded input itself.
            dataset (Dataset): Items with `lq` and `gt`, (3, H, W) in [0, 1], and `lq_path`. `gt` may be absent where
                no metric needs it.
            title (str): Shown beside the progress bar.
            save_to (callable): Path of the picture to write for an image's base name; None writes none.

        Returns:
            dict: `{metric: {net: mean over the images}}`.

        Raises:
            InputError: An image is gone, damaged or too small for a metric, or a metric needs clean images.
        """
        totals = torch.zeros(len(self.metrics), len(nets), dtype=torch.float64)
        mine = range(self.rank, self.count(dataset), self.world_size)
        for index in tqdm(mine, title, unit='image', leave=False, disable=self.quiet):
            item, known = _read(dataset, index), {}
            name = stem_of(osp.basename(item['lq_path']))
            for form in self.groups:
                totals += self._measure(nets, item, form, known)
            if save_to:
                for result in self._restore(nets, item['lq'], WHOLE, known).values():
                    _write(_to_array(result), save_to(name))
        if self.world_size > 1:
            totals = totals.to(self.device)
            torch.distributed.all_reduce(totals)
        means = (totals.cpu() / self.count(dataset)).tolist()
        rows = [dict(zip(nets, row, strict=True)) for row in means]
        return {metric.name: row for metric, row in zip(self.metrics, rows, strict=True)}

    def count(self, dataset):
        """Return how many images of a set are measured: all, in a debug run a few."""
        return min(len(dataset), DRY_IMAGES) if self.dry else len(dataset)

    def _measure(self, nets, item, form, known):
        """Return (metrics, nets) with the values of one image for the metrics of one form, 0 for the others."""
        (crop, float_rgb), values = form, torch.zeros(len(self.metrics), len(nets), dtype=torch.float64)
        height, width = item['lq'].shape[-2:]
        if min(height, width) < crop:
            name = self.metrics[self.groups[form][0]].name
            raise InputError(
                f'val: metrics: {name}: {item["lq_path"]} of {width}x{height} pixels is too small for a cut to '
                f'multiples of {crop}. Take it out of the set.'
            )
        clean = _to_array(_cut(item['gt'], crop), float_rgb) if 'gt' in item else None
        for column, result in enumerate(self._restore(nets, item['lq'], crop, known).values()):
            array = _to_array(result, float_rgb)
            for row in self.groups[form]:
                values[row, column] = self.metrics[row](array, clean)
        return values

    def pictures(self, nets, dataset, number):
        """Return the first pictures of a set: for each a dict `{input, clean, and every net: (H, W, 3) uint8 BGR}`."""
        found = []
        for index in range(min(number, len(dataset))):
            item = _read(dataset, index)
            panels = self._restore({'input': None, **nets}, item['lq'], WHOLE, {})
            panels['clean'] = item['gt']
            found.append({name: _to_array(panel) for name, panel in panels.items()})
        return found

    def _restore(self, nets, lq, crop, known):
        """Return `{net: (1, 3, H, W) in [0, 1]}` of an image that is cut first; `known` holds those of other cuts."""
        image = _cut(lq, crop).unsqueeze(0).to(self.device)
        if image.shape not in known:
            known[image.shape] = {name: self._run(net, image).clamp(0, 1) for name, net in nets.items()}
        return known[image.shape]

    def _run(self, net, image):
        if net is None:
            return image
        with measuring(net):
            return restore(net, image, **self.tiles)


def _read(dataset, index):
    """Return an item. BasicSR's own data sets neither look at what they read nor name it: it is looked at before."""
    if type(dataset).__module__.startswith('basicsr.'):
        entry = dataset.paths[index] if hasattr(dataset, 'paths') else None
        for path in entry.values() if isinstance(entry, dict) else []:
            check_bytes(read_file(path), path)
    return dataset[index]


def _cut(image, crop):
    return image[(..., *centre_window(*image.shape[-2:], crop))]


def _to_array(image, float_rgb=False):
    """Return an image (1, 3, H, W) or (3, H, W) in [0, 1] as (H, W, 3): uint8 BGR, or float32 RGB."""
    return tensor2img([image], rgb2bgr=not float_rgb, out_type=np.float32 if float_rgb else np.uint8)


def _write(image, path):
    """Write an 8-bit BGR picture, whole or not at all."""
    os.makedirs(osp.dirname(path), exist_ok=True)
    atomic_write(cv2.imencode(osp.splitext(path)[1], image)[1].tobytes(), path)
