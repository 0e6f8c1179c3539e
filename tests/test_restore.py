"""`basicsr restore`: folders, arguments, sheets. Kinds of pictures: test_pictures.py."""

import os

import numpy as np
import pytest
import torch
import yaml
from conftest import make_net
from PIL import Image

from basicsr_unlearn.cli import main
from basicsr_unlearn.models import inference


class Unchanged(torch.nn.Module):
    """A restorer that gives back its input."""

    def forward(self, x):
        return x.clone()


@pytest.fixture
def home(tmp_path, monkeypatch, options, weights):
    """An empty folder with an option file, and a folder `in` beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in').mkdir()
    tree = {'network_g': options['network_g'], 'path': {'pretrain_network_g': weights}, 'num_gpu': 0}
    (tmp_path / 'net.yml').write_text(yaml.safe_dump(tree))
    return tmp_path


@pytest.fixture
def unchanged(monkeypatch):
    """Every network gives back its input; its weights are not looked at."""
    from basicsr_unlearn import restore_folder

    monkeypatch.setattr(restore_folder, '_load', lambda *arguments: Unchanged())


def restore(*arguments, target='out'):
    return main(['restore', '-i', 'in', '-o', target, '-opt', 'net.yml', *arguments])


def noise(height, width, channels=3, kind=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (height, width, channels), kind)
    return values[..., 0] if channels == 1 else values


def refused(status, capsys, *words):
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(error) == 1, error
    assert error[0].startswith('basicsr: error: ') and all(word in error[0] for word in words), error
    return True


# --- folders ---


def test_subfolders_other_files_and_an_output_inside_the_input(home, unchanged, capsys):
    for name in ('b.png', 'deep/er/a.jpg', 'a.b.png', '.hidden.png'):
        os.makedirs(os.path.dirname(f'in/{name}'), exist_ok=True)
        Image.fromarray(noise(8, 8)).save(f'in/{name}')
    (home / 'in/notes.txt').write_text('mine')
    for target in ('in/out', 'in/again'):
        assert restore(target=target) == 0
        if target == 'in/again':
            break
        found = sorted(
            os.path.relpath(os.path.join(root, name), 'in/out')
            for root, _, names in os.walk('in/out')
            for name in names
        )
        assert found == ['a.b.png', 'b.png', 'deep/er/a.png']
        text = capsys.readouterr().out
        assert 'restored 3 pictures into in/out' in text and 'notes.txt' in text
    assert len(os.listdir('in/again/out')) == 3


def test_a_single_picture(home, weights):
    Image.fromarray(noise(8, 8)).save('in/a.jpg')
    assert main(['restore', '-i', 'in/a.jpg', '-o', 'out', '-opt', 'net.yml', '--weights', weights]) == 0
    assert os.listdir('out') == ['a.png']


def test_nothing_of_the_users_is_lost(home, capsys):
    Image.fromarray(noise(8, 8)).save('in/a.jpg')
    (home / 'out').mkdir()
    (home / 'out/a.png').write_text('mine')
    assert refused(restore(), capsys, 'out/a.png exists already')
    assert (home / 'out/a.png').read_text() == 'mine' and os.listdir('out') == ['a.png']
    assert restore(target='in') == 0  # beside the picture: no file is in the way
    assert refused(restore(target='in'), capsys, 'in/a.png')


def test_two_pictures_with_one_result(home, capsys):
    Image.fromarray(noise(8, 8)).save('in/a.jpg')
    Image.fromarray(noise(8, 8)).save('in/a.png')
    assert refused(restore(), capsys, 'in/a.jpg and in/a.png would both become out/a.png')
    assert not (home / 'out').exists()


# --- two networks ---


def test_sheets(home, tmp_path):
    image = noise(24, 40)
    Image.fromarray(image).save('in/a.png')
    (home / 'in/sub').mkdir()
    Image.fromarray(noise(9, 9, 1)).save('in/sub/b.png')
    torch.save({'params': make_net(1).state_dict()}, 'other.pth')
    assert restore('--compare', 'other.pth') == 0
    drawn = np.array(Image.open('out/comparison/a.png'))
    assert drawn.shape == (24 + 20, 3 * 40, 3)
    panels = drawn[20:].reshape(24, 3, 40, 3).transpose(1, 0, 2, 3)
    assert np.array_equal(panels[0], image) and np.array_equal(panels[2], np.array(Image.open('out/a.png')))
    tensor = torch.tensor(image.transpose(2, 0, 1)[None] / 255, dtype=torch.float32)
    with torch.no_grad():
        other = inference.restore(make_net(1).eval(), tensor)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.array_equal(panels[1], np.round(other * 255))
    assert Image.open('out/comparison/sub/b.png').size == (27, 29) and sorted(os.listdir('out')) == [
        'a.png',
        'comparison',
        'sub',
    ]


def test_labels():
    from basicsr_unlearn.restore_folder import _labels

    assert _labels('/w/one.pth', '/w/two.pth') == ('one', 'two')
    assert _labels('/e/run1/models/net_g.pth', '/e/run2/models/net_g.pth') == ('run1', 'run2')
    assert _labels('/e/net_g.pth', '/net_g.pth') == ('restored', 'other')


def test_an_unlearning_run(home, options, capsys, monkeypatch):
    """The option file's own weights are the original: they are never taken for the result."""
    from basicsr_unlearn import restore_folder

    Image.fromarray(noise(24, 64)).save('in/a.png')
    options['datasets'] = {'train': {'forget': {'dataroot_lq': '/not/on/this/machine'}}}
    (home / 'net.yml').write_text(yaml.safe_dump(options))
    words = ('--weights', 'before unlearning', 'experiments/tiny/models/net_g_latest.pth')
    assert refused(restore(), capsys, *words) and not (home / 'out').exists()
    torch.save({'params': make_net(1).state_dict()}, 'result.pth')
    names = []
    monkeypatch.setattr(restore_folder, 'sheet', lambda panels, order: names.append(order) or panels['input'])
    assert restore('--weights', 'result.pth', '--compare') == 0
    assert names == [['input', 'original', 'unlearned']]
    assert refused(restore('--weights', 'result.pth', '--compare', './result.pth', target='b'), capsys, 'itself')


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(['restore', '--help'])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert all(flag in text for flag in ('-i FOLDER', '-o FOLDER', '-opt FILE', '--weights', '--compare'))
