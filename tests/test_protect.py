"""`basicsr protect`: the limit in grey levels, what makes a perturbation, what is refused; and its judge on a toy."""

import importlib.util
import json
import os
from os import path as osp

import numpy as np
import pytest
import torch
from PIL import Image

from basicsr_unlearn.attacks import surrogate
from basicsr_unlearn.cli import main
from basicsr_unlearn.data.degradations import build_degradation
from basicsr_unlearn.data.scenes import draw_scene
from basicsr_unlearn.models.pictures import Picture, read_picture, write_png

SCRIPT = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'scripts', 'judge_protection.py')
NOISE = build_degradation({'type': 'gaussian_noise', 'sigma': 25})


def scene(number, size=64):
    return np.round(draw_scene(np.random.default_rng(number), size)[0] * 255).astype(np.uint8)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder with a folder `in` of two photographs, and a surrogate that trains for a moment."""
    monkeypatch.setattr(surrogate, 'TRAINING', 6)
    monkeypatch.setattr(surrogate, 'POOL', 16)
    monkeypatch.setattr(surrogate, 'BATCH', 2)
    monkeypatch.chdir(tmp_path)
    os.makedirs('in/deep')
    write_png('in/a.png', Picture(scene(1)[:60]))
    Image.fromarray(scene(2)).save('in/deep/b.jpg')
    return tmp_path


def protect(*arguments, target='out'):
    return main(['protect', '-i', 'in', '-o', target, *arguments])


def tree(folder):
    """Return {name: bytes} of all files of a folder."""
    paths = [osp.join(root, name) for root, _, names in os.walk(folder) for name in names]
    return {osp.relpath(path, folder): open(path, 'rb').read() for path in paths}


# --- what is written ---


@pytest.mark.parametrize('eps', [1, 8])
def test_at_most_eps_grey_levels_after_rounding(home, eps):
    wide = (scene(3) * 256.0 + 100).astype(np.uint16)
    alpha = scene(5)[..., :1]
    write_png('in/wide.png', Picture(wide))
    write_png('in/grey.png', Picture(scene(4)[..., :1], alpha, b'a profile'))
    write_png('in/ends.png', Picture(np.where(scene(6) > 99, 255, 0).astype(np.uint8)))
    assert protect('--eps', str(eps), '--steps', '2') == 0
    record = json.load(open('out/protect.json'))
    assert [entry['name'] for entry in record['pictures']] == [
        'a.png',
        'ends.png',
        'grey.png',
        'wide.png',
        'deep/b.png',
    ]
    for entry in record['pictures']:
        name = entry['name'].replace('deep/b.png', 'deep/b.jpg')
        before, after = read_picture(f'in/{name}'), read_picture(f'out/release/{entry["name"]}')
        assert after.colour.dtype == before.colour.dtype and after.colour.shape == before.colour.shape
        scale = 257 if name == 'wide.png' else 1
        change = (after.colour.astype(int) - before.colour) / scale
        assert 0 < np.abs(change).max() <= eps and entry['largest_change'] == np.abs(change).max()
        assert entry['psnr'] == pytest.approx(10 * np.log10(255**2 / np.square(change).mean()))
        if name in ('a.png', 'ends.png'):
            assert np.abs(change).max() == eps
    grey = read_picture('out/release/grey.png')
    assert np.array_equal(grey.alpha, alpha) and grey.profile == b'a profile'
    assert record['largest_change'] == eps and record['eps'] == eps and record['steps'] == 2


def test_folders_and_the_sheet(home, capsys):
    (home / 'in/notes.txt').write_text('mine')
    assert protect('--degradation', 'rain', target='in/out') == 0
    assert sorted(tree('in/out')) == ['comparison.png', 'protect.json', 'release/a.png', 'release/deep/b.png']
    text = capsys.readouterr().out
    assert 'protected 2 photographs in in/out/release: at most 8 grey levels' in text and 'notes.txt' in text
    before, after = (np.array(Image.open(path)).astype(int) for path in ('in/a.png', 'in/out/release/a.png'))
    panels = np.split(np.array(Image.open('in/out/comparison.png'))[20:], 3, axis=1)
    expected = before, after, (8 * (after - before) + 128).clip(0, 255)
    assert all(np.array_equal(*pair) for pair in zip(panels, expected, strict=True))
    assert json.load(open('in/out/protect.json'))['degradation'] == {'type': 'rain'}


def test_equal_seeds_give_equal_files(home):
    for target, seed in (('one', '3'), ('two', '3'), ('three', '4')):
        assert protect('--seed', seed, target=target) == 0
    one, two, three = (tree(f'{target}/release') for target in ('one', 'two', 'three'))
    assert one == two and all(one[name] != three[name] for name in one)


# --- what makes a perturbation ---


def test_harder_for_the_surrogate_than_photographs_and_random_changes(home, monkeypatch):
    monkeypatch.setattr(surrogate, 'TRAINING', 25)
    photographs = torch.stack([torch.tensor(scene(i, 48).transpose(2, 0, 1) / 255).float() for i in range(12)])
    net = surrogate.train_surrogate(photographs, NOISE, 8, 0)
    hardest = surrogate.hardest(net, photographs, NOISE, 8, 5, np.random.default_rng(1))
    sign = torch.randint(0, 2, photographs.shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    random = (photographs + sign * 8 / 255).clamp(0, 1)
    with torch.no_grad():
        plain, noisy, worst = (
            surrogate.loss(net, images, NOISE, np.random.default_rng(3)) for images in (photographs, random, hardest)
        )
    assert (worst > plain).all() and worst.mean() > noisy.mean() + 0.001


def test_the_surrogate_learns_on_the_perturbed_patches(monkeypatch):
    monkeypatch.setattr(surrogate, 'BATCH', 2)
    monkeypatch.setattr(surrogate, 'TRAINING', 30)
    patches = torch.rand(1, 3, 1, 1).expand(8, 3, 48, 48)
    net = surrogate.train_surrogate(patches, NOISE, 8, 0)
    with torch.no_grad():
        before, after = (
            surrogate.loss(one, patches, NOISE, np.random.default_rng(1)).mean()
            for one in (surrogate.small_net(0), net)
        )
    assert not net.training and after < 0.8 * before


def test_degraded_is_the_degradation_and_passes_the_gradient():
    images = torch.rand(2, 3, 16, 20, requires_grad=True)
    result = surrogate.degraded(images, NOISE, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    for image, own in zip(result.detach(), images.detach(), strict=True):
        expected = NOISE(own.permute(1, 2, 0).numpy(), rng)
        assert np.allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-6)
    result.sum().backward()
    assert torch.equal(images.grad, torch.ones_like(images))


def test_tiles_cover_the_photograph(monkeypatch):
    monkeypatch.setattr(surrogate, 'TILE', 24)
    net, image = surrogate.small_net(0).eval(), torch.rand(1, 3, 30, 53) * 0.8 + 0.1
    arguments = NOISE, 8, 1
    result = surrogate.hardest_of_any_size(net, image, *arguments, np.random.default_rng(0))
    change = (result - image).abs()
    assert change.max() <= 8 / 255 + 1e-6 and (change > 0).float().mean() > 0.99
    first = surrogate.hardest(net, image[..., :24, :24], *arguments, np.random.default_rng(0))
    assert torch.equal(result[..., :24, :24], first)


# --- what is refused ---


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--eps', '0'], '--eps 0: must be a whole number from 1 to 64.'),
        (['--eps', '65'], '--eps 65: must be'),
        (['--steps', '0'], '--steps 0: must be a whole number from 1 to 1000.'),
        (['--seed', '-1'], '--seed -1: must be'),
        (['--degradation', 'snow'], 'degradation: type: snow is unknown. Choose one of gaussian_noise, haze, rain.'),
        (['--degradation', '{type: gaussian_noise, sigma: 0}'], 'degradation: sigma: 0 must be numbers in (0, 255].'),
        (['--degradation', '{type: rain'], '--degradation {type: rain: line 1:'),
        (['-i', 'nowhere'], '-i nowhere: no such file or folder.'),
        (['-i', 'in/small.png'], 'in/small.png: 60x47 pixels are less than 48x48. Take it out of the folder.'),
        (['-i', 'in/broken.jpg'], 'in/broken.jpg: cannot be read as a picture'),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(home, capsys, arguments, words):
    write_png('in/small.png', Picture(scene(1)[:47, :60]))
    (home / 'in/broken.jpg').write_bytes(b'nothing')
    before = tree('.')
    assert protect(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr:')]
    assert len(lines) == 1 and lines[0].startswith('basicsr: error: ' + words)
    assert tree('.') == before and not osp.exists('out')


def test_nothing_is_overwritten(home, capsys):
    os.makedirs('out')
    (home / 'out/mine.txt').write_text('mine')
    (home / 'file').write_text('mine')
    for target in ('out', 'file', 'in'):
        before = tree('.')
        assert protect(target=target) == 2
        assert f'-o {target}: exists already and is no empty folder. Give another one.' in capsys.readouterr().err
        assert tree('.') == before
    os.remove('out/mine.txt')
    assert protect() == 0
    before = tree('out')
    assert protect() == 2 and tree('out') == before


# --- the judge ---


def test_the_judge_on_a_toy(home, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('judge_protection', SCRIPT)
    judge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(judge)
    monkeypatch.setattr(judge, 'CENTRE', 48)
    os.remove('in/a.png')
    os.makedirs('flat')
    write_png('flat/b.png', Picture(np.full((64, 64, 3), 90, np.uint8)))
    common = ['--photographs', 'in/deep', '--heldout', 'in/deep', '--iterations', '4', '--out', 'judge.json']
    judge.main([*common, '--protected', 'in/deep', '--others', 'flat'])
    rows = [line.strip('|').split('|') for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 7 and [row[3].strip() for row in rows] == ['+0.00', '', '', *['+0.00'] * 4]
    assert [row[6].strip() for row in rows] == ['+0.00', '', '', *['+0.00'] * 4]
    values = json.load(open('judge.json'))
    assert [f'{entry["photographs"][0][0]:.2f}' for entry in values] == [row[1].strip() for row in rows]
    judge.main([*common, '--protected', 'flat', '--rows', '1'])
    changed = json.load(open('judge.json'))
    assert changed[0]['photographs'] == values[0]['photographs'] and changed[0]['protected'] != values[0]['protected']
    assert len(changed) == 1
    with pytest.raises(SystemExit) as end:
        judge.main([*common[:2], '--protected', 'flat', '--heldout', 'nowhere'])
    assert end.value.code == 2 and 'nowhere' in capsys.readouterr().err
