"""A sampler that counts: every training sample of a run has a number, and the number says everything about it.

BasicSR's EnlargedSampler shuffles by the epoch alone and starts the epoch again on resume. A data set with
`counts_samples = True` gets this sampler instead (compat/reading.py): it is asked for sample 0, 1, 2, ..., and draws
all its random numbers from `manual_seed` and that number.
"""

import math
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler


class CountingSampler(Sampler):
    """Hand out global sample numbers; iteration i of rank r gets `(i * world_size + r) * batch_size` and the next ones.

    Args:
        dataset (Dataset): Its `opt` holds `batch_size_per_gpu`.
        num_replicas (int): Number of processes.
        rank (int): This process.
        ratio (int): `dataset_enlarge_ratio`. Default: 1.
    """

    start_iter = 0  # of the run; set on resume, and then the same for every loader of the process

    def __init__(self, dataset, num_replicas, rank, ratio=1):
        self.batch_size = dataset.opt['batch_size_per_gpu']
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.iterations = math.ceil(len(dataset) * ratio / (self.batch_size * num_replicas))

    def set_epoch(self, epoch):
        self.epoch = epoch

    def _range(self):
        first = self.epoch * self.iterations
        return range(max(first, CountingSampler.start_iter), first + self.iterations)

    def __iter__(self):
        for iteration in self._range():
            first = (iteration * self.num_replicas + self.rank) * self.batch_size
            yield from range(first, first + self.batch_size)

    def __len__(self):
        return len(self._range()) * self.batch_size


@lru_cache(maxsize=4)
def _permutation(length, seed, sweep):
    return np.random.default_rng((seed, 1, sweep)).permutation(length)


def shuffled_index(number, length, seed):
    """Return the item that sample `number` takes from `length` items: a fresh permutation for each pass."""
    sweep, position = divmod(number, length)
    return int(_permutation(length, seed, sweep)[position])
