"""Compare a step with adversarial examples with a step without, on as many images, and count crafted images.

    python scripts/benchmark_adversarial.py --dim 8 --blocks 1 1 1 1 --patch 64 --images 4

Without: n forget and n retain images whose targets are given (NegGrad). With: n forget images and n adversarial
examples (InstanceWise), drawn from a cache, or crafted from the batch by one PGD step and by `--steps` of them. All
take turns in one process, so that whatever else the machine does hits all alike; medians are compared.
"""

import argparse
import statistics
import tempfile
import time
from copy import deepcopy
from os import path as osp

import torch

import basicsr_unlearn  # noqa: F401
from basicsr_unlearn.archs.promptir_arch import PromptIR
from basicsr_unlearn.atomic import atomic_save
from basicsr_unlearn.attacks.examples import attack
from basicsr_unlearn.attacks.targets import TARGETS
from basicsr_unlearn.methods import Batch
from basicsr_unlearn.models.unlearn_model import UnlearnModel


def options(args, folder, method):
    """Return the option tree of an UnlearnModel on drawn scenes."""
    net = {'type': 'PromptIR', 'dim': args.dim, 'num_blocks': args.blocks, 'num_refinement_blocks': args.blocks[0]}
    weights = osp.join(folder, 'original.pth')
    if not osp.exists(weights):
        torch.manual_seed(0)
        arguments = {key: value for key, value in net.items() if key != 'type'}
        atomic_save({'params': PromptIR(**arguments).state_dict()}, weights)
    train = {
        'name': 'scenes',
        'type': 'ForgetRetainPairedDataset',
        'phase': 'train',
        'forget': {'scenes': 64, 'degradation': {'type': 'haze'}},
        'gt_size': args.patch,
        'batch_size_per_gpu': args.images,
    }
    return {
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'is_train': True,
        'num_gpu': 1 if torch.cuda.is_available() else 0,
        'manual_seed': 0,
        'network_g': net,
        'path': {'pretrain_network_original': weights, 'experiments_root': folder},
        'datasets': {'train': train},
        'logger': {},
        'train': {
            'method': method,
            'stop': {'every': 10**6},
            'optim_g': {'type': 'Adam', 'lr': 1e-5},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [10**6]},
            'total_iter': 10**6,
            'amp': 'bf16' if args.bf16 else None,
        },
    }


def build(args, folder, method):
    """Return the model and a function that makes one training step."""
    model = UnlearnModel(deepcopy(options(args, folder, method)))
    model.clock = time.time()  # no reports, no probes: the step alone
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(args.images, 3, args.patch, args.patch, generator=generator) for _ in range(4)]
    batch = dict(zip(('forget_lq', 'forget_gt'), images, strict=False))
    if method['type'] == 'NegGrad':
        batch.update(retain_lq=images[2], retain_gt=images[3])
        batch['retain_from_original'] = torch.zeros(args.images, dtype=torch.bool)
    model.method.setup()

    def step():
        model.feed_data(batch)
        model.optimize_parameters(1)

    return model, step


def seconds(action):
    """Time one call, the accelerator's work included."""
    started = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(args, folder):
    """Return the seconds of each kind of step, and of crafting n images, round by round."""
    method = {'type': 'InstanceWise', 'target': args.target, 'cache_images': 4 * args.images}
    kinds = {
        'without': {'type': 'NegGrad'},
        'cache': {**method, 'craft': 'cache'},
        'online, 1 step': {**method, 'craft': 'online', 'steps': 1},
        f'online, {args.steps} steps': {**method, 'craft': 'online', 'steps': args.steps},
    }
    built = {kind: build(args, folder, section) for kind, section in kinds.items()}
    actions = {kind: step for kind, (_, step) in built.items()}
    model = built[f'online, {args.steps} steps'][0]
    images = torch.rand(2, args.images, 3, args.patch, args.patch).to(model.device)
    actions['crafting'] = lambda: attack(model.run, model.method.options, Batch(*images), 1, 0)
    times = {kind: [] for kind in actions}
    for number in range(args.rounds + 2):
        for kind, action in actions.items():
            spent = seconds(action)
            if number >= 2:
                times[kind].append(spent)
    built['cache'][0].method.export(None)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--dim', type=int, default=8)
    parser.add_argument('--blocks', type=int, nargs=4, default=[1, 1, 1, 1])
    parser.add_argument('--patch', type=int, default=64, help='pixels')
    parser.add_argument('--images', type=int, default=4, help='n: forget images, and adversarial examples')
    parser.add_argument('--target', choices=sorted(TARGETS), default='untargeted')
    parser.add_argument('--steps', type=int, default=4, help='PGD steps of crafting, and of the last row')
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--bf16', action='store_true', help='under bfloat16 autocast')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(args, folder)
    crafting = times.pop('crafting')
    print(f'| step on {2 * args.images} images | seconds | ratio |\n| --- | --- | --- |')
    for kind, spent in times.items():
        ratio = statistics.median(own / plain for own, plain in zip(spent, times['without'], strict=True))
        print(f'| {kind} | {statistics.median(spent):.4f} | {ratio:.2f} |')
    rate = args.images / statistics.median(crafting)
    print(f'Crafting with {args.steps} steps, target {args.target}: {rate:.1f} images/s')


if __name__ == '__main__':
    main()
