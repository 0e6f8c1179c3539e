"""How fast training pairs come, and how long a training step waits for them.

    python scripts/benchmark_loading.py
    python scripts/benchmark_loading.py --data my/haze          # a folder with lq/ and gt/

Three kinds of source (files, LMDBs, clean files degraded on the fly) with 0, 2 and 4 worker processes take turns in one
process, so that whatever else the machine does hits all alike; medians over the rounds are printed. `pairs a second`:
forget and retain pairs that BasicSR's loader hands over when nothing else is done. `waiting`: share of a step of
UnlearnModel (NegGrad, a small PromptIR) that is spent in `next()` of the loader.
"""

import argparse
import os
import statistics
import tempfile
import time
from os import path as osp

import cv2
import numpy as np
import torch
from benchmark_step import option_tree

import basicsr_unlearn  # noqa: F401
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher
from basicsr_unlearn.archs.promptir_arch import PromptIR
from basicsr_unlearn.atomic import atomic_save
from basicsr_unlearn.data.degradations import Haze
from basicsr_unlearn.data.lmdb_files import write_lmdb
from basicsr_unlearn.data.scenes import draw_scene
from basicsr_unlearn.models.summary import markdown_table
from basicsr_unlearn.models.unlearn_model import UnlearnModel

WORKERS = (0, 2, 4)
EPOCHS = 10**6  # in one: the loader never ends


def write_pairs(root, number, size):
    """Write pairs of drawn scenes as PNG files into `root/lq` and `root/gt`."""
    for side in ('lq', 'gt'):
        os.makedirs(osp.join(root, side))
    for index in range(number):
        clean, depth = draw_scene(np.random.default_rng(index), size)
        for side, image in (('lq', Haze()(clean, np.random.default_rng(index), depth)), ('gt', clean)):
            cv2.imwrite(osp.join(root, side, f'{index:04d}.png'), np.round(image * 255).astype(np.uint8))


def sources(data, scratch):
    """Return `{name: source}` of one folder of pairs."""
    folders = {'dataroot_lq': osp.join(data, 'lq'), 'dataroot_gt': osp.join(data, 'gt')}
    stored = {key: osp.join(scratch, f'{key}.lmdb') for key in folders}
    for key, folder in folders.items():
        write_lmdb(folder, sorted(os.listdir(folder)), stored[key])
    noise = {'type': 'gaussian_noise', 'sigma': [15, 25, 50]}
    return {
        'files': folders,
        'LMDB': {**stored, 'io_backend': {'type': 'lmdb'}},
        'on the fly': {'dataroot_gt': folders['dataroot_gt'], 'degradation': noise},
    }


def build_loader(source, workers, args):
    """Build the loader that a training uses."""
    opt = {
        'name': 'train',
        'phase': 'train',
        'type': 'ForgetRetainPairedDataset',
        'forget': source,
        'retain': {'kept': {**source, 'target': 'gt'}},
        'gt_size': args.patch,
        'use_hflip': True,
        'use_rot': True,
        'batch_size_per_gpu': args.images,
        'num_worker_per_gpu': workers,
        'manual_seed': 0,
    }
    data = build_dataset(opt)
    return build_dataloader(data, opt, num_gpu=0, sampler=EnlargedSampler(data, 1, 0, EPOCHS), seed=0)


def build_model(args, scratch):
    """Build the model whose steps are timed."""
    weights = osp.join(scratch, 'original.pth')
    opt = option_tree(args, weights)
    kwargs = {key: value for key, value in opt['network_g'].items() if key != 'type'}
    atomic_save({'params': PromptIR(**kwargs).state_dict()}, weights)
    opt['train'].update(method={'type': 'NegGrad'}, stop={'every': 10**6})
    model = UnlearnModel(opt)
    model.clock = time.time()  # no reports, no probes: the step alone
    return model


def measure(loader, workers, model, args):
    """Return pairs a second, and the share of a step spent waiting, both with full queues behind them."""
    loads = CPUPrefetcher(loader)  # starts the workers
    for _ in range(2 * workers + 1):
        loads.next()
    started = time.perf_counter()
    for _ in range(args.batches):
        loads.next()
    rate = 2 * args.images * args.batches / (time.perf_counter() - started)
    waited = total = 0
    for number in range(args.batches + 2):
        started = time.perf_counter()
        batch = loads.next()
        handed_over = time.perf_counter()
        model.feed_data(batch)
        model.optimize_parameters(1)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= 2:
            waited += handed_over - started
            total += time.perf_counter() - started
    return rate, waited / total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', metavar='FOLDER', help='pairs in lq/ and gt/. Default: drawn scenes')
    parser.add_argument('--number', type=int, default=32, help='scenes to draw. Default: 32')
    parser.add_argument('--size', type=int, default=384, help='of a scene, in pixels. Default: 384')
    parser.add_argument('--patch', type=int, default=64, help='pixels. Default: 64')
    parser.add_argument('--images', type=int, default=4, help='n: forget images, and retain images. Default: 4')
    parser.add_argument('--batches', type=int, default=16, help='of a turn. Default: 16')
    parser.add_argument('--rounds', type=int, default=5, help='turns of each. Default: 5')
    parser.add_argument('--dim', type=int, default=8, help='of the network. Default: 8')
    parser.add_argument('--blocks', type=int, nargs=4, default=[1, 1, 1, 1], help='of the network. Default: 1 1 1 1')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not args.data:
            args.data = osp.join(scratch, 'pairs')
            write_pairs(args.data, args.number, args.size)
        model = build_model(args, scratch)
        found = sources(args.data, scratch)
        loaders = {(name, workers): build_loader(found[name], workers, args) for name in found for workers in WORKERS}
        results = {kind: [] for kind in loaders}
        for _ in range(args.rounds):
            for (name, workers), loader in loaders.items():
                results[name, workers].append(measure(loader, workers, model, args))
    rows = [('source', 'workers', 'pairs a second', 'waiting')]
    for (name, workers), values in results.items():
        rate, share = map(statistics.median, zip(*values, strict=True))
        rows.append((name, str(workers), f'{rate:.0f}', f'{share:.1%}'))
    print('\n'.join(markdown_table(rows)))


if __name__ == '__main__':
    main()
