"""The look at all input before a run creates anything: options, files, pairs, pixels, weights.

It runs inside BasicSR's `parse_options` (see compat.py), so that every way to start a run goes through it.
"""

from copy import deepcopy
from inspect import signature
from os import path as osp

import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from basicsr.models import lr_scheduler
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY
from basicsr_unlearn import checkpoint, compat, option_tree, options
from basicsr_unlearn.data.sources import PairedSource, build_source, check_sizes
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class

ALL_PIXELS = 1000  # files; above that, only headers are read
OUR_DATASETS = ('ForgetRetainPairedDataset', 'MixedPairedDataset', 'DegradedImageDataset', 'PhotographDataset')
OUR_MODELS = ('UnlearnModel', 'RestorationModel')


def check(opt):
    """Check everything that can be known before the run.

    Args:
        opt (dict): What `parse_options` returns. Never changed. A run with neither a model nor a data set of ours is
            left alone.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    unlearning = opt.get('model_type') == 'UnlearnModel' and opt['is_train']
    ours = any(
        isinstance(section, dict) and section.get('type') in OUR_DATASETS for section in opt['datasets'].values()
    )
    if opt.get('model_type') not in OUR_MODELS and not ours:
        return
    if unlearning:
        option_tree.check_unlearn_options(opt)
        _check_method(opt['train']['method'])
        _check_optimization(opt['train'])
    files = []
    for key, section in opt['datasets'].items():
        files += _check_dataset(key, section)
    if opt['rank'] == 0:
        _check_files(files)
    if opt.get('model_type') in OUR_MODELS:
        _check_network(opt)


def _check_method(section):
    own = {key: value for key, value in section.items() if key != 'type'}
    chosen = options.from_section(method_class(section).Options, own, 'train: method')
    for key in ('forget_opt', 'retain_opt'):
        loss = dict(getattr(chosen, key, None) or {'type': 'L1Loss'})
        name = f'train: method: {key}'
        kind = loss.pop('type', None)
        options.check_choice(f'{name}: type', kind, [registered for registered, _ in LOSS_REGISTRY])
        options.check_keys(name, loss, list(signature(LOSS_REGISTRY.get(kind)).parameters))
        try:
            LOSS_REGISTRY.get(kind)(**loss)
        except (TypeError, ValueError) as error:
            raise InputError(f'{name}: {error}') from None


def _check_optimization(train):
    """Check optimizer and scheduler, which BasicSR builds only after it has made its folders."""
    for option, kinds, owner in (
        ('optim_g', compat.OPTIMIZERS, torch.optim),
        ('scheduler', ('MultiStepLR', 'MultiStepRestartLR', 'CosineAnnealingRestartLR'), lr_scheduler),
    ):
        section = dict(train[option])
        kind = section.pop('type', None)
        options.check_choice(f'train: {option}: type', kind, kinds)
        cls = getattr(owner, 'MultiStepRestartLR' if kind == 'MultiStepLR' else kind)
        known = [name for name in signature(cls).parameters if name not in ('params', 'optimizer', 'last_epoch')]
        options.check_keys(f'train: {option}', section, known)


def _check_dataset(key, section):
    """Build a data set; return the (pair of) image files that it will read, and the patch size that they must hold."""
    option = f'datasets: {key}'
    kind = section.get('type')
    options.check_choice(f'{option}: type', kind, [name for name, _ in DATASET_REGISTRY])
    if not section.get('name'):
        raise InputError(f'{option}: name: is missing.')
    if kind == 'PairedImageDataset':  # BasicSR's own words name no file
        source = build_source(option, section)
        files = [(pair, None) for pair in source.pairs] if _on_disk(section) else []
    else:
        files = []
    try:
        dataset = DATASET_REGISTRY.get(kind)(deepcopy(section))
    except InputError:
        raise
    except (AssertionError, OSError, KeyError, ValueError) as error:
        raise InputError(f'{option}: {type(error).__name__}: {" ".join(str(error).split())}') from None
    sources = list(getattr(dataset, 'sources', getattr(dataset, 'retain', {})).values())
    if hasattr(dataset, 'forget'):
        sources.append(dataset.forget)
    for source in sources:
        if isinstance(source, PairedSource):
            found = source.pairs if source.read_image.io_backend['type'] == 'disk' else []
        else:
            found = [(path,) for path in getattr(source, 'paths', [])]
        files += [(pair, dataset.size) for pair in found]
    if kind == 'DegradedImageDataset' and _on_disk(section):
        files += [((path,), None) for path in dataset.paths]
    return files


def _on_disk(section):
    return (section.get('io_backend') or {'type': 'disk'}).get('type') == 'disk'


def _check_files(files):
    """Open every image (or its header) once; the images of a pair must have one size, and hold the patch."""
    fully = sum(len(pair) for pair, _ in files) <= ALL_PIXELS
    quiet = True if len(files) < 100 else None  # None: only on a terminal
    for pair, patch in tqdm(files, 'checking images', unit='pair', leave=False, disable=quiet):
        check_sizes(pair, [_image_size(path, fully) for path in pair], patch)


def _image_size(path, fully):
    try:
        with Image.open(path) as image:
            if fully:
                image.load()
            return image.size
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        raise InputError(f'{path}: cannot be read as an image. Replace it or take it out of the data set.') from None


def _check_network(opt):
    """Build network_g and try the weights that the run will load."""
    section = dict(opt.get('network_g') or {})
    kind = section.pop('type', None)
    options.check_choice('network_g: type', kind, [name for name, _ in ARCH_REGISTRY])
    cls = ARCH_REGISTRY.get(kind)
    if not any(p.kind is p.VAR_KEYWORD for p in signature(cls).parameters.values()):
        options.check_keys('network_g', section, list(signature(cls).parameters))
    try:
        net = cls(**section)
    except (TypeError, ValueError) as error:
        raise InputError(f'network_g: {kind}: {error}') from None
    path, state = opt['path'], opt['path'].get('resume_state')
    if state and not osp.isfile(state):
        raise InputError(f'path: resume_state: {state}: no such file.')
    resuming = opt.get('auto_resume') or state
    names = ['original', 'oracle'] if opt['model_type'] == 'UnlearnModel' and opt['is_train'] else ['g']
    for name in names:
        weights = path.get(f'pretrain_network_{name}')
        option = 'path: pretrain_network_' + ('g' if name == 'original' else name)
        if weights and not (resuming and name == 'g'):
            strict = name == 'oracle' or path.get('strict_load_g', True)
            checkpoint.load_into(net, weights, option, path.get(f'param_key_{name}', 'params'), strict)
            checkpoint.manifest_entry(weights)
