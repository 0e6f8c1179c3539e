"""Projections onto what retain inputs leave unused: the covariances, the choice of directions, and both methods."""

import logging
from collections import OrderedDict
from copy import deepcopy
from statistics import median
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import make_net
from test_distributed import PROXIES
from test_rivals import FakeRun, random_batch, short
from torch import nn

from basicsr_unlearn import run_tree
from basicsr_unlearn.audits.toy_options import adapt
from basicsr_unlearn.cli import main
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import Batch, build_method, method_options
from basicsr_unlearn.methods.layer_patches import layers_of, measure_covariances, patches_of, to_rows, to_weight
from basicsr_unlearn.methods.null_space import NullSpace, all_but_smallest, largest_by_share, spectrum
from basicsr_unlearn.models.unlearn_model import UnlearnModel


class ProjectionRun(FakeRun):
    """A FakeRun whose retain images are given."""

    def __init__(self, net, retained):
        super().__init__(net)
        self.original.eval()
        self.train_set, self.retained = SimpleNamespace(opt={}), retained

    def images(self, dataset, key, number, title):
        yield from self.retained


def build(net, retained, kind='GradientProjection', **options):
    return build_method({'type': kind, **options}, ProjectionRun(net, retained))


def train(method, optimizer, steps, batch):
    """Make steps of training as UnlearnModel does."""
    optimizer = optimizer(method.trainable(method.run.net))
    method.setup()
    for _ in range(steps):
        method.run.net.zero_grad()
        sum(method.losses(batch).values()).backward()
        optimizer.step()
        method.edit_weights()


# --- patches ---

CONVOLUTIONS = {
    '1x1': lambda: nn.Conv2d(6, 4, 1),
    '3x3': lambda: nn.Conv2d(3, 4, 3, padding=1),
    'strided': lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1),
    'dilated': lambda: nn.Conv2d(3, 4, 3, dilation=2, padding=2),
    'of two strides': lambda: nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(0, 2)),
    'depthwise': lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
    'grouped': lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2),
    'reflecting': lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect'),
    'same': lambda: nn.Conv2d(3, 4, 4, padding='same'),
    'transposed': lambda: nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1),
    'transposed, grouped': lambda: nn.ConvTranspose2d(6, 4, 3, stride=3, groups=2, output_padding=1),
    'transposed, dilated': lambda: nn.ConvTranspose2d(3, 4, (3, 2), stride=(1, 2), padding=3, dilation=2),
}


@pytest.mark.parametrize('kind', CONVOLUTIONS)
def test_an_answer_is_rows_times_patches(kind):
    """The definition of both: with them the layer can be computed by one product."""
    layer = CONVOLUTIONS[kind]()
    image = torch.rand(1, layer.in_channels, 9, 11)
    answer = layer(image)
    rows, patches = to_rows(layer, layer.weight), patches_of(layer, image, answer.shape[-2:])
    bias = 0 if layer.bias is None else layer.bias.view(-1, 1, 1)
    assert torch.allclose((rows @ patches).flatten(0, 1).view_as(answer[0]) + bias, answer[0], atol=1e-5)
    assert torch.equal(to_weight(layer, rows), layer.weight)


def test_linear_layers_and_pixel_shuffle():
    layer, image = nn.Linear(5, 4), torch.rand(2, 3, 5)
    product = to_rows(layer, layer.weight) @ patches_of(layer, image, ())
    assert torch.allclose(product[0].T + layer.bias, layer(image).flatten(0, 1), atol=1e-6)
    assert torch.equal(to_weight(layer, to_rows(layer, layer.weight)), layer.weight)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2), nn.Conv2d(2, 3, 1))
    found = measure_covariances(net, [torch.rand(2, 3, 6, 6)])
    assert {name: part.shape for name, part in found.items()} == {'0': (1, 27, 27), '2': (1, 2, 2)}


def test_covariances_are_sums_over_patches_and_images():
    net = nn.Sequential(nn.Conv2d(2, 2, 1, groups=2), nn.Conv2d(2, 3, 1)).eval()
    images = [torch.rand(2, 2, 4, 4), torch.rand(1, 2, 4, 4)]
    found = measure_covariances(net, images)
    pixels = torch.cat(images).double().transpose(0, 1).flatten(1)
    assert torch.allclose(found['0'].flatten(), pixels.square().sum(1)) and found['0'].dtype == torch.float64
    met = net[0](torch.cat(images)).double().transpose(0, 1).flatten(1)
    assert torch.allclose(found['1'][0], met @ met.T)
    assert not any(layer._forward_hooks for layer in net)


# --- directions ---


def test_negative_eigenvalues_are_no_directions_to_keep():
    """An SVD would take -9 for the largest of all: a fault of the released code."""
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    indefinite = turn @ torch.diag(torch.tensor([4.0, -9.0, 1.0], dtype=torch.float64)) @ turn.T
    variances, vectors = spectrum(indefinite.unsqueeze(0))
    assert variances[0].tolist() == pytest.approx([4, 1, 0])
    assert (vectors[0, :, 0] @ turn[:, 0]).abs().item() == pytest.approx(1)
    space = NullSpace({'0': indefinite.unsqueeze(0)}, lambda name, variances: largest_by_share(variances, 1.0))
    assert space.kept == {'0': (2, 3)} and (space.bases['0'][0].T @ turn[:, 1]).norm().item() < 1e-9
    assert spectrum(-torch.eye(2, dtype=torch.float64).unsqueeze(0))[0].tolist() == [[0, 0]]


def test_rank_by_share_of_singular_values():
    variances = torch.tensor([[64.0, 4.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])  # standard deviations 8, 2 and 0
    kept = {share: largest_by_share(variances, share).sum(1).tolist() for share in (0.3, 0.75, 0.85, 1.0)}
    assert kept == {0.3: [1, 1, 0], 0.75: [1, 3, 0], 0.85: [2, 3, 0], 1.0: [2, 3, 0]}


def test_rank_by_variance():
    variances = torch.tensor([[100.0, 1.0, 0.5, 0.0], [3.0, 3.0, 3.0, 0.0]])
    kept = {limit: all_but_smallest(variances, limit).sum(1).tolist() for limit in (0.0, 0.008, 0.5)}
    assert kept == {0.0: [3, 3], 0.008: [2, 3], 0.5: [1, 3]}


def few_directions(layer):
    """Return an image in which a layer meets fewer patches than it has directions: of one colour, or of few pixels."""
    size = 2 if layer.groups == layer.in_channels else 8
    return torch.rand(1, layer.in_channels, 1, 1).expand(-1, -1, size, size) * (1 + torch.arange(size) % 2)


def step_of(layer, net, start):
    return to_rows(layer, net[0].weight.double() - start[0].weight.double())


OPTIMIZERS = {
    'Adam': lambda weights: torch.optim.Adam(weights, 0.01, weight_decay=0.1),
    'AdamW': lambda weights: torch.optim.AdamW(weights, 0.01, weight_decay=0.1),
    'momentum': lambda weights: torch.optim.SGD(weights, 0.01, momentum=0.9, weight_decay=0.1, nesterov=True),
}


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('kind', CONVOLUTIONS)
def test_no_step_leaves_the_null_space(kind, optimizer):
    """gamma 1 and inputs of few directions: the answers to them stay, those to forget images change."""
    layer = CONVOLUTIONS[kind]()
    net = nn.Sequential(layer).double()
    retained = few_directions(layer).double()
    method = build(net, [retained], gamma=1.0)
    method.losses = lambda batch: {'l_forget': net(batch.forget_lq).square().mean()}
    start, forget = deepcopy(net), torch.rand(2, layer.in_channels, 8, 8).double()
    train(method, OPTIMIZERS[optimizer], 5, Batch(forget, forget))
    (kept, there), basis = method.null_space.kept['0'], method.null_space.bases['0']
    assert 0 < kept < there
    step = step_of(layer, net, start)
    assert step.norm() > 1e-3 and (step @ basis).norm() < 1e-6 * step.norm()
    assert (net(retained) - start(retained)).norm() < 1e-4 * start(retained).norm()
    assert (net(forget) - start(forget)).norm() > 1e-3 * start(forget).norm()
    assert layer.bias is None or torch.equal(layer.bias, start[0].bias)


def test_float32_weights_keep_the_answers_too():
    """What is stored is rounded to float32, once and not in every step."""
    net = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1))
    retained = few_directions(net[0])
    method, start = build(net, [retained], gamma=1.0), deepcopy(net)
    method.losses = lambda batch: {'l_forget': net(batch.forget_lq).square().mean()}
    train(method, OPTIMIZERS['AdamW'], 50, random_batch_of(6))
    step = step_of(net[0], net, start)
    rounding = torch.finfo(torch.float32).eps * start[0].weight.norm()
    assert (step @ method.null_space.bases['0']).norm() < rounding < 1e-5 * step.norm()
    assert (net(retained) - start(retained)).norm() < 1e-6 * start(retained).norm()


def random_batch_of(channels):
    images = torch.rand(2, channels, 8, 8)
    return Batch(images, images)


def test_without_projection_the_answers_do_change():
    """What the tests above rely on."""
    net = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1))
    retained = few_directions(net[0])
    method, start = build(net, [retained], gamma=1.0), deepcopy(net)
    method.losses = lambda batch: {'l_forget': net(batch.forget_lq).square().mean()}
    method.edit_weights = lambda: None
    train(method, OPTIMIZERS['AdamW'], 5, random_batch_of(6))
    assert (net(retained) - start(retained)).norm() > 1e-2 * start(retained).norm()


class Mix(nn.Module):
    """Makes red of green, green of blue and blue of red, by a linear layer; grey stays grey."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, 3)
        self.mix.load_state_dict({'weight': torch.eye(3).roll(1, 1), 'bias': torch.zeros(3)})

    def forward(self, image):
        return self.mix(image.movedim(1, -1)).movedim(-1, 1)


def test_a_linear_network_answers_retain_inputs_as_before():
    """It learns to leave colours alone, and its answers to grey images are what they were."""
    net, grey, batch = Mix(), torch.rand(4, 1, 5, 5).expand(-1, 3, -1, -1), random_batch()
    method, start = build(net, [grey], gamma=1.0), deepcopy(net)
    train(method, lambda weights: torch.optim.AdamW(weights, 0.05, weight_decay=0.1), 100, batch)
    assert method.null_space.kept == {'mix': (1, 3)}
    assert torch.allclose(net(grey), start(grey), atol=1e-6)
    assert torch.allclose(net.mix.weight.sum(1), torch.ones(3), atol=1e-6)  # by hand: the sum of a row stays
    before, after = (method.forget_loss(one(batch.forget_lq), batch.forget_lq).item() for one in (start, net))
    assert before > 0.2 and after < 0.1


def test_everything_else_stays_and_goes_back():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)
            self.scale, self.unused = nn.Parameter(torch.ones(1)), nn.Conv2d(3, 3, 1)
            self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
            self.other.weight = self.one.weight

        def forward(self, image):
            colour = image.mean((2, 3))
            return self.last(self.norm(self.first(image))) * self.scale + self.other(self.one(colour))[..., None, None]

    net = Net()
    assert list(layers_of(net)) == ['first', 'last', 'unused']
    method, start = build(net, [torch.rand(1, 3, 4, 4)], gamma=0.5), deepcopy(net)
    names = {id(weight): name for name, weight in net.named_parameters()}
    assert {names[id(weight)] for weight in method.trainable(net)} == {'first.weight', 'last.weight', 'unused.weight'}
    method.setup()
    with torch.no_grad():
        for weight in net.parameters():
            weight += torch.rand_like(weight)
    net.train()(torch.rand(2, 3, 4, 4))  # moves the statistics of the norm
    method.edit_weights()
    state, before = net.state_dict(), start.state_dict()
    assert {name for name in state if not torch.equal(state[name], before[name])} == {'first.weight', 'last.weight'}


def test_gammas_of_parts():
    body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    net = nn.Sequential(OrderedDict(body=body, tail=nn.Conv2d(3, 3, 1)))
    gammas = {'body': 0.999999, r'body\.1': 1e-6}
    method = build(net, [torch.rand(4, 3, 4, 4)], gamma=1e-6, gammas=gammas)
    assert {name: kept for name, (kept, _) in method.null_space.kept.items()} == {'body.0': 3, 'body.1': 1, 'tail': 1}
    assert set(method.modules(method.options, net)) == {'body', 'body.1'}
    with pytest.raises(InputError, match='gammas: boddy matches no module'):
        method.modules(method_options({'type': 'GradientProjection', 'gammas': {'boddy': 0.9}}), net)


def test_ranks_are_reported(caplog):
    retained = [torch.rand(2, 3, 16, 16)]
    method = build(make_net(), retained, gamma=0.9)
    with caplog.at_level(logging.INFO, 'test'):
        method.setup()
    (record,) = [record for record in caplog.records if record.name == 'test']
    kept = method.null_space.kept
    assert set(kept) == set(measure_covariances(method.run.original, retained)) and 'latent.0.attn.qkv' in kept
    assert all(0 < number < there for number, there in kept.values())
    head, everything, *parts = record.message.splitlines()[1:]
    shares = sorted(100 * number / there for number, there in kept.values())
    figures = [f'{share:.0f}' for share in (shares[0], median(shares), shares[-1])]
    assert everything.split() == ['all', str(len(kept)), *figures]
    assert sum(int(line.split()[1]) for line in parts) == len(kept) and len(parts) < 40
    assert method.run.cost == 3 * method.options.images


# --- losses ---


def test_losses():
    net = nn.Sequential(nn.Conv2d(3, 3, 1))
    batch = random_batch()
    answer, kept = net(batch.forget_lq), net(batch.retain_lq)
    found = build(net, [], forget_weight=2.0).losses(Batch(batch.forget_lq, batch.forget_gt))
    assert list(found) == ['l_forget']
    assert found['l_forget'].item() == pytest.approx(2 * (answer - batch.forget_lq).abs().mean().item())
    method = build(net, [], retain_weight=3.0)
    assert method.uses_retain and not build(net, []).uses_retain and type(method).uses_retain and method.needs_retain
    assert method.losses(batch)['l_retain'].item() == pytest.approx(3 * (kept - batch.retain_gt).abs().mean().item())
    ascent = {'type': 'AscentLoss', 'bound': 0.9}
    error = (answer - batch.forget_gt).abs().mean().item()
    assert build(net, [], forget_opt=ascent).losses(batch)['l_forget'].item() == pytest.approx(0.9 - error)
    method = build(net, [], task='instance')
    mirrored = net(batch.forget_lq.flip(3)).flip(3)
    assert method.losses(batch)['l_forget'].item() == pytest.approx((answer - mirrored).abs().mean().item(), abs=1e-6)
    navigation = build(net, [], 'CovarianceNavigation', proxies=PROXIES)
    assert not navigation.uses_retain and not navigation.needs_retain and navigation.options.forget_target == 'identity'


@pytest.mark.parametrize(
    'section, words',
    [
        ({'type': 'GradientProjection', 'gamma': 0.0}, 'gamma: 0.0 must be above 0'),
        ({'type': 'GradientProjection', 'gamma': 1.5}, 'gamma: 1.5 must be above 0'),
        ({'type': 'GradientProjection', 'gammas': {'latent': 'all'}}, 'gammas: latent: all must be above 0'),
        ({'type': 'GradientProjection', 'images': 0}, 'images: 0 must be at least 1'),
        ({'type': 'GradientProjection', 'forget_target': 'identiti'}, 'Did you mean identity'),
        ({'type': 'CovarianceNavigation'}, 'proxies: is missing'),
        ({'type': 'CovarianceNavigation', 'proxies': PROXIES, 'threshold': 1.0}, 'threshold: 1.0 must be at least 0'),
        ({'type': 'CovarianceNavigation', 'proxies': {'datarot_gt': 'x'}}, 'Did you mean dataroot_gt'),
        ({'type': 'CovarianceNavigation', 'proxies': {'a': {**PROXIES, 'sceness': 3}}}, 'proxies: a: sceness is an'),
        ({'type': 'CovarianceNavigation', 'proxies': {'a': {**PROXIES, 'weight': 0}}}, 'a: weight: 0 must be'),
    ],
)
def test_bad_sections(section, words):
    with pytest.raises(InputError, match=words):
        method_options(section)


# --- proxies ---


def with_proxies(options, proxies):
    """Return an option tree with these proxies, which the method asks for six images of."""
    section = {'type': 'CovarianceNavigation', 'proxies': proxies, 'images': 6, 'threshold': 0.01}
    return short(deepcopy(options), section)


def noisy(folder):
    return {'dataroot_gt': folder, 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}


def test_proxies_of_the_option_file(options, run, pairs, monkeypatch):
    """One source or several; the variable is expanded, and the retain set is not asked for."""
    monkeypatch.setenv('PUBLIC', pairs['rain']['dataroot_gt'])
    seen, images, finish = [], [], UnlearnModel.finish

    def look(self, iteration):
        seen.append(self.method.null_space.kept)
        images.append(torch.cat(list(self.method.images())))
        return finish(self, iteration)

    monkeypatch.setattr(UnlearnModel, 'finish', look)
    for proxies in (noisy('${PUBLIC}'), {'noise': noisy('${PUBLIC}'), 'drawn': {**PROXIES, 'weight': 2}}):
        assert run(with_proxies(options, proxies))[0] == 0
        assert images[-1].shape == (6, 3, 32, 32)
        assert any(0 < number < there for number, there in seen[-1].values())
    assert not torch.equal(*images) and seen[0] != seen[1]


def test_a_missing_variable_and_a_broken_image_of_proxies(options, run, tmp_path, capsys):
    """Before the run, by the run itself and by check. More: test_bad_input.py."""
    (tmp_path / 'public').mkdir()
    (tmp_path / 'public' / 'broken.png').write_bytes(b'no image')
    wrong = {'${NO_SUCH}/x': 'the environment variable NO_SUCH is not set', str(tmp_path / 'public'): 'cannot be read'}
    for folder, words in wrong.items():
        tree = with_proxies(options, {'mine': noisy(folder)})
        status, home = run(tree)
        error = capsys.readouterr().err.strip()
        assert status == 2 and words in error and len(error.splitlines()) == 1 and not list(home.iterdir())
        assert main(['check', '-opt', str(tmp_path / 'options.yml')]) == 2
        (row,) = [row for row in capsys.readouterr().out.splitlines() if '| error' in row]
        assert 'train: method' in row


def test_a_mask_is_refused(options, run, capsys):
    """A step in the null space of which a mask takes a part is in the null space no longer."""
    options['train']['method'] = {'type': 'SalUn', 'images': 2, 'host': {'type': 'GradientProjection', 'images': 8}}
    status, home = run(options)
    error = capsys.readouterr().err
    assert status == 2 and 'train: method: host: type: GradientProjection keeps to directions' in error
    assert not list(home.iterdir())


def test_check_compares_proxies_with_the_other_sets(options, tmp_path, pairs, monkeypatch, capsys):
    """They are to be kept: the forget set is not among them, nor are pictures that are measured."""
    monkeypatch.chdir(tmp_path)
    for name, proxies, found in (('apart', PROXIES, False), ('shared', pairs['haze'], True)):
        tree = with_proxies(options, proxies)
        (tmp_path / f'{name}.yml').write_text(yaml.safe_dump(tree))
        main(['check', '-opt', f'{name}.yml'])
        out = ' '.join(line.split('|')[3].strip() for line in capsys.readouterr().out.splitlines() if '|' in line)
        assert ('train: forget and train: method: proxies: images: 4 of 4 (4 the same' in out) == found, out


def test_proxies_of_a_benchmark_and_of_a_toy(options, tmp_path, monkeypatch, pairs):
    """A run of a benchmark has a folder of its own; a toy has no files of the user's at all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'public').mkdir()
    proxies = {'mine': {**noisy('public'), 'weight': 3}, 'pairs': pairs['rain']}
    tree = with_proxies(options, proxies)
    found = run_tree.complete(run_tree.absolute(tree))['train']['method']['proxies']
    assert found['mine']['dataroot_gt'] == str(tmp_path / 'public')
    section = adapt(tree, 10, 0, {})['train']['method']
    assert section['proxies']['mine'] == {
        'scenes': 100,
        'cache': True,
        'weight': 3,
        'degradation': {'type': 'gaussian_noise', 'sigma': 25},
    }
    assert set(section['proxies']) == {'mine', 'pairs'} and 'dataroot' not in str(section['proxies'])
    method_options(section)
