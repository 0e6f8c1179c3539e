"""Draw one picture of each validation set: degraded, original, unlearned, oracle, clean, side by side.

python scripts/compare_pictures.py -opt options/quickstart/unlearn_haze.yml --number 2 --out comparison.png

The unlearned network is experiments/NAME/models/net_g_latest.pth; the other two are those of the option file.
"""

import argparse
from os import path as osp

import cv2
import numpy as np
import torch

import basicsr_unlearn  # noqa: F401
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr_unlearn import option_file
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.models.evaluation import Evaluator
from basicsr_unlearn.models.tensorboard import sheet
from basicsr_unlearn.options import prepare


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-opt', required=True, help='option file of the unlearning run')
    parser.add_argument('--number', type=int, default=0, help='which picture of each set. Default: 0')
    parser.add_argument('--out', required=True, help='PNG file to write')
    args = parser.parse_args()
    opt = prepare(option_file.read(args.opt, '-opt'))
    opt.update(rank=0, world_size=1)
    files = {
        'original': opt['path']['pretrain_network_g'],
        'unlearned': osp.join('experiments', opt['name'], 'models', 'net_g_latest.pth'),
        'oracle': opt['path'].get('pretrain_network_oracle'),
    }
    nets = {}
    for name, path in files.items():
        if path:
            nets[name] = build_network(opt['network_g'])
            load_into(nets[name], path, name)
    evaluator, rows = Evaluator(opt, torch.device('cpu')), []
    for key, section in opt['datasets'].items():
        if key.startswith('val'):
            section.update(phase='val', scale=1)
            panels = evaluator.pictures(nets, build_dataset(section), args.number + 1)[args.number]
            rows.append(sheet(panels, ['input', *nets, 'clean']))
    width = min(row.shape[1] for row in rows)
    cv2.imwrite(args.out, np.concatenate([row[:, :width] for row in rows]))
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
