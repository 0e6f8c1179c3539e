"""Unlearning as a job of a pool: from an option tree to weights."""

import json
import os
import shutil
import subprocess
import sys
from os import path as osp

import torch
import yaml

from basicsr_unlearn import pool
from basicsr_unlearn.errors import InputError

DIVERGED = 3  # exit status


def unlearn(job):
    """Run `basicsr train` on an option tree in a process and folder of its own; go on where it was killed.

    Returns:
        dict: `weights` (path), `cost`, `seconds`, `memory` (MiB), `stopped_by`, `kept_iteration`, `iterations`.

    Raises:
        InputError: The run says so.
    """
    name = job['tree']['name']
    runs = osp.join(job['folder'], 'runs')
    os.makedirs(runs, exist_ok=True)
    folder = osp.join(runs, 'experiments', name)
    write_options(job, osp.join(runs, f'{name}.yml'), folder)
    command = [sys.executable, '-m', 'basicsr_unlearn', 'train', '-opt', f'{name}.yml', '--auto_resume']
    threads = {'OMP_NUM_THREADS': str(torch.get_num_threads())}
    with open(osp.join(runs, f'{name}.log'), 'w', encoding='utf-8') as log:
        process = subprocess.Popen(command, cwd=runs, env={**os.environ, **threads}, stdout=log, stderr=log)
        pool.running.append(process)
        status = process.wait()
        pool.running.remove(process)
    if status not in (0, DIVERGED):
        with open(log.name, encoding='utf-8', errors='replace') as log:
            line = (log.read().strip().splitlines() or ['no message'])[-1].removeprefix('basicsr: error: ')
        raise InputError(f'{name}: ended with status {status}: {line} ({log.name})')
    with open(osp.join(folder, 'unlearn_summary.json'), encoding='utf-8') as file:
        summary = json.load(file)
    keys = ('cost', 'seconds', 'memory', 'stopped_by', 'kept_iteration', 'iterations')
    return {'weights': osp.abspath(osp.join(folder, 'models', 'net_g_latest.pth')), **{k: summary[k] for k in keys}}


def write_options(job, path, folder):
    """Write the option file of a run; what a run of other options or data has left in its folder is no beginning."""
    text = f'# {pool.digest(job)}\n{yaml.safe_dump(job["tree"], sort_keys=False)}'
    if osp.isfile(path):
        with open(path, encoding='utf-8') as file:
            if file.read() != text:
                shutil.rmtree(folder, ignore_errors=True)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
