"""Tiny nets, tiny data and a way to run the command inside the test process."""

import json
import logging
import os
import subprocess
import sys
import time
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
import yaml

import basicsr_unlearn  # noqa: F401
from basicsr.utils import logger as basicsr_logger
from basicsr_unlearn.archs.promptir_arch import PromptIR
from basicsr_unlearn.cli import main
from basicsr_unlearn.data.degradations import build_degradation
from basicsr_unlearn.data.scenes import draw_scene

NET = {'type': 'PromptIR', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1, 'prompt_sizes': [4, 4, 4]}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)  # two tests run at the same time


def make_net(seed=5):
    torch.manual_seed(seed)
    return PromptIR(**{key: value for key, value in NET.items() if key != 'type'})


def write_pairs(folder, degradation, number=4, size=48, first=0):
    """Write `number` pairs of drawn scenes; returns the options of the source."""
    degrade = build_degradation(degradation)
    for kind in ('lq', 'gt'):
        os.makedirs(folder / kind, exist_ok=True)
    for index in range(first, first + number):
        gt, depth = draw_scene(np.random.default_rng(index), size)
        lq = degrade(gt, np.random.default_rng(index), depth)
        for kind, image in (('lq', lq), ('gt', gt)):
            cv2.imwrite(str(folder / kind / f'{index:04d}.png'), np.round(image * 255).astype(np.uint8))
    return {'dataroot_lq': str(folder / 'lq'), 'dataroot_gt': str(folder / 'gt')}


@pytest.fixture(scope='session')
def pairs(tmp_path_factory):
    """Folders of haze and rain pairs, 48x48 pixels, for reading only."""
    root = tmp_path_factory.mktemp('pairs')
    return {kind: write_pairs(root / kind, {'type': kind}) for kind in ('haze', 'rain')}


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """An untrained checkpoint in BasicSR's format whose output differs clearly from its input."""
    path = tmp_path_factory.mktemp('weights') / 'original.pth'
    torch.save({'params': make_net().state_dict()}, path)
    return str(path)


@pytest.fixture
def options(pairs, weights):
    """A whole option tree for UnlearnModel that runs in seconds; tests change their copy."""
    return deepcopy(
        {
            'name': 'tiny',
            'model_type': 'UnlearnModel',
            'scale': 1,
            'num_gpu': 0,
            'manual_seed': 3,
            'datasets': {
                'train': {
                    'name': 'train',
                    'type': 'ForgetRetainPairedDataset',
                    'forget': pairs['haze'],
                    'retain': {'rain': pairs['rain']},
                    'gt_size': 32,
                    'use_hflip': True,
                    'use_rot': True,
                    'num_worker_per_gpu': 0,
                    'batch_size_per_gpu': 2,
                    'dataset_enlarge_ratio': 1,
                },
                'val_haze': {
                    'name': 'haze',
                    'type': 'PairedImageDataset',
                    'role': 'forget',
                    'io_backend': {'type': 'disk'},
                    **pairs['haze'],
                },
                'val_noise': {
                    'name': 'noise',
                    'type': 'DegradedImageDataset',
                    'role': 'retain',
                    'dataroot_gt': pairs['rain']['dataroot_gt'],
                    'degradation': {'type': 'gaussian_noise', 'sigma': 25},
                },
            },
            'network_g': NET,
            'path': {'pretrain_network_g': weights, 'resume_state': None},
            'train': {
                'method': {'type': 'NegGrad'},
                'stop': {'forget_psnr_below': None, 'retain_budget': None, 'every': 2, 'probes': 2},
                'optim_g': {'type': 'AdamW', 'lr': 1e-4},
                'scheduler': {'type': 'MultiStepLR', 'milestones': [1000]},
                'total_iter': 4,
            },
            'val': {'val_freq': 1000, 'save_img': False},
            'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': True},
        }
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `basicsr train` on an option tree in an empty folder; gives the exit status and that folder."""
    home = tmp_path / 'home'
    home.mkdir()
    monkeypatch.chdir(home)

    def train(tree, *arguments):
        option_file = tmp_path / 'options.yml'
        option_file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
        basicsr_logger.initialized_logger.clear()  # BasicSR sets its logger up once per process
        for handler in list(logging.getLogger('basicsr').handlers):
            logging.getLogger('basicsr').removeHandler(handler)
        try:
            status = main(['train', '-opt', str(option_file), *arguments])
        except SystemExit as end:
            status = end.code
        return status, home

    return train


def latest(home, name='tiny'):
    """Return the weights that a run left behind."""
    return torch.load(home / 'experiments' / name / 'models' / 'net_g_latest.pth')['params']


def summary(home, name='tiny'):
    with open(home / 'experiments' / name / 'unlearn_summary.json') as file:
        return json.load(file)


def start(tree, home, *arguments, launcher=(), **more):
    path = home / 'options.yml'
    path.write_text(yaml.safe_dump(tree))
    command = [sys.executable, *launcher, '-m', 'basicsr_unlearn', 'train', '-opt', str(path), *arguments]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


def start_long(tree, home, **more):
    """Start a run that would go on for long, and return its process when a state is saved."""
    tree['train']['total_iter'] = 5000
    tree['logger']['save_checkpoint_freq'] = 2
    process = start(tree, home, **more)
    wait_for(home / 'experiments/tiny/training_states/2.state', process)
    return process


def wait_for(path, process, seconds=120):
    end = time.time() + seconds
    while not path.exists():
        assert process.poll() is None and time.time() < end, process.communicate()[0][-2000:]
        time.sleep(0.01)


@pytest.fixture
def homes(tmp_path):
    for name in ('whole', 'killed'):
        (tmp_path / name).mkdir()
    return tmp_path / 'whole', tmp_path / 'killed'
