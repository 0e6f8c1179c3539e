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


class AdversarialCache:
    """An LMDB `KEY_RANK.lmdb`: example and answer of each sample in half precision, nothing where the attack failed.

    Every `add` is one transaction, so that a killed process costs one batch; the next one goes on behind it. The key is
    a hash of everything that decides the content. A finished cache of the same key in an archived folder of the same
    experiment is taken over; those of other keys in this folder are removed. What it holds is as private as the forget
    images.

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
        os.makedirs(folder, exist_ok=True)
        for other in glob.glob(osp.join(glob.escape(folder), f'*_{rank}.lmdb')):
            if other != self.path:
                shutil.rmtree(other)
        self._take_over()
        needed = 2 * int(np.prod(self.shape)) * images + (1 << 20)
        free = shutil.disk_usage(folder).free
        if needed > free and not osp.isdir(self.path):
            raise InputError(
                f'{OPTION}: {images}: {needed >> 20} MiB are needed, {free >> 20} MiB are free in {folder}. '
                'Lower it, or set craft: online.'
            )
        self.map_size = 2 * needed + (16 << 20)
        with self._begin(write=True) as transaction:  # makes the file
            sizes = {name: len(content) for name, content in transaction.cursor()}
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
        folder, name = osp.split(self.path)
        experiment, folder = osp.split(folder)
        archived = glob.glob(osp.join(f'{glob.escape(experiment)}_archived_*', folder, name))
        if archived and not osp.isdir(self.path):
            shutil.move(max(archived, key=osp.getmtime), self.path)

    def __len__(self):
        return len(self.kept)

    def add(self, examples, answers, kept):
        """Append the examples of the next samples.

        Args:
            examples (Tensor): (N, 3, H, W) in [0, 1].
            answers (Tensor): What the original says of them, same shape.
            kept (Tensor): (N,), whether the attack succeeded.
        """
        pairs = torch.stack([examples, answers], 1).half().cpu().numpy()
        with self._begin(write=True) as transaction:
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
        shutil.rmtree(self.path)
        with suppress(OSError):  # other processes keep theirs in it
            os.rmdir(osp.dirname(self.path))
