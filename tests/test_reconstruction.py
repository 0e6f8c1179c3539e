"""What can be reconstructed from weights: gradient inversion, and the informed adversary."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from basicsr_unlearn.archs.adair_arch import AdaIR
from basicsr_unlearn.archs.nafnet_arch import NAFNet
from basicsr_unlearn.archs.promptir_arch import PromptIR
from basicsr_unlearn.archs.restormer_arch import Restormer
from basicsr_unlearn.audits.informed import draw_pictures, informed, reconstruct
from basicsr_unlearn.audits.inversion import LOSSES, MOVE, _Attack, _in_order, inversion, unlearn
from basicsr_unlearn.checkpoint import fingerprint, load_into
from basicsr_unlearn.data.degradations import Haze
from basicsr_unlearn.data.scenes import draw_scene
from basicsr_unlearn.errors import InputError

SMALL = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}
NETS = {
    'PromptIR': lambda: PromptIR(**SMALL, prompt_sizes=[4, 4, 4]),
    'AdaIR': lambda: AdaIR(**SMALL),
    'Restormer': lambda: Restormer(**SMALL),
    'NAFNet': lambda: NAFNet(width=8, enc_blk_nums=[1, 1], middle_blk_num=1, dec_blk_nums=[1, 1]),
}


class Dense(nn.Module):
    """One linear layer on the whole picture: its gradient is an outer product with the picture."""

    def __init__(self, size=8):
        super().__init__()
        self.layer = nn.Linear(3 * size**2, 3 * size**2)

    def forward(self, x):
        return self.layer(x.flatten(1)).view_as(x)


def draw_pairs(number, size):
    pairs = []
    for index in range(number):
        clean, depth = draw_scene(np.random.default_rng(1000 + index), 96)
        hazy = Haze()(clean, np.random.default_rng(index), depth)
        cut = (slice(32, 32 + size), slice(32, 32 + size), slice(None, None, -1))
        pairs.append(tuple(torch.from_numpy(image[cut].copy()).permute(2, 0, 1)[None] for image in (hazy, clean)))
    return pairs


@pytest.mark.parametrize('loss', ['identity', 'ascent'])
def test_a_linear_layer_gives_its_input_away(loss):
    net = Dense()
    before = fingerprint(net.state_dict())
    net.requires_grad_(False)  # as it may come from a measurement
    found, pictures = inversion(net, draw_pairs(2, 8), loss=loss, steps=300)
    assert not net.layer.weight.requires_grad and net.training
    assert min(found['recovered_psnr']) > 30
    for recovered, control, baseline in zip(
        found['recovered_psnr'], found['control_psnr'], found['baseline_psnr'], strict=True
    ):
        assert recovered > control + 10 and recovered > baseline + 5
    assert pictures.shape == (2, 3, 8, 8) and pictures.min() >= 0 and pictures.max() <= 1
    assert fingerprint(net.state_dict()) == before


def test_two_pictures_of_one_forget_set_are_told_apart():
    found, pictures = inversion(Dense(), draw_pairs(4, 8), batch=2, steps=400)
    assert len(pictures) == found['pairs'] == 4 and len(found['objective']) == 2
    assert min(found['recovered_psnr']) > 25
    assert min(r - c for r, c in zip(found['recovered_psnr'], found['control_psnr'], strict=True)) > 10


def test_equal_seeds_give_equal_numbers():
    net, pairs = Dense(), draw_pairs(2, 8)
    runs = [inversion(net, pairs, steps=20, restarts=2, seed=seed)[0] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_one_forget_set_has_no_control():
    found, pictures = inversion(Dense(), draw_pairs(3, 8), batch=2)
    assert list(found) == ['missing'] and 'control' in found['missing'] and pictures is None


def test_an_original_that_changes_nothing_has_nothing_to_unlearn():
    net = Dense()
    nn.init.eye_(net.layer.weight), nn.init.zeros_(net.layer.bias)
    found, pictures = inversion(net, draw_pairs(2, 8))
    assert list(found) == ['missing'] and 'changes no weight' in found['missing'] and pictures is None


def test_unknown_loss():
    with pytest.raises(InputError, match='inversion: loss'):
        inversion(Dense(), draw_pairs(2, 8), loss='hinge')


@pytest.mark.parametrize('loss', ['identity', 'ascent'])
def test_unlearning_moves_the_weights_so_far_and_the_right_way(loss):
    net, (pair, _) = Dense(), draw_pairs(2, 8)
    after = unlearn(net, *pair, LOSSES[loss], 1)
    both = zip(after.parameters(), net.parameters(), strict=True)
    moved = torch.stack([(a - b).detach().norm() for a, b in both]).norm()
    length = torch.stack([weight.detach().norm() for weight in net.parameters()]).norm()
    assert moved / length == pytest.approx(MOVE, rel=1e-3)
    with torch.no_grad():
        losses = [LOSSES[loss](each(pair[0]), pair[1], pair[0]) for each in (net, after)]
    assert losses[1] < losses[0]


@pytest.mark.parametrize('kind', NETS)
def test_the_objective_sees_the_true_picture_in_every_network(kind):
    torch.manual_seed(3)
    net = NETS[kind]()
    lq, gt = (torch.cat(images) for images in zip(*draw_pairs(2, 16), strict=True))
    attack = _Attack(net, unlearn(net, lq, gt, LOSSES['identity'], 1), lq.shape, lq.device)
    with torch.no_grad():
        slope = (deepcopy(net).eval()(lq) - lq).sign()
    wrong = attack._look(lq.flip(-1), slope.flip(-1))[0]
    right, by_picture_and_slope = attack._look(lq, slope)
    assert right < 0.001 < 0.02 < wrong
    assert all(gradient.isfinite().all() for gradient in by_picture_and_slope)


def test_the_gradient_of_the_objective_is_its_slope():
    torch.manual_seed(3)
    net = NETS['PromptIR']().double()
    lq, gt = (images.double() for images in draw_pairs(1, 16)[0])
    attack = _Attack(net, unlearn(net, lq, gt, LOSSES['identity'], 1), lq.shape, lq.device)
    picture, slope = torch.rand(2, *lq.shape, dtype=torch.double)
    _, gradients = attack._look(picture, slope)
    for place, gradient in enumerate(gradients):
        direction = torch.randn_like(gradient)
        ahead, behind = (
            attack._look(*(x + side * 1e-4 * direction * (i == place) for i, x in enumerate((picture, slope))))[0]
            for side in (1, -1)
        )
        assert float((gradient * direction).sum()) == pytest.approx((ahead - behind) / 2e-4, rel=0.02)


def test_pictures_of_a_set_are_compared_in_the_best_order():
    truth = torch.rand(3, 3, 8, 8)
    assert torch.equal(_in_order(truth[[2, 0, 1]], truth), truth)


@pytest.mark.slow
def test_the_quickstart_network_gives_a_hazy_picture_away():
    net = PromptIR(**SMALL, prompt_sizes=[16, 8, 4])
    load_into(net, 'zoo:quickstart_original.safetensors', 'weights')
    before = fingerprint(net.state_dict())
    found, _ = inversion(net, draw_pairs(2, 16), steps=300)
    assert found['recovered_psnr'][0] > found['baseline_psnr'][0] + 8
    assert min(r - c for r, c in zip(found['recovered_psnr'], found['control_psnr'], strict=True)) > 5
    assert fingerprint(net.state_dict()) == before


@pytest.fixture(scope='module')
def small_adversary():
    torch.set_num_threads(1)
    return informed(shadows=300, targets=12, fixed=20, epochs=12, unlearn_steps=12)


def mean(values):
    return sum(values) / len(values)


def test_the_informed_adversary_recovers_what_was_trained_on_and_nothing_else(small_adversary):
    found, pictures = small_adversary
    recovered, baseline = ({k: mean(v) for k, v in found[key].items()} for key in ('recovered_psnr', 'baseline_psnr'))
    assert recovered['original'] > baseline['mean'] + 3
    assert recovered['original'] > baseline['nearest'] + 2
    assert recovered['oracle'] == pytest.approx(baseline['mean'], abs=0.01)
    assert recovered['unlearned'] < recovered['original'] - 1
    assert pictures['oracle'].std(0).max() < 1e-6 < pictures['original'].std(0).max()
    assert pictures['target'].shape == (12, 1, 8, 8)


def test_the_toy_net_learns_and_unlearns_its_target(small_adversary):
    error = small_adversary[0]['error']
    assert error['original'] < error['oracle'] and error['original'] < error['unlearned']


def test_equal_seeds_give_equal_recoveries():
    runs = [
        informed(shadows=40, targets=4, fixed=5, epochs=3, unlearn_steps=2, seed=seed)[0]['recovered_psnr']
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] and runs[0]['original'] != runs[2]['original']


def test_a_linear_way_from_weights_to_pictures_is_found_exactly():
    pictures, way = draw_pictures(120, 0), torch.randn(64, 90)
    found = reconstruct(pictures[:100] @ way, pictures[100:] @ way, pictures[:100])
    assert (found - pictures[100:]).abs().max() < 0.05
