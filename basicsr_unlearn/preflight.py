"""The look at all input before a run creates anything: options, files, pairs, pixels, weights.

It runs inside BasicSR's `parse_options` (see compat.py), so that every way to start a run goes through it.
"""

from copy import deepcopy
from functools import cache, partial
from inspect import signature

import torch
from PIL import Image
from tqdm import tqdm

from basicsr.models import lr_scheduler
from basicsr.utils.registry import DATASET_REGISTRY, LOSS_REGISTRY
from basicsr_unlearn import compat, option_tree, options
from basicsr_unlearn.data.lmdb_files import UNREADABLE, read_meta_info
from basicsr_unlearn.data.pairing import find_pairs, is_lmdb
from basicsr_unlearn.data.sources import check_sizes, image_files
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class, method_options
from basicsr_unlearn.metrics.chosen import choose_metrics, with_table
from basicsr_unlearn.preflight_network import check_network

ALL_PIXELS = 1000  # files; above that, only headers are read
OUR_DATASETS = ('ForgetRetainPairedDataset', *option_tree.SETS)


def check(opt):
    """Check everything that can be known before the run.

    Args:
        opt (dict): What `parse_options` returns. Never changed. A run with neither a model nor a data set of ours is
            left alone.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    ours = any(
        isinstance(section, dict) and section.get('type') in OUR_DATASETS for section in opt['datasets'].values()
    )
    if opt.get('model_type') not in options.OUR_MODELS and not ours:
        return
    check_options(opt)
    check_data({f'datasets: {key}': section for key, section in opt['datasets'].items()}, opt['rank'] == 0)
    if opt.get('model_type') in options.OUR_MODELS:
        check_network(opt)


def check_options(opt):
    """Check what needs no look at files: keys, types, the method, the optimizer, the metrics."""
    for test in option_tests(opt).values():
        test()


def option_tests(opt):
    """Return `{name: function}`: the tests that `check_options` does, each raises InputError by itself."""
    unlearning = opt.get('model_type') == 'UnlearnModel' and opt['is_train']
    tests = {}
    if unlearning:
        tests['options'] = lambda: option_tree.check_unlearn_options(opt)
        tests['train: method'] = lambda: _check_method(opt['train']['method'], opt['datasets']['train'].get('retain'))
        tests['train: optim_g, scheduler'] = lambda: _check_optimization(opt['train'])
    if opt.get('model_type') in options.OUR_MODELS:
        train = opt.get('train') or {}
        tests['train: amp, compile'] = lambda: options.check_speed_options(train, opt['num_gpu'], opt['dist'])
        tests['val: metrics'] = lambda: _check_metrics(opt, unlearning)
    return tests


def _check_metrics(opt, unlearning):
    """Try every metric of `val: metrics` on drawn images; most compare with a clean image, which a set may lack."""
    section = (opt.get('val') or {}).get('metrics') or {}
    metrics = choose_metrics(with_table(section) if unlearning else section)
    for metric in metrics:
        metric.try_out()
        for key, dataset in opt['datasets'].items():
            if metric.needs_clean and dataset.get('type') == 'SingleImageDataset':
                raise InputError(f'datasets: {key}: has no clean images, which val: metrics: {metric.name} needs.')


def _check_method(section, retain, option='train: method'):
    chosen, method = method_options(section, option), method_class(section, option)
    if method.needs_clean and retain and all(s.get('target', 'original') == 'original' for s in retain.values()):
        raise InputError(
            f'{option}: type: {section["type"]} stands still where the network is taught its own answers. Set target: '
            'gt in a source of datasets: train: retain.'
        )
    if method.needs_retain and not retain:
        raise InputError(
            f'{option}: type: {section["type"]} needs retain data. Name some in datasets: train: retain; with none at '
            'hand a source with from: forget makes it from the clean images of the forget pairs.'
        )
    if getattr(chosen, 'host', None):
        _check_method(chosen.host, retain, f'{option}: host')
    for key in ('forget_opt', 'retain_opt'):
        loss = dict(getattr(chosen, key, None) or {'type': 'L1Loss'})
        name = f'{option}: {key}'
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


def check_data(sections, open_images=True):
    """Build the data sets of `{option: section}`, and open their images, unless another process does."""
    files = []
    for option, section in sections.items():
        for pairs, lmdbs, patch in check_dataset(option, section):
            if lmdbs:
                _check_recorded_sizes(option, pairs, lmdbs, patch)
            else:
                files += [(pair, patch) for pair in pairs]
    if open_images:
        _check_files(files)


def check_dataset(option, section):
    """Build a data set; return of each source its (pairs of) images, its LMDBs or None, and the patch they must hold.

    Raises:
        InputError: Missing folders, empty sets, pairs that do not match, unknown keys.
    """
    kind = section.get('type')
    options.check_choice(f'{option}: type', kind, [name for name, _ in DATASET_REGISTRY])
    if not section.get('name'):
        raise InputError(f'{option}: name: is missing.')
    option_tree.check_dataset_keys(option, section)
    found = []
    if kind == 'PairedImageDataset':  # BasicSR's own words name no file
        if is_lmdb(section):
            raise InputError(
                f'{option}: type: PairedImageDataset: its reader cannot share an LMDB with other sets of the run. '
                'Set type: PairedFilesDataset, which takes the same keys.'
            )
        found = [(find_pairs(option, section), None, None)]
    try:
        dataset = DATASET_REGISTRY.get(kind)(deepcopy(section))
    except InputError:
        raise
    except (AssertionError, OSError, KeyError, ValueError) as error:
        hint = ' PairedFilesDataset pairs files of different names.' if kind == 'PairedImageDataset' else ''
        raise InputError(f'{option}: {type(error).__name__}: {" ".join(str(error).split())}{hint}') from None
    if kind == 'SingleImageDataset' and not is_lmdb(section):
        found = [([(path,) for path in dataset.paths], None, None)]
    patch = getattr(dataset, 'size', None)
    for source in _sources(dataset):
        reader = getattr(source, 'read_image', None)
        if reader:
            found.append((image_files(source), reader.lmdbs, patch))
    return found


def _sources(dataset):
    """Return what a data set of ours reads from; the set itself where it is its own source."""
    sources = list(getattr(dataset, 'sources', getattr(dataset, 'retain', {})).values())
    own = getattr(dataset, 'forget', getattr(dataset, 'source', None))
    return sources + [own] if own else sources or [dataset]


def _check_recorded_sizes(option, pairs, lmdbs, patch):
    """Check the sizes that the LMDBs of a source record; their pixels were read when they were written."""
    roots = [lmdbs['gt']] if len(pairs[0]) == 1 else [lmdbs['lq'], lmdbs['gt']]
    recorded = [read_meta_info(root, option) for root in roots]
    for pair in pairs:
        sizes = [known[key] for known, key in zip(recorded, pair, strict=True)]
        if all(sizes):
            check_sizes(pair, sizes, patch)


def _check_files(files):
    """Open every image (or its header) once; the images of a pair must have one size, and hold the patch."""
    fully = sum(len(pair) for pair, _ in files) <= ALL_PIXELS
    quiet = True if len(files) < 100 else None  # None: only on a terminal
    size_of = cache(partial(image_size, fully=fully))  # many degraded images share one clean image
    for pair, patch in tqdm(files, 'checking images', unit='pair', leave=False, disable=quiet):
        check_sizes(pair, list(map(size_of, pair)), patch)


def image_size(path, fully):
    """Return width and height of an image file, by its header or, `fully`, after decoding all of it."""
    try:
        with Image.open(path) as image:
            if fully:
                image.load()
            return image.size
    except UNREADABLE:
        raise InputError(f'{path}: cannot be read as an image. Replace it or take it out of the data set.') from None
