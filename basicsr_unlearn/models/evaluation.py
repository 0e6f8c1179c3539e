"""Measuring restorers on whole validation sets, and the pictures of it."""

from os import path as osp

import torch
import torch.distributed
from tqdm import tqdm

from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils import imwrite, tensor2img
from basicsr_unlearn.models.inference import restore
from basicsr_unlearn.options import tile_options


class Evaluator:
    """Measures PSNR (dB) and SSIM on 8-bit images as BasicSR does, each process on its share of the images.

    Args:
        opt (dict): The whole option tree; `val: metrics` may set `crop_border` and `test_y_channel` of calculate_psnr
            and calculate_ssim (defaults: 0, RGB), `val: tile` and `tile_overlap` the tiles of `restore`.
        device (torch.device): Where the networks are.
    """

    def __init__(self, opt, device):
        self.device, self.rank, self.world_size = device, opt['rank'], opt['world_size']
        self.tiles = tile_options(opt)
        self.metrics = {}
        chosen = {entry['type']: entry for entry in ((opt.get('val') or {}).get('metrics') or {}).values()}
        for name, function in (('psnr', calculate_psnr), ('ssim', calculate_ssim)):
            entry = chosen.get(f'calculate_{name}', {})
            options = {key: entry.get(key, default) for key, default in (('crop_border', 0), ('test_y_channel', False))}
            self.metrics[name] = (function, options)

    def measure(self, nets, dataset, title, save_to=None):
        """Measure several networks on one set, reading every image once.

        Args:
            nets (dict): Name to network; None stands for the degraded input itself.
            dataset (Dataset): Items with `lq` and `gt`, (3, H, W) in [0, 1], and `lq_path`.
            title (str): Shown beside the progress bar.
            save_to (callable): Path of the picture to write for an image's base name; None writes none.

        Returns:
            dict: `{metric: {net: mean over the images}}`.
        """
        totals = torch.zeros(len(self.metrics), len(nets), dtype=torch.float64)
        mine, quiet = range(self.rank, len(dataset), self.world_size), True if self.rank else None
        for index in tqdm(mine, title, unit='image', leave=False, disable=quiet):  # None: only on a terminal
            item = dataset[index]
            results = self._restore(nets, item['lq'])
            clean = tensor2img([item['gt']])
            for row, (metric, options) in enumerate(self.metrics.values()):
                for column, result in enumerate(results.values()):
                    totals[row, column] += float(metric(result, clean, **options))
            if save_to:
                name = osp.splitext(osp.basename(item['lq_path']))[0]
                for result in results.values():
                    imwrite(result, save_to(name))
        if self.world_size > 1:
            totals = totals.to(self.device)
            torch.distributed.all_reduce(totals)
        means = (totals.cpu() / len(dataset)).tolist()
        return {metric: dict(zip(nets, row, strict=True)) for metric, row in zip(self.metrics, means, strict=True)}

    def pictures(self, nets, dataset, number):
        """Return the first pictures of a set: for each a dict `{input, clean, and every net: (H, W, 3) uint8 BGR}`."""
        found = []
        for index in range(min(number, len(dataset))):
            item = dataset[index]
            panels = self._restore({'input': None, **nets}, item['lq'])
            found.append({**panels, 'clean': tensor2img([item['gt']])})
        return found

    def _restore(self, nets, lq):
        image = lq.unsqueeze(0).to(self.device)
        results = {}
        for name, net in nets.items():
            if net is None:
                results[name] = tensor2img([image])
                continue
            training = net.training
            net.eval()
            with torch.no_grad():
                results[name] = tensor2img([restore(net, image, **self.tiles)])
            net.train(training)
        return results
