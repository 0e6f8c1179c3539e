"""What audits look at: networks, sets and attackers, from a description that travels to other processes."""

import time
from functools import partial

import numpy as np
import torch
from torch.utils import data

from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.utils import img2tensor
from basicsr_unlearn.audits.lora import SCOPE, add_lora
from basicsr_unlearn.audits.relearn import relearn
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.data.forget_retain_paired_dataset import MixedPairedDataset
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.models.evaluation import Evaluator
from basicsr_unlearn.models.inference import measuring, restore
from basicsr_unlearn.options import tile_options


class SourcePairs(data.Dataset):
    """Pairs of a training source, each read alike whenever it is asked for: no turns, and a crop by its number.

    Args:
        option (str): Names the source in error messages.
        section (dict): The source, as in `datasets: train`.
        number (int): How many, spread evenly over it; more than it has are further crops. None: all.
        size (int): Pixels of the crops; scenes are drawn at this size. None: whole images.
        seed (int): Of the crops and of degradations made on the fly.
    """

    def __init__(self, option, section, number, size, seed=0):
        self.source, self.size, self.seed = build_source(option, section), size, seed
        total = len(self.source)
        number = number or total
        self.indices = [i * total // number if number < total else i % total for i in range(number)]

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, number):
        rng = np.random.default_rng((self.seed, number))
        lq, gt, lq_path, gt_path = self.source.read(self.indices[number], rng, self.size)
        lq, gt = img2tensor([np.ascontiguousarray(image) for image in (lq, gt)], bgr2rgb=True, float32=True)
        return {'lq': lq, 'gt': gt, 'lq_path': lq_path, 'gt_path': gt_path}


class Crops(data.Dataset):
    """The centres of some images of a set, spread evenly over it.

    Args:
        dataset (Dataset): Items with `lq`, `gt`, `lq_path`.
        number (int): How many; None: all.
        size (int): Pixels at most; what is smaller stays whole.
    """

    def __init__(self, dataset, number, size):
        self.dataset, self.size = dataset, size
        number = min(number or len(dataset), len(dataset))
        self.indices = [i * len(dataset) // number for i in range(number)]

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        item = self.dataset[self.indices[index]]
        height, width = item['lq'].shape[-2:]
        size = min(self.size, height), min(self.size, width)
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        cut = (..., slice(top, top + size[0]), slice(left, left + size[1]))
        return {'lq': item['lq'][cut], 'gt': item['gt'][cut], 'lq_path': item['lq_path']}


def measure(job):
    """Measure a network on the crops of every set.

    Returns:
        dict: `{set: {role, images, psnr: {input, net}, ssim: {input, net}}}`.
    """
    net = load(job)
    evaluator = Evaluator({**job['opt'], 'val': {**job['opt']['val'], 'metrics': None, 'pbar': False}}, device())
    found = {}
    for name, section in job['sets'].items():
        crops = open_set(name, section, job)
        values = evaluator.measure({'input': None, 'net': net}, crops, name)
        found[name] = {'role': section['role'], 'images': len(crops), **values}
    return found


def attack(job):
    """Fine-tune a network on the attacker's data and follow the forget sets.

    Returns:
        dict: `{step: mean PSNR (dB) over the crops of the forget sets}`.
    """
    net = load(job)
    draw = _draw(job)
    crops = pairs_of(job['sets'], job, 'forget')
    tiles = tile_options(job['opt'])

    def psnr(current):
        errors = [(answer(current, lq, tiles) - gt.to(device())).square().mean() for lq, gt in crops]
        return float((-10 * torch.log10(torch.stack(errors) + 1e-10)).mean())

    if job.get('rank'):  # adapters
        adapt = partial(add_lora, rank=job['rank'], seed=job['seed'])
        return relearn(net, draw, psnr, job['steps'], job['lr'], SCOPE, adapt)
    return relearn(net, draw, psnr, job['steps'], job['lr'], job['scope'])


def _draw(job):
    """Return the attacker's batches: a function of the step and, through the seed, of nothing else."""
    sources = {'attack': {**job['data'], 'cache': True}}
    samples = MixedPairedDataset({**job['opt']['datasets']['train'], 'sources': sources, 'manual_seed': job['seed']})

    def draw(step):
        size = job['batch_size']
        items = [samples[number] for number in range(step * size, (step + 1) * size)]
        return [torch.stack([item[key] for item in items]).to(device()) for key in ('lq', 'gt')]

    return draw


def load(job, subject=None):
    """Build the network of a job with its weights, or with those of another `{weights, param_key, strict}`."""
    subject = subject or job
    net = build_network(job['opt']['network_g']).to(device())
    load_into(net, subject['weights'], 'weights', subject['param_key'], subject['strict'])
    return net.eval()


def answer(net, image, tiles):
    """Return what a network makes of an image (1, 3, H, W) in [0, 1]; cut to [0, 1], without gradient."""
    with measuring(net):
        return restore(net, image.to(device()), **tiles).clamp(0, 1)


def open_set(name, section, job):
    """Return the crops of a validation set."""
    section = {**section, 'name': name, 'phase': 'val', 'scale': job['opt']['scale'], 'manual_seed': 0}
    return Crops(build_dataset(section), job['images'], job['crop'])


def pairs_of(sets, job, role):
    """Return the crops of all validation sets of a role as `(lq, gt)`, (1, 3, H, W) each."""
    chosen = [open_set(name, section, job) for name, section in sets.items() if section['role'] == role]
    return [(item['lq'].unsqueeze(0), item['gt'].unsqueeze(0)) for crops in chosen for item in crops]


def device():
    """Return where this process works."""
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def second(opt, gpus):
    """Return the seconds of one image-forward-equivalent in a process of the pool, from a few training steps."""
    torch.set_num_threads(1 if not gpus else torch.get_num_threads())
    net = build_network(opt['network_g']).to(device())
    size = opt['datasets']['train']['gt_size']
    images, times = torch.rand(4, 3, size, size, device=device()), []
    for _ in range(4):
        start = time.perf_counter()
        net(images).mean().backward()
        times.append(time.perf_counter() - start)
    return min(times) / 12
