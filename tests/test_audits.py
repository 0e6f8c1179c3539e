"""The audits as functions: their values on networks and data whose answers are known."""

import numpy as np
import pytest
import torch
from conftest import make_net
from torch import nn

from basicsr_unlearn.audits.behaviour import behaviour, psnr, texture, tint
from basicsr_unlearn.audits.lora import SCOPE, add_lora
from basicsr_unlearn.audits.membership import membership
from basicsr_unlearn.audits.probe import probe
from basicsr_unlearn.audits.relearn import area, relearn
from basicsr_unlearn.audits.robustness import radius_of_loss, robustness
from basicsr_unlearn.audits.similarity import linear_cka, similarity
from basicsr_unlearn.audits.subjects import SourcePairs
from basicsr_unlearn.audits.swap import swap
from basicsr_unlearn.checkpoint import fingerprint

TILES = {'tile': None, 'overlap': 0, 'multiple': None}


class Halves(nn.Module):
    """Subtracts `encoder` from a picture where `decoder` is 1."""

    def __init__(self, haze, does):
        super().__init__()
        self.patch_embed, self.output = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, groups=3, bias=False)
        nn.init.zeros_(self.patch_embed.weight)
        nn.init.constant_(self.patch_embed.bias, -haze)
        nn.init.constant_(self.output.weight, does)

    def forward(self, x):
        return x + self.output(self.patch_embed(x))


class Latent(nn.Module):
    """Its latent is the picture, or nothing of it."""

    def __init__(self, gain):
        super().__init__()
        self.latent = nn.Conv2d(3, 4, 1, bias=False)
        with torch.no_grad():
            self.latent.weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(gain)

    def forward(self, x):
        return x + 0 * self.latent(x)[:, :3]


def hazy_pairs(number=40, size=16, seed=0):
    rng = torch.Generator().manual_seed(seed)
    clean = torch.rand(number, 3, size, size, generator=rng) * 0.3
    haze = torch.rand(number, 1, 1, 1, generator=rng) * 0.3 + 0.1
    return [(lq.unsqueeze(0), gt.unsqueeze(0)) for lq, gt in zip(clean + haze, clean, strict=True)]


def items(pairs):
    return [{'lq': lq[0], 'gt': gt[0], 'lq_path': f'{i}.png'} for i, (lq, gt) in enumerate(pairs)]


def test_behaviour_measures_each_picture():
    pairs = [(torch.full((1, 3, 16, 16), 0.6), torch.full((1, 3, 16, 16), 0.4))] * 2
    found = behaviour(Halves(0.1, 1.0), Halves(0.2, 1.0), items(pairs), TILES)
    assert found['psnr'] == pytest.approx([20.0, 20.0], abs=1e-4)
    assert found['agreement'] == pytest.approx([0.1, 0.1], abs=1e-6)
    assert found['strength'] == pytest.approx([0.2, 0.2], abs=1e-6) and found['images'] == ['0.png', '1.png']
    assert found['colour'] == pytest.approx([0, 0], abs=1e-6) and found['texture'] == pytest.approx([0, 0], abs=1e-6)
    assert behaviour(None, None, items(pairs), TILES)['psnr'] == pytest.approx([13.979] * 2, abs=1e-3)
    assert behaviour(None, None, items(pairs), TILES)['agreement'] == [None, None]


def test_tint_and_texture_need_no_reference():
    grey = torch.full((1, 3, 16, 16), 0.5)
    red = grey.clone()
    red[:, 0] += 0.3
    assert tint(red, grey) == pytest.approx(0.2) and tint(grey + 0.3, grey) == pytest.approx(0, abs=1e-6)
    pattern = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert texture(pattern, pattern) == 0 and texture(4 * pattern, pattern) == pytest.approx(2, abs=1e-2)
    assert psnr(grey, grey) == 100


def test_swap_finds_the_half_that_still_can():
    original = Halves(0.2, 1.0)
    pairs = [(torch.full((1, 3, 16, 16), 0.6), torch.full((1, 3, 16, 16), 0.4))]
    before = fingerprint(original.state_dict())
    hidden = swap(Halves(0.2, 0.0), original, pairs, TILES)  # the decoder alone was switched off
    gone = swap(Halves(0.0, 0.0), original, pairs, TILES)
    assert hidden['encoder'] == pytest.approx(100, abs=1e-3) and hidden['decoder'] == pytest.approx(13.979, abs=1e-3)
    assert gone['encoder'] == gone['decoder'] == pytest.approx(13.979, abs=1e-3)
    assert fingerprint(original.state_dict()) == before


def test_the_probe_reads_what_the_latent_holds_and_nothing_else():
    pairs = hazy_pairs()
    groups = [f'{i // 2}' for i in range(len(pairs))]
    seeing, blind = probe(Latent(1.0), pairs, groups), probe(Latent(0.0), pairs, groups)
    assert seeing['type'] > 0.9 and seeing['strength'] > 0.8
    assert blind['type'] == pytest.approx(0.5, abs=0.05) and blind['strength'] < 0.05


def test_cka_is_blind_to_turns_and_sees_other_features():
    x = torch.randn(200, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.double, generator=torch.Generator().manual_seed(1)))[0]
    other = torch.randn(200, 5, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    assert linear_cka(x, 3 * x @ turn + 1) == pytest.approx(1, abs=1e-9) and linear_cka(x, other) < 0.1
    net, images = make_net(), [lq[..., :16, :16] for lq, _ in hazy_pairs(4)]
    same, far = similarity(net, make_net(), images), similarity(net, make_net(7), images)
    assert set(same) == {*(f'{k}coder_level{i}' for k in ('en', 'de') for i in (1, 2, 3)), 'latent', 'refinement'}
    assert min(same.values()) == pytest.approx(1, abs=1e-6) and far['latent'] < 0.99


def test_adapters_alone_are_trained_and_begin_with_nothing():
    net, image = make_net(), torch.rand(1, 3, 16, 16)
    before, expected = fingerprint(net.state_dict()), net(image).detach()
    seen = {}

    def measure(current):
        seen.setdefault('first', current(image).detach())
        seen['moved'] = {name for name, p in current.named_parameters() if p.requires_grad}
        return float((current(image) - image).abs().mean())

    curve = relearn(net, lambda step: (image, image), measure, 5, 1e-2, SCOPE, lambda copy: add_lora(copy, 2, 0))
    assert torch.equal(seen['first'], expected) and curve[5] < curve[0]
    assert seen['moved'] and all(name.endswith(('.up', '.down')) for name in seen['moved'])
    assert fingerprint(net.state_dict()) == before


def test_the_area_is_the_mean_lead_over_the_oracle():
    assert area({0: 1.0, 2: 3.0, 4: 5.0}, {0: 1.0, 4: 1.0}) == pytest.approx(np.mean([1, 2, 3, 4]))
    assert area({0: 1.0, 4: 1.0}, {0: 1.0, 4: 5.0}) == pytest.approx(-2.5)


def test_membership_is_seen_through_difficulty():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(30, 4, 600)
    own = difficulty + rng.normal(0, 0.2, 600)
    own[:300] += 0.5  # members are restored half a dB better than they deserve
    sides = [{'psnr': own[part], 'difficulty': difficulty[part]} for part in (slice(300), slice(300, None))]
    found = membership(*sides)
    assert 0.92 < found['calibrated']['auc'] < 0.99 and found['loss']['auc'] < 0.62
    low, high = found['calibrated']['interval']
    assert low < found['calibrated']['auc'] < high and high - low < 0.06
    assert found['gap'] == pytest.approx(0.5, abs=0.05) and found['calibrated']['tpr_01'] is None
    assert found['calibrated']['tpr_1'] > 0.3 and found == membership(*sides)
    few = [{'psnr': side['psnr'][:50], 'difficulty': side['difficulty'][:50]} for side in sides]
    assert membership(*few)['calibrated']['tpr_1'] is None


def test_the_radius_lies_between_two_sizes():
    assert radius_of_loss(30, [1, 2, 4], [29.8, 29.4, 28.4]) == pytest.approx(2.8)
    assert radius_of_loss(30, [1, 2], [28, 20]) == pytest.approx(0.5) and radius_of_loss(30, [1, 2], [30, 29.5]) is None


def test_a_steeper_network_is_more_brittle():
    class Steep(nn.Module):
        def __init__(self, slope):
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(slope))

        def forward(self, x):
            return 0.5 + self.slope * (x - 0.5)

    pairs = [(torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), 0.45))] * 2
    eps, sigmas = [0.01, 0.02, 0.04, 0.08], [0.02, 0.1]
    flat, steep = (robustness(Steep(slope), pairs, eps, sigmas) for slope in (0.5, 2.0))
    assert flat['clean'] == steep['clean'] == pytest.approx(26.02, abs=0.01)
    # 1 dB is lost when the error grows from 0.05 to 0.0561: a perturbation of 0.0061 / slope
    assert steep['radius']['pgd'] < 0.01 < flat['radius']['pgd'] < 0.015
    worst = -20 * np.log10(0.05 + 2 * 0.08)  # every pixel pushed away alike
    assert worst < steep['pgd'][-1] < worst + 1
    assert (
        steep['smoothing'][1] < flat['smoothing'][1]
        and steep['purified'] == robustness(Steep(2.0), pairs, eps, sigmas)['purified']
    )
    net = Steep(1.0)
    robustness(net, pairs, eps, sigmas)
    assert net.slope.requires_grad and net.slope.grad is None


def test_pairs_of_a_source_are_read_alike(pairs):
    data = SourcePairs('audit: public', pairs['haze'], 6, 16, seed=3)
    again = SourcePairs('audit: public', pairs['haze'], 6, 16, seed=3)
    assert len(data) == 6 and all(torch.equal(data[i]['lq'], again[i]['lq']) for i in range(6))
    assert data[0]['lq_path'] == data[4]['lq_path'] and not torch.equal(data[0]['lq'], data[4]['lq'])  # another crop
    assert SourcePairs('audit: public', pairs['haze'], None, None)[0]['lq'].shape == (3, 48, 48)
