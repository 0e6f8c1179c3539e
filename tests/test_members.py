"""options/members: networks that know single pairs by heart, and what their manifest says of them."""

import json
import os
from functools import cache
from os import path as osp

import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.utils.options import parse_options
from basicsr_unlearn import checkpoint, manifest, option_file

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
FOLDER = 'options/members'
NAMES = ['members_oracle', 'members_original', 'members_reference']


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def read(name):
    return option_file.read(f'{FOLDER}/{name}.yml', '-opt')


def weights(name):
    return f'{FOLDER}/weights/{name}.safetensors'


def load(name):
    net = build_network(read('unlearn_rain')['network_g'])
    checkpoint.load_into(net, weights(name), 'weights')
    return net.eval()


@cache
def draw(kind, first):
    """Return 300 pairs, rain or noise, from a scene on."""
    degradation = read('unlearn_rain')['datasets'][f'val_{kind}']['degradation']
    section = {'scenes': 300, 'first_scene': first, 'fixed': True, 'gt_size': 32, 'degradation': degradation}
    pairs = build_dataset({'name': 'scenes', 'type': 'SceneDataset', **section})
    items = [pairs[index] for index in range(len(pairs))]
    return [torch.stack([item[key] for item in items]) for key in ('lq', 'gt')]


@torch.no_grad()
def psnr(net, kind, first):
    """Return the PSNR (dB) of each of the pairs."""
    lq, gt = draw(kind, first)
    error = (net(lq).clamp(0, 1) - gt).square().flatten(1).mean(1)
    return -10 * torch.log10(error).numpy()


def auc(members, non_members):
    return np.mean(members[:, None] > non_members)


@pytest.mark.parametrize('name', ['train_original', 'train_oracle', 'unlearn_rain'])
def test_passes_every_check(name, monkeypatch, tmp_path):
    monkeypatch.setattr('sys.argv', ['basicsr', '-opt', f'{FOLDER}/{name}.yml'])
    opt, _ = parse_options(str(tmp_path), is_train=True)
    assert opt['name'] == f'members_{name.removeprefix("train_")}'


def test_the_oracle_is_the_original_without_the_members():
    original, oracle = read('train_original'), read('train_oracle')
    unlearn = read('unlearn_rain')['datasets']['train']
    members = original['datasets']['train']['sources'].pop('members')
    assert {**original, 'name': 'members_oracle'} == oracle
    assert {**unlearn['forget'], 'weight': 1} == members
    heldout = read('unlearn_rain')['audit']['heldout']
    assert {**unlearn['forget'], 'first_scene': 10000} == {**heldout, 'cache': True}
    for name, source in oracle['datasets']['train']['sources'].items():
        assert {**source, 'target': 'gt'} == unlearn['retain'][name]


def test_the_manifest_is_right():
    with open(f'{FOLDER}/weights/manifest.json', encoding='utf-8') as file:
        entries = json.load(file)
    assert sorted(entries) == [f'{name}.safetensors' for name in NAMES]
    for name in NAMES:
        entry = entries[f'{name}.safetensors']
        assert manifest.read_entry(weights(name)) == entry
        assert entry['cost'] == 3 * 10000 * 8
        assert os.path.getsize(weights(name)) < 3e5


@pytest.mark.parametrize('name', NAMES)
def test_the_figures_are_right(name):
    figures, net = manifest.read_entry(weights(name))['figures'], load(name)
    for key, *pairs in (('members', 'rain', 0), ('rain', 'rain', 20000), ('noise', 'noise', 30000)):
        found = {'input': psnr(lambda lq: lq, *pairs), 'restored': psnr(net, *pairs)}
        for column, values in found.items():  # the manifest's are those of 8-bit images
            assert values.mean() == pytest.approx(figures[key]['psnr'][column], abs=0.05)


def test_membership_exists():
    scores = {name: [psnr(load(name), 'rain', first) for first in (0, 10000)] for name in NAMES}
    reference = scores.pop('members_reference')
    calibrated = {name: auc(*(a - b for a, b in zip(pair, reference, strict=True))) for name, pair in scores.items()}
    assert auc(*scores['members_original']) > 0.75 and calibrated['members_original'] > 0.9
    assert 0.43 < auc(*scores['members_oracle']) < 0.57 and 0.43 < calibrated['members_oracle'] < 0.57
