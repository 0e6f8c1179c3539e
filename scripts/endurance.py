"""Unlearn with a toy network for many iterations, and show that memory, open files and threads do not grow.

    python scripts/endurance.py --iterations 20000 --workers 0

Compares the end with iteration 500, child processes included. Exit status 1 if memory has grown by more than 5 %, or
open files or threads at all (with workers: by more than twenty files). Times are shown and judge nothing.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from glob import glob

import numpy as np
import small_run
from torch import nn
from tqdm import tqdm

import basicsr_unlearn  # noqa: F401
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.cli import main as basicsr
from basicsr_unlearn.models.summary import markdown_table
from basicsr_unlearn.models.unlearn_model import UnlearnModel

WARM = 500  # iterations after which nothing may grow
WINDOW = 20  # iterations of which the least counts
UNDER_WAY = 20  # open files: two workers have at most four batches of five tensors on their way


@ARCH_REGISTRY.register()
class TwoConvolutions(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))


class Watch:
    """Notes what the process and its children hold, and how long an iteration takes."""

    def __init__(self, iterations):
        self.least, self.times, self.last = {WARM: np.inf, iterations: np.inf}, [], time.perf_counter()
        self.bar = tqdm(total=iterations, unit='iteration')

    def __call__(self, iteration):
        now = time.perf_counter()
        self.times.append(now - self.last)
        self.last = now
        if iteration % 100 == 0:
            self.bar.update(100)
        for end in self.least:
            if end - WINDOW < iteration <= end:
                self.least[end] = np.minimum(self.least[end], held())


def held():
    """Return resident MiB, open files and threads of this process and its children."""
    total = np.zeros(3)
    for process in ['self', *children()]:
        with open(f'/proc/{process}/status') as file:
            status = dict(line.split(':', 1) for line in file)
        files = len(os.listdir(f'/proc/{process}/fd'))
        total += int(status['VmRSS'].split()[0]) / 1024, files, int(status['Threads'])
    return total


def children():
    """Return the process numbers of the children that live."""
    found = []
    for path in glob('/proc/self/task/*/children'):
        with suppress(OSError), open(path) as file:
            found += file.read().split()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--iterations', type=int, default=20000)
    parser.add_argument('--workers', type=int, default=0, help='num_worker_per_gpu')
    args = parser.parse_args()
    watch, step = Watch(args.iterations), UnlearnModel.optimize_parameters

    def watched(model, iteration):
        step(model, iteration)
        watch(iteration)

    UnlearnModel.optimize_parameters = watched
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        train = {'gt_size': 8, 'num_worker_per_gpu': args.workers, 'persistent_workers': args.workers > 0}
        logger = {'print_freq': 100, 'save_checkpoint_freq': 1000}
        network, method = {'type': 'TwoConvolutions'}, {'type': 'NegGrad'}
        small_run.write(folder, TwoConvolutions, network, train, method, args.iterations, logger)
        status = basicsr(['train', '-opt', 'options.yml'])
        os.chdir('/')
    watch.bar.close()
    early, late = (statistics.median(times) * 1000 for times in (watch.times[WARM:2500], watch.times[-2000:]))
    first, last = watch.least.values()
    rows = [
        ('', 'resident MiB', 'open files', 'threads', 'ms for an iteration'),
        (f'iteration {WARM}', *(f'{value:.0f}' for value in first), f'{early:.2f} (to 2500)'),
        (f'iteration {args.iterations}', *(f'{value:.0f}' for value in last), f'{late:.2f} (last 2000)'),
    ]
    print('\n'.join(markdown_table(rows)))
    allowed = first * [1.05, 1, 1] + [0, UNDER_WAY * (args.workers > 0), 0]
    sys.exit(1 if status or (last > allowed).any() else 0)


if __name__ == '__main__':
    main()
