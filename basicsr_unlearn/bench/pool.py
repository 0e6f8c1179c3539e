"""Runs jobs side by side, keeps every result, and never does a job twice."""

import hashlib
import json
import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from os import path as osp

import torch
from tqdm import tqdm

from basicsr_unlearn import checkpoint

NOT_SPEC = ('key', 'cost', 'folder', 'weights')  # of a job: where it is done and what it costs, not what it is


class Pool:
    """Processes that take jobs: one for each GPU, else one for each core with one thread each.

    A job is a dict: `kind` (jobs.KINDS), `key` (the name of its result), `cost` (image-forward-equivalents, for the
    progress bar) and what its kind needs. Its result lies in FOLDER/jobs/KEY.json together with a digest of the job; it
    is done again only if the job has changed. Used as a context: the processes live as long as it.

    Args:
        folder (str): Of the benchmark.
        workers (int): Processes. Default: as above.
    """

    def __init__(self, folder, workers=None):
        self.folder = osp.join(folder, 'jobs')
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
        """Do all jobs that are not done; return `{key: result}`.

        Raises:
            InputError: A job says so; the results of the others are kept.
        """
        results = {job['key']: self._read(job) for job in jobs}
        pending = [job for job in jobs if results[job['key']] is None]
        if not pending:
            return results
        futures = {self.executor.submit(_work, job): job for job in pending}
        with tqdm(total=round(sum(job['cost'] for job in pending)), desc=title, unit='ife', unit_scale=True) as bar:
            for future in as_completed(futures):
                job = futures[future]
                results[job['key']] = future.result()
                self._write(job, results[job['key']])
                bar.update(round(job['cost']))
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
        checkpoint.atomic_write(json.dumps({'digest': digest(job), 'result': result}, indent=1), self._path(job))


def digest(job):
    """Return sixteen hexadecimal digits that tell jobs apart."""
    spec = json.dumps({key: value for key, value in job.items() if key not in NOT_SPEC}, sort_keys=True, default=str)
    return hashlib.sha256(spec.encode()).hexdigest()[:16]


def _begin(numbers, gpus):
    """Prepare a process: its GPU or its one thread, and BasicSR's words from warnings on."""
    number = numbers.get()
    if gpus:
        os.environ['CUDA_VISIBLE_DEVICES'] = str(number % gpus)
    else:
        torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from basicsr.utils import get_root_logger

    get_root_logger(log_level=logging.WARNING)


def _end_with_parent():
    """A killed benchmark leaves nothing running: the next one works in the same folders."""
    multiprocessing.parent_process().join()
    from basicsr_unlearn.bench import jobs

    for process in jobs.running:
        process.kill()
    os._exit(1)


def _work(job):
    from basicsr_unlearn.bench.jobs import KINDS

    return KINDS[job['kind']](job)
