"""Runs jobs side by side, keeps every result, and never does a job twice."""

import hashlib
import json
import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from os import path as osp

import torch
from tqdm import tqdm

from basicsr_unlearn import __version__, checkpoint
from basicsr_unlearn.atomic import atomic_write

NOT_SPEC = ('key', 'cost', 'folder', 'weights')  # of a job: where it is done and what it costs, not what it is
running = []  # the processes that a job of this process has started


class Pool:
    """Processes that take jobs: one for each GPU, else one for each core with one thread each.

    A job is a dict: `kind`, `key` (the name of its result), `cost` (image-forward-equivalents, for the progress bar)
    and what its kind needs. Its result lies in FOLDER/jobs/KEY.json together with a digest of the job; it is done again
    only if the job, a file that it names or this package has changed. Used as a context: the processes live as long as
    it.

    Args:
        folder (str): Of the results.
        kinds (dict): `{kind: function of a job that returns what JSON can hold}`.
        workers (int): Processes. Default: as above.
    """

    def __init__(self, folder, kinds, workers=None):
        _stamp.cache_clear()
        self.folder, self.kinds = osp.join(folder, 'jobs'), kinds
        self.gpus = torch.cuda.device_count()
        self.workers = workers or self.gpus or len(os.sched_getaffinity(0))
        self.executor = None

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        context = multiprocessing.get_context('spawn')
        numbers = context.Queue()
        for number in range(self.workers):
            numbers.put(number)
        self.executor = ProcessPoolExecutor(self.workers, context, _begin, (numbers, self.gpus))
        return self

    def __exit__(self, kind, error, trace):
        self.executor.shutdown(wait=error is None, cancel_futures=True)

    def run(self, jobs, title):
        """Do all jobs that are not done, those of one key once; return `{key: result}`.

        Raises:
            InputError: A job says so; no other is begun, and the results of those that have begun are kept.
        """
        jobs = {job['key']: job for job in jobs}
        results = {key: self._read(job) for key, job in jobs.items()}
        pending = [job for key, job in jobs.items() if results[key] is None]
        if not pending:
            return results
        failed = None
        futures = {self.executor.submit(self.kinds[job['kind']], job): job for job in pending}
        with tqdm(total=round(sum(job['cost'] for job in pending)), desc=title, unit='ife', unit_scale=True) as bar:
            for future in as_completed(futures):
                job = futures[future]
                if future.cancelled():
                    continue
                if future.exception():
                    failed = failed or future.exception()
                    for other in futures:
                        other.cancel()
                    continue
                results[job['key']] = future.result()
                self._write(job, results[job['key']])
                bar.update(round(job['cost']))
        if failed:
            raise failed
        return results

    def _path(self, job):
        return osp.join(self.folder, f'{job["key"]}.json')

    def _read(self, job):
        if not osp.isfile(self._path(job)):
            return None
        with open(self._path(job), encoding='utf-8') as file:
            found = json.load(file)
        return found['result'] if found['digest'] == digest(job) else None

    def _write(self, job, result):
        atomic_write(json.dumps({'digest': digest(job), 'result': result}, indent=1), self._path(job))


def digest(job):
    """Return sixteen hexadecimal digits that tell jobs apart, by what they say and by the files that they name."""
    spec = {key: value for key, value in job.items() if key not in NOT_SPEC}
    spec.update(files={text: _stamp(text) for text in _texts(spec) if '/' in text}, version=__version__)
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _texts(value):
    """Yield every text in nested sections and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


@cache
def _stamp(path):
    """Return what changes with a file (its sha256) or a folder (its files' sizes and times); None: there is none."""
    if osp.isfile(path):
        return checkpoint.sha256(path)
    if not osp.isdir(path):
        return None
    found = []
    for root, _, names in os.walk(path, followlinks=True):
        for name in names:
            if name != 'lock.mdb':  # that of an LMDB changes when it is read
                status = os.stat(osp.join(root, name))
                found.append([osp.relpath(osp.join(root, name), path), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()


def _begin(numbers, gpus):
    """Prepare a process: its GPU or its one thread, and BasicSR's words from warnings on."""
    number = numbers.get()
    if gpus:
        given = os.environ.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(gpus)))
        os.environ['CUDA_VISIBLE_DEVICES'] = given.split(',')[number % gpus]
    else:
        torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from basicsr.utils import get_root_logger

    get_root_logger(log_level=logging.WARNING)


def _end_with_parent():
    """Who is killed leaves nothing running: the next one works in the same folders."""
    multiprocessing.parent_process().join()
    for process in running:
        process.kill()
    os._exit(1)
