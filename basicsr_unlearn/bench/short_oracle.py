"""A reference for those who have no oracle: trained from scratch on the retain data, for a share of the cost."""

import os
import subprocess
import sys
from os import path as osp

from basicsr_unlearn import checkpoint, manifest
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.pool import digest
from basicsr_unlearn.preflight_data import loader_options
from basicsr_unlearn.unlearn_job import write_options

LR, BATCH = 1e-3, 4


def make(bench, share):
    """Train it into the folder of the benchmark, unless it is there, by the same recipe; go on where it was killed.

    AdamW at 1e-3 with warm-up and a cosine, on the clean images of the retain sources (never the original's answers).

    Args:
        bench (Bench): The options; from now on they compare with the new oracle.
        share (float): Of the cost of the original's training, 0 to 1.

    Raises:
        InputError: The base has an oracle, or no retain data.
    """
    if bench.kind_of_oracle == 'full':
        raise InputError('--make-oracle: the base names an oracle already (path: pretrain_network_oracle).')
    if not 0 < share <= 1:
        raise InputError(f'--make-oracle {share}: must be a share above 0 and at most 1, for example 0.1.')
    target = osp.join(bench.absolute_folder, 'short_oracle.safetensors')
    entry = manifest.read_entry(target)
    if not entry or entry.get('recipe') != recipe(bench, share):
        for stale in (target, osp.join(bench.absolute_folder, 'manifest.json')):
            if osp.isfile(stale):
                os.remove(stale)
        _train(bench, share)
        latest = osp.join(bench.absolute_folder, 'runs', 'experiments', 'short_oracle', 'models', 'net_g_latest.pth')
        written = checkpoint.save_half(checkpoint.load_weights(latest, '--make-oracle'), target)
        entry = {'sha256': written, 'cost': share * bench.oracle_cost, 'whole_cost': bench.oracle_cost, 'share': share}
        entry['recipe'] = recipe(bench, share)
        manifest.write_entry(target, entry)
    bench.use_oracle(target, bench.oracle_cost, 'short')


def _train(bench, share):
    runs = osp.join(bench.absolute_folder, 'runs')
    os.makedirs(runs, exist_ok=True)
    folder = osp.join(runs, 'experiments', 'short_oracle')
    write_options({'tree': tree(bench, share)}, osp.join(runs, 'short_oracle.yml'), folder)
    command = [sys.executable, '-m', 'basicsr_unlearn', 'train', '-opt', 'short_oracle.yml', '--auto_resume']
    if subprocess.run(command, cwd=runs).returncode:
        raise InputError(f'--make-oracle: the training failed; its log is in {folder}.')


def recipe(bench, share):
    """Return a digest of everything that decides the weights: options, and the data that they name."""
    return digest({'tree': tree(bench, share)})


def tree(bench, share):
    """Return the option tree of the training."""
    base = bench.base
    train = base['datasets']['train']
    sources = {
        name: {key: value for key, value in section.items() if key != 'target'}
        for name, section in (train.get('retain') or {}).items()
        if section.get('from') != 'forget'
    }
    if not sources:
        raise InputError('--make-oracle: the base has no retain data to train on.')
    iterations = max(1, round(share * bench.oracle_cost / (3 * BATCH)))
    mixed = {**loader_options(train), 'type': 'MixedPairedDataset', 'sources': sources, 'batch_size_per_gpu': BATCH}
    schedule = {'type': 'CosineAnnealingRestartLR', 'periods': [iterations], 'restart_weights': [1], 'eta_min': 1e-6}
    return {
        **{key: base[key] for key in ('scale', 'num_gpu', 'network_g', 'dist_params') if key in base},
        'name': 'short_oracle',
        'model_type': 'RestorationModel',
        'manual_seed': 0,
        'datasets': {'train': {**mixed, 'dataset_enlarge_ratio': 100}},
        'path': {'pretrain_network_g': None},
        'train': {
            'optim_g': {'type': 'AdamW', 'lr': LR, 'weight_decay': 1e-4, 'betas': [0.9, 0.999]},
            'scheduler': schedule,
            'total_iter': iterations,
            'warmup_iter': min(200, iterations // 10),
            'pixel_opt': {'type': 'L1Loss'},
        },
        'logger': {**base['logger'], 'print_freq': 100, 'save_checkpoint_freq': 500},
    }
