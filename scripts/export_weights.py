"""Put trained weights into a folder of small weights: half precision .safetensors, with an entry in its manifest.json.

Example, after `basicsr train -opt options/quickstart/train_original.yml`:

    python scripts/export_weights.py -opt options/quickstart/train_original.yml --to basicsr_unlearn/zoo

The entry holds how the weights were trained, their cost in image-forward-equivalents (3 for each image of the
training), the sha256 of the file and the figures on the validation sets of the option file, measured on the half-
precision weights.
"""

import argparse
import json
from os import path as osp

import torch

import basicsr_unlearn  # noqa: F401
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr_unlearn import checkpoint, manifest, option_file
from basicsr_unlearn.models.evaluation import Evaluator
from basicsr_unlearn.options import prepare


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-opt', required=True, help='option file of the training')
    parser.add_argument('--weights', help='default: experiments/NAME/models/net_g_latest.pth')
    parser.add_argument('--earlier', nargs='*', default=[], help='option files of the stages before, for the cost')
    parser.add_argument('--name', help='name of the file. Default: the name in the option file')
    parser.add_argument('--to', required=True, help='folder for the weights and manifest.json')
    parser.add_argument('--minutes', type=float, help='what the training took, for the record')
    parser.add_argument('--hardware', help='on what it was trained, for the record')
    parser.add_argument('--no-history', action='store_true', help='leave out what the network was made to forget')
    args = parser.parse_args()
    opt = prepare(option_file.read(args.opt, '-opt'))
    opt.update(rank=0, world_size=1)
    trained = args.weights or osp.join('experiments', opt['name'], 'models', 'net_g_latest.pth')
    weights = checkpoint.load_weights(trained, '--weights')
    history = [] if args.no_history else checkpoint.read_history(trained, '--weights')
    name = f'{args.name or opt["name"]}.safetensors'
    path = osp.join(args.to, name)
    digest = checkpoint.save_half(weights, path, history)

    net = build_network(opt['network_g'])
    checkpoint.load_into(net, path, '--weights')
    evaluator = Evaluator(opt, torch.device('cpu'))
    figures = {}
    for key, section in opt['datasets'].items():
        if key.startswith('val'):
            section.update(phase='val', scale=opt['scale'])
            found = evaluator.measure({'input': None, 'restored': net}, build_dataset(section), section['name'])
            figures[section['name']] = {
                metric: {k: round(v, 4) for k, v in value.items()} for metric, value in found.items()
            }
    stages = []
    for path in [*args.earlier, args.opt]:
        stage = option_file.read(path, '-opt')
        train = stage['datasets']['train']
        stages.append(
            {
                'trained_by': path,
                'sources': {key: source.get('weight', 1) for key, source in train['sources'].items()},
                'iterations': int(stage['train']['total_iter']),
                'batch_size': train['batch_size_per_gpu'],
                'patch_size': train['gt_size'],
            }
        )
    entry = {
        'network_g': opt['network_g'],
        'stages': stages,
        'cost': sum(3 * stage['iterations'] * stage['batch_size'] for stage in stages),
        'minutes': args.minutes,
        'hardware': args.hardware,
        'parameters': sum(value.numel() for value in weights.values()),
        'sha256': digest,
        'figures': figures,
    }
    manifest.write_entry(osp.join(args.to, name), entry)
    print(json.dumps(entry, indent=2))


if __name__ == '__main__':
    main()
