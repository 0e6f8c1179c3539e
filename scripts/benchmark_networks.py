"""Compare the package's networks with their plain twins (plain_networks.py): forward pass and training step.

    python scripts/benchmark_networks.py --networks PromptIR AdaIR Restormer NAFNet --patch 128

Both have the same weights and input and take turns in one process, so that whatever else the machine does hits both
alike; medians are compared. Peak memory is that of a process of its own for each, the imports not counted (on a GPU:
CUDA's). A step is forward, L1 loss, backward and AdamW. With a GPU, rows with bf16 autocast and torch.compile follow.
"""

import argparse
import json
import statistics
import sys
import time
from contextlib import nullcontext

import torch
from peak_memory import peak_alone, peak_of_this_process
from plain_networks import make_plain
from torch.nn import functional as F

import basicsr_unlearn  # noqa: F401
from basicsr.utils.registry import ARCH_REGISTRY

NETWORKS = ('PromptIR', 'AdaIR', 'Restormer', 'NAFNet')
WHAT = ('forward', 'step')


def build(name, kind, args):
    """Return two functions: one forward pass without gradient, and one training step."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.manual_seed(0)
    net = ARCH_REGISTRY.get(name)(**args.options).to(device)
    if 'plain' in kind:
        net = make_plain(net)
    if 'compile' in kind:
        net = torch.compile(net)
    autocast = torch.autocast(device, torch.bfloat16) if 'bf16' in kind else nullcontext()
    lq, gt = torch.rand(2, args.images, 3, args.patch, args.patch, device=device)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-6)

    def forward():
        with torch.no_grad(), autocast:
            net(lq)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = F.l1_loss(net(lq), gt)
        loss.backward()
        optimizer.step()

    return {'forward': forward, 'step': step}


def finish():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(name, kinds, what, args):
    """Let the kinds take turns; return the table's rows of one network and one of forward and step."""
    runs = {kind: build(name, kind, args)[what] for kind in kinds}
    times = {kind: [] for kind in kinds}
    for number in range(args.rounds + 1):
        for kind, run in runs.items():
            finish()
            started = time.perf_counter()
            run()
            finish()
            if number:  # the first round warms up
                times[kind].append(time.perf_counter() - started)
    rows = []
    for kind in kinds:
        rows.append(
            {
                'network': name,
                'what': what,
                'kind': kind,
                'seconds': statistics.median(times[kind]),
                'faster': statistics.median(b / a for a, b in zip(times[kind], times[kinds[0]], strict=True)),
                'peak_mib': peak_alone(__file__, name, kind, what),
            }
        )
        rows[-1]['memory'] = rows[-1]['peak_mib'] / rows[0]['peak_mib']
    return rows


def to_markdown(rows):
    """Return the rows as a table for people: one line for each network and kind."""
    names = ('seconds', 'times faster', 'peak MiB', 'of plain')
    lines = ['| network | kind | ' + ' | '.join(f'{what}: {name}' for what in WHAT for name in names) + ' |']
    lines.append('|' + ' --- |' * (2 + len(WHAT) * len(names)))
    together = {}
    for row in rows:
        cells = f'{row["seconds"]:.2f} | {row["faster"]:.2f} | {row["peak_mib"]:.0f} | {row["memory"]:.2f} |'
        together.setdefault((row['network'], row['kind']), []).append(cells)
    return '\n'.join([*lines, *(f'| {name} | {kind} | {" ".join(cells)}' for (name, kind), cells in together.items())])


def main():
    kinds = ['plain', 'ours']
    if torch.cuda.is_available():
        kinds += ['plain bf16', 'ours bf16', 'ours compile', 'ours bf16 compile']
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=NETWORKS)
    parser.add_argument('--options', type=json.loads, default={}, help='arguments of the network, as JSON')
    parser.add_argument('--patch', type=int, default=128, help='pixels')
    parser.add_argument('--images', type=int, default=1, help='per step')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--kinds', nargs='+', default=kinds, help=f'rows; the first is the reference. Default: {kinds}')
    parser.add_argument('--json', metavar='FILE', help='write the rows there, too')
    parser.add_argument('--alone', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        before = peak_of_this_process()  # the imports
        name, kind, what = args.alone
        run = build(name, kind, args)[what]
        run(), run()
        finish()
        print(peak_of_this_process() - before)
        return
    rows = []
    for name in args.networks:
        for what in WHAT:
            print(f'{name}: {what} ...', file=sys.stderr, flush=True)
            rows += measure(name, args.kinds, what, args)
    print(to_markdown(rows))
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump(rows, file, indent=2)


if __name__ == '__main__':
    main()
