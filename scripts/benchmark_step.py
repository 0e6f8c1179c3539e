"""Compare a step of UnlearnModel (n forget + n retain images) with a step of plain SRModel on 2n images.

    python scripts/benchmark_step.py --dim 8 --blocks 1 1 1 1 --patch 64 --images 4

Both take turns in one process, so that whatever else the machine does hits both alike; the medians of time are
compared. Peak memory is that of a process of its own for each kind, the imports not counted (on a GPU: CUDA's).
"""

import argparse
import json
import statistics
import time
from copy import deepcopy

import torch
from peak_memory import peak_alone, peak_of_this_process

import basicsr_unlearn  # noqa: F401
from basicsr.models.sr_model import SRModel
from basicsr_unlearn.atomic import atomic_save
from basicsr_unlearn.models.unlearn_model import UnlearnModel

KINDS = ('SRModel', 'target: gt', 'target: original')


def option_tree(args, weights):
    """Return the options of a model without losses or method."""
    net = {'type': 'PromptIR', 'dim': args.dim, 'num_blocks': args.blocks, 'num_refinement_blocks': args.blocks[0]}
    return {
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'is_train': True,
        'manual_seed': 0,
        'num_gpu': 1 if torch.cuda.is_available() else 0,
        'network_g': net,
        'path': {'pretrain_network_original': weights},
        'datasets': {'train': {'batch_size_per_gpu': args.images}},
        'logger': {},
        'train': {
            'optim_g': {'type': 'Adam', 'lr': 1e-4},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [10**6]},
            'total_iter': 10**6,
        },
    }


def build(kind, args, weights):
    """Return a function that makes one training step."""
    opt = option_tree(args, weights)
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(args.images, 3, args.patch, args.patch, generator=generator) for _ in range(4)]
    if kind == 'SRModel':
        opt['train']['pixel_opt'] = {'type': 'L1Loss'}
        model = SRModel(deepcopy(opt))
        batch = {'lq': torch.cat(images[:2]), 'gt': torch.cat(images[2:])}
    else:
        opt['train'].update(method={'type': 'NegGrad'}, stop={'every': 10**6})
        model = UnlearnModel(deepcopy(opt))
        model.clock = time.time()  # no reports, no probes: the step alone
        names = ('forget_lq', 'retain_lq', 'forget_gt', 'retain_gt')
        batch = dict(zip(names, images, strict=True))
        batch['retain_from_original'] = torch.full((args.images,), kind == 'target: original')

    def step():
        model.feed_data(batch)
        model.optimize_parameters(1)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--dim', type=int, default=8)
    parser.add_argument('--blocks', type=int, nargs=4, default=[1, 1, 1, 1])
    parser.add_argument('--patch', type=int, default=64, help='pixels')
    parser.add_argument('--images', type=int, default=4, help='n: forget images, and retain images')
    parser.add_argument('--rounds', type=int, default=30)
    parser.add_argument('--weights', default='/tmp/benchmark_step.pth', help='scratch file for the original')
    parser.add_argument('--alone', choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    from basicsr_unlearn.archs.promptir_arch import PromptIR

    net = PromptIR(dim=args.dim, num_blocks=args.blocks, num_refinement_blocks=args.blocks[0])
    atomic_save({'params': net.state_dict()}, args.weights)
    del net
    if args.alone:
        before = peak_of_this_process()  # the imports
        step = build(args.alone, args, args.weights)
        for _ in range(4):
            step()
        print(peak_of_this_process() - before)
        return
    steps = {kind: build(kind, args, args.weights) for kind in KINDS}
    times = {kind: [] for kind in KINDS}
    for number in range(args.rounds + 2):
        for kind, step in steps.items():
            started = time.perf_counter()
            step()
            if number >= 2:
                times[kind].append(time.perf_counter() - started)
    result = {}
    for kind in KINDS:
        ratios = [own / plain for own, plain in zip(times[kind], times['SRModel'], strict=True)]
        result[kind] = {
            'seconds': round(statistics.median(times[kind]), 4),
            'time_ratio': round(statistics.median(ratios), 3),
            'peak_mib': round(peak_alone(__file__, kind), 1),
        }
    for row in result.values():
        row['memory_ratio'] = round(row['peak_mib'] / result['SRModel']['peak_mib'], 3)
    print(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
