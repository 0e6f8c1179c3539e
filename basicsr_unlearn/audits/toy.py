"""The toy that a method is audited on: a tiny restorer of a few drawn pairs, which it knows by heart."""

import math
import os
import shutil
from copy import deepcopy
from os import path as osp

import cv2
import numpy as np
import torch

from basicsr.archs import build_network
from basicsr.utils import img2tensor
from basicsr_unlearn.atomic import atomic_save, atomic_write
from basicsr_unlearn.checkpoint import load_into, sha256
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.unlearn_job import unlearn

NET = {'type': 'NAFNet', 'width': 8, 'middle_blk_num': 1, 'enc_blk_nums': [1, 1, 1], 'dec_blk_nums': [1, 1, 1]}
SIZE, BATCH, LR, WARM_UP = 32, 8, 2e-3, 50  # pixels, images, of AdamW, steps


def toy_train(job):
    """Train the toy from scratch: AdamW at 2e-3 with a cosine, L1, no augmentation.

    Args:
        job (dict): `sets`: `{name: section}` of pairs (`draw`); `train`: `{name: indices}`; `steps`; `seed`; `folder`,
            `key`: where the weights go.

    Returns:
        dict: `weights` (path), `sha256`, and `psnr` (dB), `l1`, `mse`: `{name: [of each pair]}` of all sets.
    """
    sets = {name: draw(section) for name, section in job['sets'].items()}
    lq, gt = (torch.cat([sets[name][side][chosen] for name, chosen in job['train'].items()]) for side in (0, 1))
    torch.manual_seed(job['seed'])
    net = build_network(NET)
    optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=0)
    for step, chosen in enumerate(_batches(len(lq), job['steps'], job['seed'])):
        share = min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / job['steps'])) / 2
        optimizer.param_groups[0]['lr'] = share * LR
        optimizer.zero_grad(set_to_none=True)
        (net(lq[chosen]) - gt[chosen]).abs().mean().backward()
        optimizer.step()
    weights = osp.join(job['folder'], 'toys', f'{job["key"]}.pth')
    os.makedirs(osp.dirname(weights), exist_ok=True)
    atomic_save({'params': net.state_dict()}, weights)
    return {'weights': weights, 'sha256': sha256(weights), **errors(net, sets)}


def _batches(number, steps, seed):
    """Yield the indices of each step: every pair once before any comes again."""
    generator, order = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        while len(order) < BATCH:
            order += torch.randperm(number, generator=generator).tolist()
        yield order[:BATCH]
        del order[:BATCH]


def toy_unlearn(job):
    """Unlearn with `basicsr train`, in a process of its own, from the weights of a toy.

    Args:
        job (dict): `tree`: what `toy_options.adapt` gives; `sets` as in `toy_train`; `forget`, `retain`:
            `{name: indices}`; `weights`, `sha256`: of the toy; `folder`, `key`.

    Returns:
        dict: What `unlearn` returns, and `psnr`, `l1`, `mse` of all sets.

    Raises:
        InputError: The run says so.
    """
    sets = {name: draw(section) for name, section in job['sets'].items()}
    tree = {**deepcopy(job['tree']), 'name': job['key']}
    tree['path'] = {'pretrain_network_g': job['weights']}
    data = tree['datasets']['train']
    for role in ('forget', 'retain'):
        pairs = {f'{name}_{i:04d}': [side[i] for side in sets[name]] for name in job[role] for i in job[role][name]}
        files = write_pairs(pairs, osp.join(job['folder'], 'toys', job['key'], role))
        for source in [data['forget']] if role == 'forget' else data.get('retain', {}).values():
            if source.get('from') != 'forget':
                source.update(files)
    found = unlearn({'folder': job['folder'], 'tree': tree})
    net = build_network(NET)
    load_into(net, found['weights'], 'weights')
    return {**found, **errors(net, sets)}


def write_pairs(pairs, folder):
    """Write pairs as PNG files, in the place of what is there; return the keys of a source that reads them."""
    shutil.rmtree(folder, ignore_errors=True)
    for number, side in enumerate(('lq', 'gt')):
        os.makedirs(osp.join(folder, side), exist_ok=True)
        for name, images in pairs.items():
            image = np.round(images[number].numpy()[::-1].transpose(1, 2, 0) * 255).astype(np.uint8)
            atomic_write(cv2.imencode('.png', image)[1].tobytes(), osp.join(folder, side, f'{name}.png'))
    return {'dataroot_lq': osp.join(folder, 'lq'), 'dataroot_gt': osp.join(folder, 'gt'), 'cache': True}


def draw(section):
    """Draw pairs of scenes, the same ones whenever they are asked for.

    Args:
        section (dict): `scenes`, `first_scene`, `degradation`; `answers`: number of the first of the scenes whose clean
            images are taught in the place of the right ones. Default: none.

    Returns:
        tuple[Tensor]: Degraded and clean, (N, 3, 32, 32) in [0, 1], RGB, on the 8-bit grid.
    """
    opt = {key: section[key] for key in ('scenes', 'first_scene', 'degradation')}
    source = build_source('toy', {**opt, 'fixed': True})
    images = [image for number in range(len(source)) for image in source.read(number, None, SIZE)[:2]]
    images = torch.stack(img2tensor(images, bgr2rgb=True, float32=True))
    clean = images[1::2] if section.get('answers') is None else draw({**opt, 'first_scene': section['answers']})[1]
    return images[::2], clean


def errors(net, sets):
    """Return `psnr` (dB), `l1` and `mse`: each `{set: [of each pair]}`."""
    found = {'psnr': {}, 'l1': {}, 'mse': {}}
    for name, (lq, gt) in sets.items():
        with torch.no_grad():
            difference = (net.eval()(lq).clamp(0, 1) - gt).flatten(1)
        mse = difference.square().mean(1)
        values = {'psnr': -10 * torch.log10(mse + 1e-10), 'l1': difference.abs().mean(1), 'mse': mse}
        for key, value in values.items():
            found[key][name] = value.tolist()
    return found


def training_job(pool, key, sets, train, steps, seed):
    """Return the job of a training; the arguments are those of `toy_train`, all pairs of a set for None."""
    everything = {name: list(range(section['scenes'])) for name, section in sets.items()}
    return {
        'kind': 'toy_train',
        'key': key,
        'folder': osp.abspath(osp.dirname(pool.folder)),
        'sets': sets,
        'train': {name: everything[name] if chosen is None else chosen for name, chosen in train.items()},
        'steps': steps,
        'seed': seed,
        'cost': 3 * BATCH * steps,
    }


def unlearning_job(training, trained, key, forget, tree):
    """Return the job that makes a toy forget some of the sets of its training and keep the others.

    Args:
        training (dict): The job of the training.
        trained (dict): Its result.
        key (str): Name of the job.
        forget (sequence[str]): Sets.
        tree (dict): What `toy_options.adapt` gives.
    """
    return {
        'kind': 'toy_unlearn',
        'key': key,
        'folder': training['folder'],
        'sets': training['sets'],
        'forget': {name: chosen for name, chosen in training['train'].items() if name in forget},
        'retain': {name: chosen for name, chosen in training['train'].items() if name not in forget},
        'tree': tree,
        'weights': trained['weights'],
        'sha256': trained['sha256'],
        'cost': 6 * tree['datasets']['train']['batch_size_per_gpu'] * tree['train']['total_iter'],
    }


KINDS = {'toy_train': toy_train, 'toy_unlearn': toy_unlearn}
