"""The README's Python runs as it stands."""

import re
from os import path as osp

import pytest
import torch

from basicsr_unlearn.methods import METHOD_REGISTRY, Batch, build_method

README = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'README.md')


@pytest.fixture(scope='module')
def blocks():
    with open(README, encoding='utf-8') as file:
        return re.findall(r'```python\n(.*?)```', file.read(), re.S)


def test_training_loop(blocks):
    torch.manual_seed(0)
    images = [torch.rand(2, 3, 32, 32) for _ in range(4)]
    names = {'batches': [images]}
    exec(blocks[0], names)
    gradients = [value.grad for value in names['net'].parameters() if value.grad is not None]
    assert len(gradients) == len(list(names['net'].parameters())) - 6
    assert names['loss'].isfinite()


def test_own_method(blocks):
    from types import SimpleNamespace

    try:
        exec(blocks[1], {'torch': torch})
        run = SimpleNamespace(device='cpu', forward=lambda *images: images)
        image = torch.rand(1, 3, 16, 16)
        losses = build_method({'type': 'Blur'}, run).losses(Batch(image, image, image, image))
        assert losses['l_forget'] > 0.01 and losses['l_retain'] == 0
    finally:
        METHOD_REGISTRY._obj_map.pop('Blur', None)


def test_it_is_short(blocks):
    with open(README, encoding='utf-8') as file:
        lines = file.readlines()
    assert len(lines) <= 200 and not any('@@' in line for line in lines)
