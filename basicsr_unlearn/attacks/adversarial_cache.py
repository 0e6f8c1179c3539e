"""Adversarial examples on disk, crafted once and drawn from during the run."""

import errno
import glob
import hashlib
import json
import os
import shutil
from contextlib import contextmanager, suppress
from os import path as osp

import lmdb
import torch

from basicsr_unlearn.errors import InputError

OPTION = 'train: method: cache_images'
SPARE = 1 << 20  # bytes that must be free
COST = b'cost'  # where the file keeps what its samples cost


class AdversarialCache:
    """An LMDB `KEY_RANK.lmdb`: example and answer of each sample in half precision, nothing where the attack failed.

    Every process writes its own and reads all of them, in a folder that all can read. Every `add` is one transaction,
    so that a killed process costs one batch; the next one goes on behind it. The key is a hash of everything that
    decides the content. A cache of the same key in an archived folder of the same experiment is taken over; those of
    other keys are removed, here and where the archived run never ended. What it holds is as private as the forget
    images.

    Attributes:
        done (int): Samples that this process has tried so far.
        cost (float): What these cost, in image-forward-equivalents.
        own (list): `(number of the sample, path, name)` of each example that this process has kept.

    Args:
        folder (str): `experiments/NAME/adversarial_cache`; made where it is missing.
        settings (dict): What decides the content: weights, data, attack.
        images (int): Samples of this process.
        size (int): Height and width in pixels.
        rank (int): Of this process. Default: 0.

    Raises:
        InputError: The disk has too little room.
        OSError: The disk is full, now or later.
    """

    def __init__(self, folder, settings, images, size, rank=0):
        key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
        self.path, self.images, self.shape = osp.join(folder, f'{key}_{rank}.lmdb'), images, (2, 3, size, size)
        for abandoned in (folder, *self._archived()) if rank == 0 else ():
            for other in glob.glob(osp.join(glob.escape(abandoned), '*_*.lmdb')):
                if not osp.basename(other).startswith(f'{key}_'):
                    shutil.rmtree(other)
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
        with self._begin(self.path, write=True) as transaction:  # makes the file
            self.cost = float(transaction.get(COST) or 0)
            stored = {name: bytes(content[:8]) for name, content in transaction.cursor() if name != COST}
        self.done = len(stored)
        self.own = [(_number(place), self.path, name) for name, place in stored.items() if place]
        self.share([self.own])

    def share(self, owned):
        """Take note of what all processes have kept: the `own` of each."""
        self.kept = [(path, name) for _, path, name in sorted(sum(owned, []))]

    @contextmanager
    def _begin(self, path, write=False):
        """Open a file for one transaction: nothing is left open for a process that ends in the middle of a run."""
        if write and shutil.disk_usage(osp.dirname(path)).free < SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)  # LMDB's lock would end the process
        try:
            with lmdb.open(path, map_size=self.map_size, readonly=not write, lock=write) as store:
                with store.begin(write=write) as transaction:
                    yield transaction
        except lmdb.Error as error:
            raise OSError(errno.EIO, str(error), path) from error

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

    def add(self, examples, answers, kept, cost=0.0, first=None):
        """Append the examples of the next samples.

        Args:
            examples (Tensor): (N, 3, H, W) in [0, 1].
            answers (Tensor): What the original says of them, same shape.
            kept (Tensor): (N,), whether the attack succeeded.
            cost (float): What they cost, in image-forward-equivalents.
            first (int): Number of the first sample among those of all processes. Default: `done`.
        """
        self.cost, first = self.cost + cost, self.done if first is None else first
        pairs = torch.stack([examples, answers], 1).half().cpu().numpy()
        with self._begin(self.path, write=True) as transaction:
            transaction.put(COST, repr(self.cost).encode())
            for number, (pair, keep) in enumerate(zip(pairs, kept.tolist(), strict=True), first):
                name = f'{self.done:08d}'.encode()
                transaction.put(name, number.to_bytes(8, 'big') + pair.tobytes() if keep else b'')
                self.done += 1
                if keep:
                    self.own.append((number, self.path, name))
        self.share([self.own])

    def read(self, numbers):
        """Return examples and answers, (N, 3, H, W) float32 each, of N numbers below `len`."""
        wanted, contents = [self.kept[number] for number in numbers], {}
        for file in {path for path, _ in wanted}:
            with self._begin(file) as transaction:
                contents.update({(path, name): transaction.get(name) for path, name in wanted if path == file})
        pairs = [torch.frombuffer(bytearray(contents[place][8:]), dtype=torch.float16) for place in wanted]
        return torch.stack(pairs).float().view(len(pairs), *self.shape).unbind(1)

    def remove(self):
        """Delete the file of this process, and the folder where it was the last."""
        shutil.rmtree(self.path)
        with suppress(OSError):  # other processes keep theirs in it
            os.rmdir(osp.dirname(self.path))


def _number(content):
    return int.from_bytes(content, 'big')


def needed_bytes(images, size):
    """Return how much of the disk a cache of this many samples of `size` pixels takes at most."""
    return 2 * images * 2 * 3 * size**2 + SPARE
