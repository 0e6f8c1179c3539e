"""Adversarial examples on disk, crafted once and drawn from during the run."""

import glob
import hashlib
import json
import os
import shutil
from contextlib import contextmanager, suppress
from os import path as osp

import lmdb
import numpy as np
import torch

from basicsr_unlearn.errors import InputError

OPTION = 'train: method: cache_images'
COST = b'cost'  # where the file keeps what its samples cost


class AdversarialCache:
    """An LMDB `KEY_RANK.lmdb`: example and answer of each sample in half precision, nothing where the attack failed.

    Every `add` is one transaction, so that a killed process costs one batch; the next one goes on behind it. The key is
    a hash of everything that decides the content. A cache of the same key in an archived folder of the same experiment
    is taken over; those of other keys are removed, here and where the archived run never ended. What it holds is as
    private as the forget images.

    Attributes:
        done (int): Samples that were tried so far.
        cost (float): What these cost, in image-forward-equivalents.

    Args:
        folder (str): `experiments/NAME/adversarial_cache`; made where it is missing.
        settings (dict): What decides the content: weights, data, attack.
        images (int): Samples of this process.
        size (int): Height and width in pixels.
        rank (int): Of this process. Default: 0.

    Raises:
        InputError: The disk is full.
    """

    def __init__(self, folder, settings, images, size, rank=0):
        key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
        self.path, self.images, self.shape = osp.join(folder, f'{key}_{rank}.lmdb'), images, (2, 3, size, size)
        for abandoned in (folder, *self._archived()):
            for other in glob.glob(osp.join(glob.escape(abandoned), f'*_{rank}.lmdb')):
                if osp.basename(other) != osp.basename(self.path):
                    _remove(other)
        os.makedirs(folder, exist_ok=True)
        self._take_over()
        needed = needed_bytes(images, size)
        free = shutil.disk_usage(folder).free
        if needed > free and not osp.isdir(self.path):
            raise InputError(
                f'{OPTION}: {images}: {needed >> 20} MiB are needed, {free >> 20} MiB are free in {folder}. '
                'Lower it, or set craft: online.'
            )
        self.map_size = 2 * needed + (16 << 20)
        with self._begin(write=True) as transaction:  # makes the file
            self.cost = float(transaction.get(COST) or 0)
            sizes = {name: len(content) for name, content in transaction.cursor() if name != COST}
        self.done = len(sizes)
        self.kept = [name for name, size in sizes.items() if size]

    @contextmanager
    def _begin(self, write=False):
        """Open the file for one transaction: nothing is left open for a process that ends in the middle of a run."""
        with lmdb.open(self.path, map_size=self.map_size, readonly=not write, lock=write) as store:
            with store.begin(write=write) as transaction:
                yield transaction

    def _take_over(self):
        """Move a cache of the same key here from where BasicSR has archived the experiment of the same name."""
        same = [osp.join(folder, osp.basename(self.path)) for folder in self._archived(ended_too=True)]
        same = [path for path in same if osp.isdir(path)]
        if same and not osp.isdir(self.path):
            shutil.move(max(same, key=osp.getmtime), self.path)

    def _archived(self, ended_too=False):
        """Return the folders of caches of archived runs that never ended, with `ended_too` of all archived runs."""
        experiment, name = osp.split(osp.dirname(self.path))
        found = glob.glob(osp.join(f'{glob.escape(experiment)}_archived_*', name))
        ended = [osp.isfile(osp.join(osp.dirname(path), 'unlearn_summary.json')) for path in found]
        return [path for path, over in zip(found, ended, strict=True) if ended_too or not over]

    def __len__(self):
        return len(self.kept)

    def add(self, examples, answers, kept, cost=0.0):
        """Append the examples of the next samples.

        Args:
            examples (Tensor): (N, 3, H, W) in [0, 1].
            answers (Tensor): What the original says of them, same shape.
            kept (Tensor): (N,), whether the attack succeeded.
            cost (float): What they cost, in image-forward-equivalents.
        """
        self.cost += cost
        pairs = torch.stack([examples, answers], 1).half().cpu().numpy()
        with self._begin(write=True) as transaction:
            transaction.put(COST, repr(self.cost).encode())
            for pair, keep in zip(pairs, kept.tolist(), strict=True):
                name = f'{self.done:08d}'.encode()
                transaction.put(name, pair.tobytes() if keep else b'')
                self.done += 1
                if keep:
                    self.kept.append(name)

    def read(self, numbers):
        """Return examples and answers, (N, 3, H, W) float32 each, of N numbers below `len`."""
        with self._begin() as transaction:
            contents = [np.frombuffer(transaction.get(self.kept[number]), np.float16) for number in numbers]
        pairs = torch.from_numpy(np.stack(contents)).float()
        return pairs.view(len(contents), *self.shape).unbind(1)

    def remove(self):
        """Delete the file, and the folder where it was the last."""
        _remove(self.path)


def needed_bytes(images, size):
    """Return how much of the disk a cache of this many samples of `size` pixels takes at most."""
    return 2 * images * 2 * 3 * size**2 + (1 << 20)


def _remove(path):
    shutil.rmtree(path)
    with suppress(OSError):  # other processes keep theirs in it
        os.rmdir(osp.dirname(path))
