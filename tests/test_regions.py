"""Regions of pictures: the file that names them, their masks in samples, and what forgetting them changes."""

import pickle
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from conftest import latest, summary, write_pairs
from test_datasets import options as train_set
from test_influence import OrderedRun
from torch import nn

from basicsr.data import build_dataset
from basicsr_unlearn.attacks.targets import psnr
from basicsr_unlearn.audits.toy_options import adapt
from basicsr_unlearn.data.crops import random_crop
from basicsr_unlearn.data.lmdb_files import write_lmdb
from basicsr_unlearn.data.regions import region_mask
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import Batch, build_method, method_options
from basicsr_unlearn.methods.regions import painted
from basicsr_unlearn.models.run import Run
from basicsr_unlearn.models.stop_rule import Probes
from basicsr_unlearn.models.unlearn_model import UnlearnModel
from basicsr_unlearn.option_tree import check_dataset
from basicsr_unlearn.stop_options import StopOptions

BOXES = {'0000.png': [(5, 7, 9, 4), (30, 2, 3, 20)], '0002.png': [(0, 44, 48, 4)], '0003.png': [(47, 0, 1, 1)]}


@pytest.fixture
def marked(tmp_path):
    """Pairs whose clean images are 200 inside of their boxes and 40 outside, and a file that names the boxes."""
    source = write_pairs(tmp_path, {'type': 'rain'})
    for name, boxes in BOXES.items():
        image = (40 + 160 * region_mask(boxes, 48, 48).repeat(3, 2)).astype(np.uint8)
        cv2.imwrite(f'{source["dataroot_gt"]}/{name}', image)
    lines = [' '.join(map(str, (name, *box))) for name, boxes in BOXES.items() for box in boxes]
    (tmp_path / 'regions.txt').write_text('\n'.join(lines) + '\n')
    return {**source, 'regions': str(tmp_path / 'regions.txt')}


def as_lmdb(source, tmp_path):
    roots = {}
    for key in ('dataroot_lq', 'dataroot_gt'):
        roots[key] = str(tmp_path / f'{key}.lmdb')
        write_lmdb(source[key], sorted([*BOXES, '0001.png']), roots[key])
    return {**source, **roots, 'io_backend': {'type': 'lmdb'}}


def as_degraded(source, tmp_path):
    return {**source, 'dataroot_lq': None, 'degradation': {'type': 'gaussian_noise'}}


# --- data ---


@pytest.mark.parametrize('kind', [lambda source, tmp_path: source, as_lmdb, as_degraded])
def test_masks_follow_crops_and_turns(marked, tmp_path, kind):
    """The clean image shows where the boxes are: the mask is it, to the pixel, in every crop and turn."""
    data = build_dataset(train_set(kind(marked, tmp_path), {'same': {'dataroot_gt': marked['dataroot_gt'], **RAIN}}))
    assert len(data) == 3
    seen = set()
    for number in range(60):
        sample = data[number]
        assert sample['forget_region'].shape == (1, 24, 24) and sample['forget_region'].dtype == torch.float32
        assert torch.equal(sample['forget_region'].expand(3, 24, 24) == 1, sample['forget_gt'] > 0.5)
        assert sample['forget_region'].any() and set(sample['forget_region'].unique().tolist()) <= {0.0, 1.0}
        seen.add(sample['forget_gt_path'].split('/')[-1][:4])
        again = data[number]
        assert all(
            torch.equal(sample[key], again[key]) for key in sample if key.startswith('forget_') and key[-1] != 'h'
        )
    assert seen == {'0000', '0002', '0003'} and 'retain_region' not in sample


RAIN = {'degradation': {'type': 'rain'}}


def test_every_pixel_of_a_box_is_met():
    images, met = [np.zeros((40, 50, 3))], np.zeros((40, 50))
    for seed in range(400):
        crop, mask = random_crop(
            [np.arange(2000).reshape(40, 50, 1)], np.random.default_rng(seed), 16, 'x', [(3, 30, 6, 9)]
        )
        assert crop.shape == mask.shape == (16, 16, 1)
        met[crop[..., 0] // 50, crop[..., 0] % 50] += mask[..., 0]
    inside = region_mask([(3, 30, 6, 9)], 40, 50)[..., 0]
    assert (met[inside == 1] > 50).all() and not met[inside == 0].any()
    whole, mask = random_crop(images, None, None, 'x', [(3, 30, 6, 9)])
    assert whole is images[0] and np.array_equal(mask[..., 0], inside)


def test_scenes(tmp_path):
    (tmp_path / 'regions.txt').write_text('scene_000007 1 2 3 4\n')
    scenes = {'scenes': 4, 'first_scene': 5, 'fixed': True, **RAIN, 'regions': str(tmp_path / 'regions.txt')}
    data = build_dataset(train_set(scenes, use_hflip=False, use_rot=False))
    assert len(data) == 1 and data[0]['forget_lq_path'] == 'scene_000007'
    assert np.array_equal(data[0]['forget_region'][0], region_mask([(1, 2, 3, 4)], 24, 24)[..., 0])


def test_workers_that_unpickle_it(marked):
    data = build_dataset(train_set(marked))
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy[3]['forget_region'], data[3]['forget_region'])


def test_names_may_hold_spaces_and_folders(marked, tmp_path):
    for key in ('dataroot_lq', 'dataroot_gt'):
        (tmp_path / key / 'part 1').mkdir(parents=True)
        image = cv2.imread(f'{marked[key]}/0000.png')
        cv2.imwrite(str(tmp_path / key / 'part 1' / 'my car.png'), image)
        marked[key] = str(tmp_path / key)
    (tmp_path / 'regions.txt').write_text('part 1/my car.png\t5  7 9 4\n')
    assert len(build_dataset(train_set(marked))) == 1


def test_without_regions_the_samples_are_as_before(marked):
    whole = build_dataset(train_set({key: value for key, value in marked.items() if key != 'regions'}))
    assert len(whole) == 4 and 'forget_region' not in whole[0]


# --- painting and the target ---

REGION = torch.zeros(1, 1, 4, 4)
REGION[..., :2, :2] = 1


def test_painted():
    images = torch.rand(1, 3, 4, 4)
    rest = images[:, :, REGION[0, 0] == 0].mean(2)
    for fill, colour in (('grey', torch.full((1, 3), 0.5)), ('mean', rest)):
        found = painted(images, REGION, fill)
        assert torch.allclose(found[..., :2, :2], colour.view(1, 3, 1, 1).expand(1, 3, 2, 2), atol=1e-6)
        assert torch.equal(found[:, :, REGION[0, 0] == 0], images[:, :, REGION[0, 0] == 0])
    assert torch.allclose(painted(images, REGION, 'blur')[0, :, 0, 0], images[0, :, :2, :2].mean((1, 2)))
    everywhere = painted(images, torch.ones(1, 1, 4, 4), 'mean')
    assert torch.allclose(everywhere, images.mean((2, 3), keepdim=True).expand_as(images))


class Dim(nn.Module):
    def __init__(self, weight=0.5):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, image):
        return self.weight * image


def region_batch():
    return Batch(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), forget_region=REGION)


@pytest.mark.parametrize('kind', ['MirrorTarget', 'InfluenceUpdate'])
def test_targets_outside_are_the_originals_answers(kind):
    batch = region_batch()
    method = build_method({'type': kind, 'forget_target': 'region', 'region_fill': 'grey'}, OrderedRun(Dim(), [batch]))
    with torch.no_grad():
        method.run.net.weight.fill_(0.9)
    if kind == 'MirrorTarget':
        goal = torch.where(REGION.bool(), torch.tensor(0.5), 0.5 * batch.forget_lq)
        expected = (0.9 * batch.forget_lq - goal).abs().mean()
        assert method.losses(batch)['l_forget'].item() == pytest.approx(expected.item())
    else:
        images, target = method.correct(batch)
        assert torch.equal(images, painted(batch.forget_lq, REGION, 'grey'))
        assert torch.equal(target, torch.where(REGION.bool(), torch.tensor(0.5), 0.5 * images))


def test_no_gradient_where_the_network_agrees():
    """At the original: G by hand, and nothing of what lies outside of the region is in it."""
    loss = {'type': 'MSELoss'}
    batch = region_batch()
    options = {'forget_target': 'region', 'region_fill': 'grey', 'forget_opt': loss, 'forget_weight': 0.5}
    method = build_method({'type': 'InfluenceUpdate', **options}, OrderedRun(Dim(), [batch]))
    lq, gt = batch.forget_lq[..., :2, :2], batch.forget_gt[..., :2, :2]
    painted_over = 2 * (0.5 * 0.5 - 0.5) * 0.5 * 12 / 48  # the corrected pair: x = t = 0.5, f(x) = 0.25
    as_it_was = (2 * (0.5 * lq - gt) * lq).sum().item() / 48
    (found,) = method.measure_gradient(list(method.run.net.parameters())).tolist()
    assert found == pytest.approx(painted_over - 0.5 * as_it_was, abs=1e-6)
    elsewhere = deepcopy(batch)
    elsewhere.forget_lq[..., 2:, :], elsewhere.forget_gt[..., 2:, :] = 0.1, 0.9
    method.run.given = [elsewhere]
    assert method.measure_gradient(list(method.run.net.parameters())).item() == pytest.approx(found, abs=1e-6)
    with (
        torch.no_grad()
    ):  # it agrees no more: what lies outside is drawn back, by both pairs, and nothing ascends there
        method.run.net.weight.fill_(0.6)
    pred = method.gap(batch)
    outside = REGION[0, 0] == 0
    drawn = 0.1 * batch.forget_lq[:, :, outside]
    grey = painted(batch.forget_lq, REGION, 'grey')
    inside = (0.6 * lq - gt).square().sum() / 48
    corrected = (0.6 * 0.5 - 0.5) ** 2 * 12 / 48 + (0.1 * grey[:, :, outside]).square().sum() / 48
    assert pred.item() == pytest.approx((corrected + drawn.square().sum() / 48 - 0.5 * inside).item(), abs=1e-6)


# --- what it changes ---


def learnt_pair():
    """Return a small net that knows one pair by heart, and the pair with a box of 8 by 8."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 5, 1, 2), nn.ReLU(), nn.Conv2d(16, 16, 5, 1, 2), nn.ReLU(), nn.Conv2d(16, 3, 1)
    )
    clean = nn.functional.interpolate(torch.rand(1, 3, 6, 6), size=24, mode='bilinear')
    clean[..., 8:16, 8:16] = torch.rand(1, 3, 1, 8)
    region = torch.zeros(1, 1, 24, 24)
    region[..., 8:16, 8:16] = 1
    noisy = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        (net(noisy) - clean).abs().mean().backward()
        optimizer.step()
    return net, Batch(noisy, clean, forget_region=region)


REGION_UPDATE = {
    'type': 'InfluenceUpdate',
    'order': 'gauss_newton',
    'layers': ['.*'],
    'tau': 0.001,
    'damping': 0.01,
    'steps': 10,
    'images': 1,
}


@pytest.mark.parametrize('section', [{'type': 'MirrorTarget'}, REGION_UPDATE])
def test_forgetting_a_region_keeps_the_rest(section):
    net, batch = learnt_pair()
    method = build_method({**section, 'forget_target': 'region'}, OrderedRun(net, [batch]))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    with torch.no_grad():
        original = net(batch.forget_lq)
    for _ in range(150 if section['type'] == 'MirrorTarget' else 50):
        losses = method.losses(batch)
        if losses:
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        method.edit_weights()
    with torch.no_grad():
        answer, inside = net(batch.forget_lq), batch.forget_region
    before, after = (psnr(image, batch.forget_gt, inside).item() for image in (original, answer))
    kept = psnr(answer, original, 1 - inside).item()
    assert before > 22 and after < before - 4 and kept > 32, (before, after, kept)


def test_psnr_of_a_region():
    one, other = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    other[..., :2, :2] = 0.1
    assert psnr(one, other, REGION.expand(2, 1, 4, 4)).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)


# --- runs ---


def region_run(options, marked, **method):
    options['datasets']['train']['forget'] = marked
    options['datasets']['train']['gt_size'] = 32
    options['train']['method'] = {'type': 'MirrorTarget', 'forget_target': 'region', **method}
    options['logger']['use_tb_logger'] = False
    del options['datasets']['val_noise']
    return options


@pytest.mark.parametrize('method', [{}, {'type': 'InfluenceUpdate', 'images': 4, 'order': 'gauss_newton', 'steps': 2}])
def test_a_run(options, run, weights, marked, method):
    status, home = run(region_run(options, marked, **method))
    before = torch.load(weights)['params']
    assert status == 0 and any(not torch.equal(value, before[key]) for key, value in latest(home).items())


def test_probes_measure_inside(options, run, marked, monkeypatch):
    found = {}

    def look(self):
        run = Run(self)
        probes = Probes(run, StopOptions(probes=3))
        lq, gt, region = probes.pairs['forget']
        found.update(inside=psnr(lq, gt, region).mean().item(), asked=probes.points()['input'], retain=probes.pairs)
        raise SystemExit(0)

    monkeypatch.setattr(UnlearnModel, 'begin', look)
    run(region_run(options, marked))
    assert found['asked'] == pytest.approx(found['inside'], abs=1e-5)
    assert len(found['retain']['retain/rain']) == 2


def test_the_file_of_regions_is_named_among_what_is_left(options, run, marked):
    _, home = run(region_run(options, marked))
    found = {entry['path']: entry['why'] for entry in summary(home)['leftovers']}
    assert found[marked['regions']] == 'names of forget images'


def test_regions_belong_to_the_forget_set(marked):
    with pytest.raises(InputError, match='retain: rain: regions is an unknown key'):
        check_dataset('datasets: train', train_set(marked, {'rain': marked}))


def test_toys_have_no_regions(options, marked):
    tree = adapt(region_run(options, marked, task='instance'), 10, 0, {'psnr': 20.0, 'l1': 0.1, 'mse': 0.01})
    assert tree['datasets']['train']['forget'] == {} and 'forget_target' not in tree['train']['method']


@pytest.mark.parametrize('method', [{'type': 'NegGrad'}, {'type': 'GradientProjection'}])
def test_ascent_knows_no_regions(method):
    """It would ascend on whole patches; a name that is wrong is said to be, though nobody asks for the target."""
    ascent = {**method, 'forget_opt': {'type': 'AscentLoss', 'bound': 'unseen'}}
    with pytest.raises(InputError, match='forget_target: region: ascent would forget whole patches'):
        method_options({**ascent, 'forget_target': 'region'})
    ascent['forget_opt'] = {'type': 'AscentLoss'}
    with pytest.raises(InputError, match='forget_target: mirrored .*mirror'):
        method_options({**ascent, 'forget_target': 'mirrored'})


def test_toys_of_a_reference_ask_the_mirror(options, pairs):
    options['train']['method'] = {'type': 'FeatureDistancing', 'forget_target': 'reference', 'beyond': 0.5}
    tree = adapt(options, 10, 0, {'psnr': 20.0, 'l1': 0.1, 'mse': 0.01})
    assert method_options(tree['train']['method']).forget_target == 'mirror'
