"""The loss by values, the cache, the importance, and whole runs with what an interruption leaves behind."""

import logging
import os
import re
from os import path as osp
from types import SimpleNamespace

import pytest
import torch
from conftest import latest
from test_unlearn_model import log_text, summary

from basicsr_unlearn.attacks.adversarial_cache import AdversarialCache
from basicsr_unlearn.attacks.examples import PATIENCE
from basicsr_unlearn.data.sources import file_stamps
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.losses.identity_loss import IdentityLoss
from basicsr_unlearn.methods import Batch, build_method, instance_wise
from basicsr_unlearn.methods.importance import residual_importance, stiffness
from basicsr_unlearn.methods.instance_wise import InstanceWise


class Scaler(torch.nn.Module):
    """A net whose answers are known: the input times a weight."""

    def __init__(self, weight=2.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, images):
        return self.weight * images


def constant(value, number=2):
    return torch.full((number, 3, 4, 4), value)


def make_run(original=2.0):
    net, before = Scaler(), Scaler(original).requires_grad_(False)

    def forward(*images):
        return net(torch.cat(images)).split([len(image) for image in images])

    def batches(number, title, with_retain, first=0):
        return iter([Batch(constant(0.3, number), constant(0.4, number))])

    return SimpleNamespace(
        net=net,
        forward=forward,
        original=before,
        ask_original=lambda images: before(images).detach(),
        differentiable_original=before,
        batches=batches,
        device='cpu',
        rank=0,
        world_size=1,
        total=lambda value: value,
        average=lambda tensors: None,
        seed=0,
        cost=0,
        logger=logging.getLogger('test'),
    )


BATCH = Batch(constant(0.3), constant(0.4))  # answer 0.6: error 0.2 against 0.4, 0.3 against the input


def method_with(examples=None, run=None, **options):
    """Build the method; `examples`, with their answers, in the place of an attack."""
    method = build_method({'type': 'InstanceWise', **options}, run or make_run())
    if examples is not None:
        method.examples = SimpleNamespace(
            prepare=lambda: None, draw=lambda batch, iteration: (*examples, len(examples[0]))
        )
    return method


def values(losses):
    return {name: pytest.approx(value.item(), abs=1e-6) for name, value in losses.items()}


# --- the loss ---


def test_the_loss_weighs_by_numbers():
    examples = constant(0.2, 6), constant(0.5, 6)  # answer 0.4: distance 0.1
    options = {'forget_opt': {'type': 'AscentLoss', 'bound': 0.5}, 'forget_weight': 4.0, 'adv_weight': 3.0}
    method = method_with(examples, **options)
    found = method.losses(BATCH)
    assert values(found) == {'l_forget': 2 / 8 * 4 * (0.5 - 0.2), 'l_adv': 6 / 8 * 3 * 0.1}
    sum(found.values()).backward()  # d l_forget / d weight = -0.3, d l_adv / d weight = -0.2, before the factors
    assert method.run.net.weight.grad.item() == pytest.approx(-0.3 - 2.25 * 0.2)


def test_retain_images_travel_in_the_same_forward():
    run = make_run()
    sent = []
    forward = run.forward
    run.forward = lambda *images: sent.append(tuple(map(len, images))) or forward(*images)
    batch = Batch(constant(0.3), constant(0.4), constant(0.2), constant(0.5))
    found = method_with((constant(0.2), constant(0.5)), run, retain_weight=5.0, adv_weight=1.0).losses(batch)
    assert sent == [(2, 2, 2)] and values(found) == {'l_forget': 0.0, 'l_adv': 0.05, 'l_retain': 0.5}


def test_identity_instead_of_ascent():
    options = {'forget_opt': {'type': 'IdentityLoss'}, 'adv_weight': 1.0}
    assert values(method_with((constant(0.2), constant(0.5)), **options).losses(BATCH))['l_forget'] == 0.5 * 0.3
    assert IdentityLoss(2.0)(constant(0.6), constant(float('nan')), constant(0.3)).item() == pytest.approx(0.6)


def test_no_example_of_this_batch_is_of_use():
    nothing = constant(0.0, 0), constant(0.0, 0)
    found = method_with(nothing, forget_opt={'type': 'IdentityLoss'}).losses(BATCH)
    assert values(found) == {'l_forget': 0.3, 'l_adv': 0.0}
    sum(found.values()).backward()


def test_the_anchor_by_values():
    run = make_run(original=1.5)
    method = method_with((constant(0.2), constant(0.5)), run, importance_weight=4.0)
    method.setup()
    assert values(method.losses(BATCH))['l_anchor'] == 4 / 2 * 1 * 0.5**2  # a single weight matters like itself
    assert run.cost == 3 * 64


def test_importance_by_values():
    """R(x) = (w - 1) x, so that |d ||R|| / d w| = ||x||, and the norm of x is 0.3 sqrt(48)."""
    net = Scaler().requires_grad_(False)
    run = SimpleNamespace(batches=lambda *args, **kwargs: [*map(lambda n: Batch(*[constant(0.3, n)] * 2), (2, 1))])
    run.average = lambda tensors: None
    found = residual_importance(run, net, 3)
    assert found['weight'].item() == pytest.approx(0.3 * 48**0.5, rel=1e-5)
    assert net.weight.grad is None and not net.weight.requires_grad


def test_stiffness_guards_constants():
    found = stiffness({'a': torch.tensor([1.0, 2.0, 5.0]), 'b': torch.full((4,), 3.0), 'c': torch.zeros(2)})
    assert found['a'].tolist() == [1.0, 0.75, 0.0]
    assert found['b'].tolist() == [1.0] * 4 and found['c'].tolist() == [1.0] * 2


# --- examples of use ---


def test_online_examples_are_the_originals_own_answers_and_repeat():
    batch = Batch(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))
    examples, answers, number = method_with(n_adv=3, target='identity').examples.draw(batch, 5)
    assert len(examples) == number == 6
    torch.testing.assert_close(answers, 2 * examples)
    again = method_with(n_adv=3, target='identity').examples
    assert torch.equal(again.draw(batch, 5)[0], examples) and not torch.equal(again.draw(batch, 6)[0], examples)


def test_the_keep_rate_is_logged(caplog):
    """f(x) = 2 x: PSNR(f(x), x) grows where x gets darker; an image at the end of the range cannot."""
    batch = Batch(torch.cat([constant(0.5, 1), constant(0.0, 1)]), constant(0.4))
    examples = method_with(target='identity').examples
    with caplog.at_level(logging.INFO):
        found, _, _ = examples.draw(batch, 0)
    assert len(found) == 1 and found.mean() < 0.5
    assert 'Adversarial examples: 1 of 2 kept (50%).' in caplog.text


def test_an_attack_that_never_succeeds_is_an_error():
    examples = method_with(target='identity', margin=99.0, n_adv=PATIENCE // 4).examples
    assert len(examples.draw(BATCH, 1)[0]) == 0
    with pytest.raises(InputError, match=f'target: identity: none of {PATIENCE} .* Raise eps_rms .* lower margin'):
        examples.draw(BATCH, 2)


@pytest.mark.parametrize(
    'options, words',
    [
        ({'craft': 'cached'}, 'train: method: craft: cached is unknown. Did you mean cache'),
        ({'target': 'promt'}, 'train: method: target: promt is unknown. Did you mean prompt'),
        ({'norm': 'l1'}, 'train: method: norm: l1 is unknown'),
        ({'steps': 0}, 'train: method: steps: 0 must be a positive number'),
        ({'eps_rms': -1}, 'train: method: eps_rms: -1.0 must be at least 0'),
        ({'importance_weight': -1}, 'train: method: importance_weight: -1.0 must be at least 0'),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        method_with(**options)


# --- the cache ---


def test_the_cache_gives_back_what_was_crafted(tmp_path):
    examples, answers = torch.rand(2, 3, 3, 8, 8).unbind(0)
    kept = torch.tensor([True, False, True])
    cache = AdversarialCache(str(tmp_path / 'cache'), {'eps': 1}, 4, 8)
    cache.add(examples[:1], answers[:1], kept[:1], cost=7.5)
    cache.add(examples[1:], answers[1:], kept[1:], cost=15)
    cache = AdversarialCache(str(tmp_path / 'cache'), {'eps': 1}, 4, 8)
    assert (cache.done, len(cache), cache.cost) == (3, 2, 22.5)
    for found, expected in zip(cache.read([1, 0, 1]), (examples, answers), strict=True):
        torch.testing.assert_close(found, expected[[2, 0, 2]], atol=2.5e-4, rtol=0)
    cache.remove()
    assert not (tmp_path / 'cache').exists()


def test_other_settings_make_another_cache(tmp_path):
    for settings in ({'eps': 1}, {'eps': 2}):
        cache = AdversarialCache(str(tmp_path / 'cache'), settings, 4, 8)
        assert cache.done == 0
        cache.add(*torch.rand(2, 1, 3, 8, 8).unbind(0), torch.tensor([True]))
        assert os.listdir(tmp_path / 'cache') == [os.path.basename(cache.path)]  # the other one is private, and gone


def test_what_a_killed_run_left_in_an_archived_folder_goes(tmp_path):
    for name in ('run_archived_1', 'run_archived_2', 'run'):
        cache = AdversarialCache(str(tmp_path / name / 'adversarial_cache'), {'eps': name}, 4, 8)
        if name == 'run_archived_1':  # ended, and was told to keep it
            (tmp_path / name / 'unlearn_summary.json').write_text('{}')
    left = [path.relative_to(tmp_path).parts[0] for path in tmp_path.glob('*/adversarial_cache/*.lmdb')]
    assert sorted(left) == ['run', 'run_archived_1'] and osp.isdir(cache.path)


def test_other_pictures_make_another_cache(tmp_path):
    image = tmp_path / 'a.png'
    image.write_bytes(b'12345')
    source = SimpleNamespace(pairs=[(str(image), str(image))])
    before = file_stamps(source)
    assert [entry[:2] for entry in before] == [[str(image), 5]] * 2
    os.utime(image, (1, 1))
    assert file_stamps(source) != before and file_stamps(SimpleNamespace(number=3)) == []


def test_a_full_disk_is_told_before(tmp_path):
    with pytest.raises(
        InputError, match='cache_images: 1000000000: .* MiB are needed, .* Lower it, or set craft: online'
    ):
        AdversarialCache(str(tmp_path / 'cache'), {}, 10**9, 64)


# --- whole runs ---


@pytest.fixture
def short(options):
    """A run with InstanceWise, forget data alone and little to validate."""
    del options['datasets']['val_noise'], options['datasets']['train']['retain']
    options['logger'].update(use_tb_logger=False)
    options['train']['method'] = {
        'type': 'InstanceWise',
        'craft': 'cache',
        'cache_images': 5,
        'target': 'identity',
        'steps': 2,
    }
    return options


def test_interrupted_twice_gives_the_same_bits(short, run, monkeypatch):
    """Stopped while crafting, then while training: nothing is crafted again, and the weights are those of one go."""
    short['train']['method'].update(keep_cache=True, importance_weight=0.1)
    monkeypatch.setattr(instance_wise, 'IMPORTANCE_IMAGES', 4)
    add, losses, added = AdversarialCache.add, InstanceWise.losses, []

    def count(self, examples, answers, kept, **more):
        if len(added) == 2:
            added.append('interrupted')
            raise KeyboardInterrupt
        added.append(len(examples))
        add(self, examples, answers, kept, **more)

    def fail(self, batch):
        if self.iteration == 3:
            raise KeyboardInterrupt
        return losses(self, batch)

    monkeypatch.setattr(AdversarialCache, 'add', count)
    with pytest.raises(KeyboardInterrupt):
        run(short)
    monkeypatch.setattr(InstanceWise, 'losses', fail)
    with pytest.raises(KeyboardInterrupt):
        run(short, '--auto_resume')
    monkeypatch.setattr(InstanceWise, 'losses', losses)
    status, home = run(short, '--auto_resume')
    assert status == 0 and added == [2, 2, 'interrupted', 1]
    assert 'Adversarial examples: ' in log_text(home)
    (left,) = (home / 'experiments/tiny/adversarial_cache').iterdir()
    assert left.suffix == '.lmdb'
    resumed, cost = latest(home), summary(home)['cost']
    short['train']['method'].update(keep_cache=False)  # the archived cache is taken over all the same
    status, home = run(short)
    assert status == 0 and len(added) == 4 and not (home / 'experiments/tiny/adversarial_cache').exists()
    assert all(torch.equal(value, resumed[key]) for key, value in latest(home).items())
    assert summary(home)['cost'] == cost


def test_online_beside_retain_proxies(short, run, pairs):
    """Proxies from the clean forget images, answered by the original; its weights on disk stay what they are."""
    proxies = {'rain': {'type': 'rain'}, 'noise': {'type': 'gaussian_noise', 'sigma': [15, 25]}}
    short['datasets']['train']['retain'] = {
        name: {'from': 'forget', 'degradation': degradation, 'target': 'original'}
        for name, degradation in proxies.items()
    }
    short['train']['method'].update(craft='online', target='prompt')
    short['train'].update(total_iter=2)
    status, home = run(short)
    assert status == 0
    text = log_text(home)
    assert all(f'{name}: ' in text for name in ('l_forget', 'l_adv', 'l_retain'))
    assert all(f'retain/{name} ' in text for name in proxies)
    first = text[text.index('l_retain: ') :].split()[1]
    assert float(first) < 1e-6  # the original's own answers
    kept = int(re.findall(r'examples: (\d) of 4 kept', text)[-1])
    # the original on retain images, then in the attack: codes of image, reference and example, answers, 2 steps
    asked = 2 + 3 * 2 + 2 + 2 * 2 * 2
    assert summary(home)['cost'] == 3 * (2 * 4 + kept) + 2 * asked + 2 * 6  # the last are the probes, looked at twice


def test_an_empty_cache_ends_with_status_2(short, run, capsys):
    short['train']['method'].update(margin=99.0)
    status, home = run(short)
    assert status == 2 and 'none of 5 adversarial examples reached it' in capsys.readouterr().err
