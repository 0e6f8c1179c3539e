"""The small unlearning run that endurance.py makes long and kill_and_resume.py kills."""

import os

import cv2
import numpy as np
import torch
import yaml

from basicsr_unlearn.atomic import atomic_save
from basicsr_unlearn.data.scenes import draw_scene

OPTIONS = """
name: run
model_type: UnlearnModel
scale: 1
num_gpu: 0
manual_seed: 3
datasets:
  train:
    name: train
    type: ForgetRetainPairedDataset
    forget: { dataroot_lq: FOLDER/clean, dataroot_gt: FOLDER/clean, cache: true }
    retain:
      noise: { dataroot_gt: FOLDER/clean, cache: true, degradation: { type: gaussian_noise, sigma: 25 } }
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 50
  val_rain:
    { name: rain, role: forget, type: DegradedImageDataset, dataroot_gt: FOLDER/clean, degradation: { type: rain } }
path: { pretrain_network_g: FOLDER/original.pth }
train:
  stop: { forget_psnr_below: ~, retain_budget: ~, every: 10, probes: 2 }
  optim_g: { type: AdamW, lr: 1.0e-4 }
logger: { keep_last: 2, use_tb_logger: true }
"""


def write(folder, build, network, train, method, iterations, logger):
    """Write clean images, the weights and `options.yml` of a run into a folder.

    Args:
        folder (str): An empty folder.
        build (callable): Makes the network.
        network (dict): The section `network_g`.
        train (dict): Further keys of `datasets: train`; the images are twice as large as `gt_size`.
        method (dict): The section `train: method`.
        iterations (int): `total_iter`.
        logger (dict): Further keys of `logger`.
    """
    torch.manual_seed(5)
    atomic_save({'params': build().state_dict()}, f'{folder}/original.pth')
    os.makedirs(f'{folder}/clean')
    for number in range(8):
        image, _ = draw_scene(np.random.default_rng(number), 2 * train['gt_size'])
        cv2.imwrite(f'{folder}/clean/{number}.png', np.round(image * 255).astype(np.uint8))
    options = yaml.safe_load(OPTIONS.replace('FOLDER', folder))
    options['network_g'] = network
    options['datasets']['train'].update(train)
    options['train'].update(method=method, total_iter=iterations)
    options['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [iterations // 3], 'gamma': 0.5}
    options['logger'].update(logger)
    with open(f'{folder}/options.yml', 'w') as file:
        yaml.safe_dump(options, file)
