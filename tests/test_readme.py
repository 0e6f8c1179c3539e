"""The Python of options/README.md runs as it stands, and the leaderboards of README.md are measured ones."""

import glob
import re
from os import path as osp

import torch

from basicsr_unlearn.methods import METHOD_REGISTRY, Batch, build_method

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
README = osp.join(ROOT, 'README.md')


def python_blocks():
    with open(osp.join(ROOT, 'options', 'README.md'), encoding='utf-8') as file:
        loop, method = re.findall(r'```python\n(.*?)```', file.read(), re.S)
    return loop, method


def test_training_loop():
    torch.manual_seed(0)
    images = [torch.rand(2, 3, 32, 32) for _ in range(4)]
    names = {'batches': [images]}
    exec(python_blocks()[0], names)
    gradients = [value.grad for value in names['net'].parameters() if value.grad is not None]
    assert len(gradients) == len(list(names['net'].parameters())) - 6
    assert names['loss'].isfinite()


def test_own_method():
    from types import SimpleNamespace

    try:
        exec(python_blocks()[1], {})
        run = SimpleNamespace(device='cpu', forward=lambda *images: images)
        image = torch.rand(1, 3, 16, 16)
        losses = build_method({'type': 'Blur'}, run).losses(Batch(image, image, image, image))
        assert losses['l_forget'] > 0.01 and losses['l_retain'] == 0
    finally:
        METHOD_REGISTRY._obj_map.pop('Blur', None)


def test_it_is_short():
    with open(README, encoding='utf-8') as file:
        lines = file.readlines()
    assert len(lines) <= 200 and not any('@@' in line for line in lines)


def rows_of_tables(path):
    """Return `{column: cell}` for each row of the Markdown tables of a file whose first column is `row`."""
    rows, head = [], None
    with open(path, encoding='utf-8') as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip('|').split('|')] if line.startswith('|') else None
            if cells is None:
                head = None
            elif head is None:
                head = cells
            elif head[0] == 'row' and set(cells[0]) != {'-'}:
                rows.append(dict(zip(head, cells, strict=True)))
    return rows


def test_its_leaderboards_are_the_benchmarks_own():
    measured = []
    for path in glob.glob(osp.join(ROOT, 'options', 'aio3', 'leaderboard_*.md')):
        measured += [set(row.items()) for row in rows_of_tables(path)]
    shown = rows_of_tables(README)
    assert len(shown) >= 14
    for row in shown:
        assert any(set(row.items()) <= known for known in measured), row
