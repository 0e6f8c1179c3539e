"""Writes a made-up audit whose numbers behave like those of a true one."""

import json
import math
import random

import cv2
import numpy as np

from basicsr_unlearn.data.scenes import draw_scene

NETS = ('original', 'unlearned', 'oracle', 'oracle_2')
LOOKS = (0, 1, 2, 5, 10, 20, 40, 70, 100)
START = {'original': 21.6, 'unlearned': 15.0, 'oracle': 14.9, 'oracle_2': 14.9}
SPEED = {'original': 0.3, 'unlearned': 0.055, 'oracle': 0.04, 'oracle_2': 0.043}
KEPT = {'original': 27.9, 'unlearned': 27.85, 'oracle': 29.6, 'oracle_2': 29.7}


def make_audit(name='unlearn_haze', nets=NETS, private=False, images=12):
    """Return the content of an audit.json; without `oracle` among `nets`, what needs it is missing."""
    chance, known = random.Random(name), 'oracle' in nets
    audit = {
        'version': '0.1.0',
        'name': name,
        'run': name,
        'method': 'DeepForget',
        'task': 'degradation',
        'private': private,
        'quick': False,
        'seed': 0,
        'finished': '2026-11-23T07:01:02+00:00',
        'nets': {net: {'path': f'weights/{net}.pth', 'sha256': f'{index}' * 64} for index, net in enumerate(nets)},
        'summary': {'seconds': 107.0, 'stopped_by': 'total_iter'},
        'questions': _questions(nets),
        'audits': {
            'behaviour': {
                'sets': {key: _set(key, nets, images, private, chance) for key in ('haze', 'rain', 'noise25')}
            },
            'relearning': {'attacks': [_attack(*kind, nets) for kind in _kinds()]},
            'hidden': {
                'swap': {
                    'original encoder, own decoder': dict.fromkeys(nets, 15.62),
                    'haze left': {'missing': 'No haze.'},
                },
                'probe': {'accuracy of the type': {net: 0.91 for net in nets}, 'classes': 3},
            },
            'membership': _membership(nets, chance),
            'reconstruction': {'inversion': {'psnr': 17.2531, 'of': 4}, 'informed': {'psnr': 24.1, 'chance': 12.9}},
            'robustness': _robustness(nets),
            'confusion': {'missing': 'It needs a network trained on wrong pairs: give confusion: pairs.'},
            'shadows': {'shadows': 16, 'lira': _rates(0.93, chance), 'u_lira': _rates(0.56, chance)},
        },
        'sets': [_row(key, nets, known) for key in ('haze', 'rain', 'noise25')],
        'pictures': [],
        'record': _record(),
    }
    return audit


def write_audit(root, audit, pictures=('haze', 'rain'), size=96):
    """Write audits/NAME with audit.json and pictures of some sets; return the folder."""
    folder = root / 'audits' / audit['name']
    (folder / 'pictures').mkdir(parents=True)
    for index, key in enumerate(pictures):
        files = {}
        for look, net in enumerate(('input', *(net for net in audit['nets'] if net != 'oracle_2'), 'clean')):
            image, _ = draw_scene(np.random.default_rng(index), size)
            image = np.clip(image * (0.4 + 0.15 * look) + 0.5 - 0.125 * look, 0, 1)
            files[net] = f'pictures/{key}_0_{net}.jpg'
            cv2.imwrite(str(folder / files[net]), np.round(image * 255).astype(np.uint8))
        role = 'forget' if key == 'haze' else 'retain'
        name = audit['audits']['behaviour']['sets'][key]['images'][0]
        audit['pictures'].append({'set': key, 'role': role, 'name': name, 'files': files})
    (folder / 'audit.json').write_text(json.dumps(audit))
    return folder


def measure(key, name, unit, values, rule, light='green', remark='', digits=2):
    return {
        'key': key,
        'name': name,
        'unit': unit,
        'values': values,
        'digits': digits,
        'limits': [0.5, 1.0],
        'rule': rule,
        'light': light,
        'remark': remark,
    }


def _questions(nets):
    def of(*values):
        return {net: value for net, value in zip(NETS, values, strict=True) if net in nets}

    known = 'oracle' in nets
    kept = 'green down to −0.1 dB, amber down to −0.5, red below'
    gone = 'green up to 0.5 dB, amber up to 1.5, red above'
    forgotten = [
        measure(
            'forget_gap',
            'PSNR of the forget sets, distance to the oracle',
            'dB',
            of(6.7, 0.1, 0.0, 0.02),
            'green up to 0.5 dB, amber up to 1.0, red above',
            'green' if known else 'grey',
            '' if known else 'n/a: no oracle was given (path: pretrain_network_oracle)',
        ),
        measure(
            'oddity',
            'Colour shift against the input',
            'grey levels',
            of(6.1, 0.42, 0.40, 0.39),
            'green up to 1.0, amber up to 2.0, red above',
        ),
    ]
    members = 'green up to 0.55, amber up to 0.60, red above'
    return [
        {
            'key': 'forgotten',
            'question': 'Is it forgotten?',
            'light': 'green' if known else 'grey',
            'sentence': 'Yes: haze is left at 15.0 dB, the oracle at 14.9.',
            'measures': forgotten,
        },
        {
            'key': 'removed',
            'question': 'Is it removed, or only hidden?',
            'light': 'amber',
            'sentence': 'For the most part: the hardest attack brings back 0.9 dB more than in the oracle.',
            'measures': [
                measure(
                    'relearn_excess', 'Relearn excess E, worst attack', 'dB', of(5.61, 0.92, 0.0, 0.31), gone, 'amber'
                ),
                measure(
                    'probe',
                    'Linear probe for the type of degradation',
                    '',
                    of(0.99, 0.97, 0.97, 0.96),
                    'green up to 0.05 above the oracle',
                    'grey',
                    'not informative: the original and the oracle are alike',
                    3,
                ),
            ],
        },
        {
            'key': 'kept',
            'question': 'Are the others kept?',
            'light': 'green',
            'sentence': 'Yes: the worst retained set, noise25, lost 0.05 dB.',
            'measures': [
                measure('retained', 'Worst retained set against the original', 'dB', of(0, -0.05, 1.74, 1.77), kept)
            ],
        },
        {
            'key': 'members',
            'question': 'Are members visible?',
            'light': 'red',
            'sentence': 'Yes: an attacker tells members from others with an AUC of 0.64, in the oracle of 0.50.',
            'measures': [
                measure('auc', 'AUC of the calibrated attack', '', of(0.93, 0.64, 0.5, 0.51), members, 'red', '', 3)
            ],
        },
        {
            'key': 'price',
            'question': 'What did it cost?',
            'light': 'green',
            'sentence': "4.9 % of the oracle's training, 107 seconds.",
            'measures': [
                measure('cost', "Cost, share of the oracle's training", '%', {'unlearned': 4.92}, 'green up to 5 %')
            ],
        },
    ]


def _set(key, nets, images, private, chance):
    levels = START if key == 'haze' else KEPT
    shifts = [chance.gauss(0, 1.5) for _ in range(images)]
    psnr = {net: [levels[net] + shift + chance.gauss(0, 0.15) for shift in shifts] for net in nets}
    strength = [abs(0.12 - 0.02 * shift) for shift in shifts]
    found = {
        'role': 'forget' if key == 'haze' else 'retain',
        'images': [
            f'{index * 7919 + 268435456:08x}' if private else f'{key}_{index:04d}.png' for index in range(images)
        ],
        'input': [15.2 + shift for shift in shifts],
        'psnr': psnr,
        'strength': strength,
        'colour': {net: [0.4] * images for net in nets},
        'texture': {net: [0.1] * images for net in nets},
    }
    if 'oracle' in nets:
        scale = {'original': 0.5, 'unlearned': 0.06, 'oracle': 0.0, 'oracle_2': 0.04}
        found['agreement'] = {net: [scale[net] * (value + 0.02) for value in strength] for net in nets}
    return found


def _kinds():
    scopes = [('private', 'all', 1e-4), ('private', 'output', 3e-4), ('public', 'all', 1e-4), ('public', 'lora', 1e-3)]
    return [(data, scope, lr, index) for index, (data, scope, lr) in enumerate(scopes)]


def _attack(data, scope, lr, index, nets):
    def level(net, step):
        faster = SPEED[net] * (1 + index * (net == 'unlearned') * 0.8)
        return 22.0 - (22.0 - START[net]) * math.exp(-faster * step)

    curves = {net: {str(step): level(net, step) for step in LOOKS} for net in nets}
    gaps = {
        net: [max(0, curves[net][str(s)] - curves['oracle'][str(s)]) for s in LOOKS[1:]]
        for net in nets
        if 'oracle' in nets
    }
    excess = {net: sum(values) / len(values) for net, values in gaps.items()} or dict.fromkeys(nets)
    area = {net: sum(curve.values()) / len(curve) for net, curve in curves.items()}
    return {
        'data': data,
        'scope': scope,
        'lr': lr,
        'seed': 0,
        'steps': 100,
        'curves': curves,
        'area': area,
        'excess': excess,
        'window': 87,
    }


def _rates(auc, chance):
    power = (1 - auc) / auc
    fpr = [index / 300 for index in range(301)]
    tpr = [min(1, max(0, value**power)) for value in fpr]
    return {
        'auc': auc,
        'interval': [auc - 0.03, auc + 0.02],
        'tpr_1': 0.01**power,
        'tpr_1_interval': [0.0, 0.3],
        'tpr_01': None,
        'roc': {'fpr': fpr, 'tpr': tpr},
    }


def _membership(nets, chance):
    aucs = {'original': 0.93, 'unlearned': 0.64, 'oracle': 0.5, 'oracle_2': 0.51}
    rates = {net: {'loss': _rates(aucs[net] - 0.01, chance), 'calibrated': _rates(aucs[net], chance)} for net in nets}
    return {
        'members': 300,
        'non_members': 300,
        'nets': {net: {**found, 'roc': found['calibrated'].pop('roc')} for net, found in rates.items()},
    }


def _robustness(nets):
    eps = [0, 0.5, 1, 2, 4]
    steep = {'original': 1.0, 'unlearned': 1.15, 'oracle': 0.95, 'oracle_2': 0.9}
    fall = {net: [27.9 - steep[net] * 1.6 * value for value in eps] for net in nets}
    return {
        'pgd': {'eps': eps, 'psnr': fall},
        'smoothing': {'sigma': [0, 5, 10, 20], 'psnr': {net: [27.9, 27.1, 25.6, 22.0 - steep[net]] for net in nets}},
        'radius': {net: 0.6 / steep[net] for net in nets},
    }


def _row(key, nets, known):
    levels = START if key == 'haze' else KEPT
    psnr = {net: levels[net] if net in nets else None for net in ('original', 'unlearned', 'oracle')}
    ssim = {net: value and value / 33 for net, value in psnr.items()}
    return {
        'name': key,
        'role': 'forget' if key == 'haze' else 'retain',
        'images': 40,
        'psnr': {'input': 15.18, **psnr},
        'ssim': {'input': 0.7, **ssim},
    }


def _record():
    return {
        'forgotten': {
            'pairs': 200,
            'files': 400,
            'sha256': 'f' * 64,
            'hashes': [f'{index:064x}' for index in range(200)],
            'what': 'a whole degradation: 200 pairs of haze',
        },
        'finished': '2026-11-23T06:01:02+00:00',
        'versions': {'basicsr-unlearn': '0.1.0', 'basicsr': '1.4.2', 'torch': '2.9.0', 'python': '3.11.2'},
        'options': {'sha256': 'e' * 64, 'text': 'name: unlearn_haze\ndatasets:\n  train:\n    forget: <forget set>\n'},
        'seeds': [0],
        'weights': {'before': '0' * 64, 'after': '1' * 64},
        'cost': 5910.0,
        'cost_share': 0.0492,
        'iterations': 270,
        'kept_iteration': 270,
        'leftovers': [
            {
                'path': 'weights/original.pth',
                'kind': 'original',
                'bytes': 1_700_000,
                'why': 'the network that knows the forgotten data',
            }
        ],
    }
