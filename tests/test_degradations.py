import numpy as np
import pytest

from basicsr_unlearn.data.degradations import build_degradation, draw_depth
from basicsr_unlearn.data.degraded_image_dataset import DegradedImageDataset, PhotographDataset
from basicsr_unlearn.data.scenes import draw_scene
from basicsr_unlearn.errors import InputError


def rng(seed=0):
    return np.random.default_rng(seed)


def test_noise_is_cut_not_rounded():
    image = np.full((256, 256, 3), 128 / 255, np.float32)
    noise = build_degradation({'type': 'gaussian_noise', 'sigma': 25})(image, rng()) * 255 - 128
    assert noise.std() == pytest.approx(25, rel=0.02)
    assert noise.mean() == pytest.approx(-0.5, abs=0.15)  # the cut darkens by half a grey level
    assert np.array_equal(noise + 128, np.round(noise + 128))


def test_sigmas_are_all_drawn():
    degrade = build_degradation({'type': 'gaussian_noise', 'sigma': [15, 50]})
    image = np.full((64, 64, 3), 0.5, np.float32)
    levels = {round(float((degrade(image, rng(seed)) * 255).std()) / 15) for seed in range(12)}
    assert levels == {1, 3}


def test_haze_follows_the_scattering_law():
    image, depth = draw_scene(rng(), 64)
    hazy = build_degradation({'type': 'haze', 'beta': 1.5, 'airlight': 0.8})(image, rng(), depth)
    t = np.exp(-1.5 * depth)[..., None]
    assert np.abs(hazy - (image * t + 0.8 * (1 - t))).max() <= 0.5 / 255 + 1e-6
    near = build_degradation({'type': 'haze'})(image, rng(), np.zeros_like(depth))
    assert np.allclose(near, image, atol=1e-6)


def test_rain_only_brightens():
    image, _ = draw_scene(rng(), 64)
    rainy = build_degradation({'type': 'rain'})(image, rng())
    assert (rainy >= image - 1e-6).all()
    assert 0.01 < (rainy > image + 2 / 255).mean() < 0.9


@pytest.mark.parametrize('kind', ['gaussian_noise', 'haze', 'rain'])
def test_same_seed_same_image(kind):
    image, depth = draw_scene(rng(), 48)
    degrade = build_degradation({'type': kind})
    assert np.array_equal(degrade(image, rng(5), depth), degrade(image, rng(5), depth))
    assert not np.array_equal(degrade(image, rng(5), depth), degrade(image, rng(6), depth))


@pytest.mark.parametrize(
    'opt, words',
    [
        ({'type': 'snow'}, 'haze'),
        ({'type': 'haze', 'betta': 1}, 'betta'),
        ({'type': 'haze', 'airlight': [0.5, 2]}, 'airlight'),
        ({}, 'type'),
        ({'type': 'gaussian_noise', 'sigma': 0}, 'sigma'),
    ],
)
def test_bad_degradations(opt, words):
    with pytest.raises(InputError, match=words):
        build_degradation(opt)


def test_scenes_repeat_and_have_depth():
    image, depth = draw_scene(rng(7), 64)
    again, _ = draw_scene(rng(7), 64)
    assert np.array_equal(image, again)
    assert image.shape == (64, 64, 3) and depth.shape == (64, 64)
    assert 0 <= image.min() and image.max() <= 1 and 0 <= depth.min() and depth.max() <= 1
    assert depth.std() > 0.05 and image.std() > 0.05


def test_drawn_depth_grows_towards_the_top():
    depth = np.mean([draw_depth(rng(seed), 40, 50) for seed in range(20)], axis=0)
    assert depth[:10].mean() > depth[-10:].mean() + 0.3


def test_photographs():
    data = PhotographDataset({'name': 'haze', 'degradation': {'type': 'haze'}})
    assert len(data) == 12
    first, last = data[0], data[11]
    assert last['lq'].shape == (3, 192, 192) and last['lq_path'] == 'motorcycle_1.png'
    assert (first['lq'] - first['gt']).abs().mean() > 0.05
    assert (data[0]['lq'] == first['lq']).all()


def test_motorcycle_has_its_true_depth():
    from basicsr_unlearn.data.degraded_image_dataset import _motorcycle_depth

    depth = _motorcycle_depth(0.6)
    assert depth.shape == (300, 445) and np.isfinite(depth).all()
    assert depth[:40].mean() > depth[-40:].mean() + 0.1  # garage wall behind, floor in front


def test_noise_of_an_image_depends_on_its_name_alone(tmp_path, pairs):
    opt = {'name': 'n', 'dataroot_gt': pairs['rain']['dataroot_gt'], 'degradation': {'type': 'gaussian_noise'}}
    data = DegradedImageDataset(opt)
    second = data[1]['lq']
    assert (DegradedImageDataset(opt)[1]['lq'] == second).all()
    assert not (data[0]['lq'] - data[0]['gt'] == second - data[1]['gt']).all()
