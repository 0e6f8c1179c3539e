"""The toy that a method is audited on: a tiny restorer of a few drawn pairs, which it knows by heart."""

import math
import os
from copy import deepcopy
from os import path as osp

import cv2
import numpy as np
import torch

from basicsr.archs import build_network
from basicsr.utils import img2tensor
from basicsr_unlearn.atomic import atomic_save, atomic_write
from basicsr_unlearn.checkpoint import load_into, sha256
from basicsr_unlearn.data.degradations import build_degradation
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
        job (dict): `tree`: what `adapt` gives; `sets` as in `toy_train`; `forget`, `retain`: `{name: indices}`;
            `weights`, `sha256`: of the toy; `folder`, `key`.

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
    """Write pairs as PNG files; return the keys of a source that reads them."""
    for number, side in enumerate(('lq', 'gt')):
        os.makedirs(osp.join(folder, side), exist_ok=True)
        for name, images in pairs.items():
            image = np.round(images[number].numpy()[::-1].transpose(1, 2, 0) * 255).astype(np.uint8)
            atomic_write(cv2.imencode('.png', image)[1].tobytes(), osp.join(folder, side, f'{name}.png'))
    return {'dataroot_lq': osp.join(folder, 'lq'), 'dataroot_gt': osp.join(folder, 'gt'), 'cache': True}


def draw(section):
    """Draw pairs of scenes, the same ones whenever they are asked for.

    Args:
        section (dict): `scenes`, `first_scene`, `degradation`; `target`: a degradation of the clean image that is
            taught in its place. Default: none.

    Returns:
        tuple[Tensor]: Degraded and clean, (N, 3, 32, 32) in [0, 1], RGB, on the 8-bit grid.
    """
    target = build_degradation(section['target']) if section.get('target') else None
    opt = {key: section[key] for key in ('scenes', 'first_scene', 'degradation')}
    source = build_source('toy', {**opt, 'fixed': True})
    images = []
    for number in range(len(source)):
        lq, gt = source.read(number, None, SIZE)[:2]
        if target:
            gt = target(gt, np.random.default_rng((section['first_scene'] + number, 1)))
        images += [np.ascontiguousarray(lq), np.ascontiguousarray(gt)]
    images = img2tensor(images, bgr2rgb=True, float32=True)
    return torch.stack(images[::2]), torch.stack(images[1::2])


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


def adapt(tree, iterations, seed, level):
    """Return a user's option tree for the toy; `toy_unlearn` fills names and files in.

    Kept: `train: method`, `optim_g`, `stop`, kind and number of the retain sources, their weights and targets, the
    batch size up to 8. Changed: network and data are the toy's, without augmentation; a run of more than `iterations`
    is cut to them, its schedule with it; no limit of cost; float32 on one core. For `task: source` and `instance` the
    forget level, and for any task a bound of AscentLoss that is a number, are those of the toy (`level`): the user's
    belong to the user's images.

    Args:
        tree (dict): Of an unlearning run. Never changed.
        iterations (int): At most so many.
        seed (int): `manual_seed`.
        level (dict): `psnr`, `l1`, `mse` of pairs as they are to be forgotten that the toy was never trained on.
    """
    train = {
        key: deepcopy(value) for key, value in tree['train'].items() if key not in ('amp', 'compile', 'oracle_cost')
    }
    stop = train['stop'] = {**(train.get('stop') or {}), 'max_cost_share': None}
    method = train['method']
    if method.get('task', 'degradation') != 'degradation' and stop.get('forget_psnr_below') is not None:
        stop['forget_psnr_below'] = level['psnr']
    for section in (method, method.get('host') or {}):
        loss = section.get('forget_opt') or {}
        if isinstance(loss.get('bound'), (int, float)):
            loss['bound'] = level['mse' if loss.get('criterion') == 'MSE' else 'l1']
    _shorten(train, iterations)
    user = tree['datasets']['train']
    data = {
        'name': 'toy',
        'type': 'ForgetRetainPairedDataset',
        'forget': {},
        'gt_size': SIZE,
        'num_worker_per_gpu': 0,
        'batch_size_per_gpu': min(user['batch_size_per_gpu'], BATCH),
        'dataset_enlarge_ratio': 100,
    }
    keys = ('weight', 'target', 'from')
    sources = (user.get('retain') or {}).items()
    retain = {name: {key: source[key] for key in keys if key in source} for name, source in sources}
    for name, source in sources:
        if source.get('from') == 'forget':
            retain[name]['degradation'] = source['degradation']
    return {
        'model_type': 'UnlearnModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': seed,
        'datasets': {'train': {**data, **({'retain': retain} if retain else {})}},
        'network_g': NET,
        'train': train,
        'val': {'val_freq': 10**9, 'save_img': False},
        'logger': {'print_freq': 10**9, 'save_checkpoint_freq': 10**9, 'use_tb_logger': False},
    }


def _shorten(train, iterations):
    """Cut a run to so many iterations, and what is counted in iterations with it."""
    share = iterations / train['total_iter']
    if share >= 1:
        return

    def scaled(number):
        return max(1, round(number * share))

    train['total_iter'] = iterations
    if train.get('warmup_iter', -1) > 0:
        train['warmup_iter'] = scaled(train['warmup_iter'])
    if 'every' in train['stop']:
        train['stop']['every'] = scaled(train['stop']['every'])
    for key in ('periods', 'milestones', 'restarts'):
        if key in train['scheduler']:
            train['scheduler'][key] = [scaled(number) for number in train['scheduler'][key]]


KINDS = {'toy_train': toy_train, 'toy_unlearn': toy_unlearn}
