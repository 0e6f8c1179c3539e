"""The look at all input before a run creates anything: options, files, pairs, pixels, weights.

It runs inside BasicSR's `parse_options` (see compat.py), so that every way to start a run goes through it.
"""

from copy import deepcopy
from functools import cache, partial
from inspect import signature
from os import path as osp

import torch
from PIL import Image
from tqdm import tqdm

from basicsr.utils.registry import DATASET_REGISTRY, LOSS_REGISTRY
from basicsr_unlearn import checkpoint, manifest, optimization, option_tree, options
from basicsr_unlearn.data.lmdb_files import UNREADABLE, read_meta_info
from basicsr_unlearn.data.pairing import find_pairs, is_lmdb
from basicsr_unlearn.data.sources import check_sizes, image_files
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class, method_options
from basicsr_unlearn.metrics.chosen import choose_metrics, with_table
from basicsr_unlearn.network import build_network_g

ALL_PIXELS = 1000  # files; above that, only headers are read


def check(opt):
    """Check everything that can be known before the run.

    Args:
        opt (dict): What `parse_options` returns. Never changed. A run with neither a model nor a data set of ours is
            left alone.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    if not option_tree.is_ours(opt):
        return
    check_options(opt)
    check_data({f'datasets: {key}': section for key, section in opt['datasets'].items()}, opt['rank'] == 0)
    if opt.get('model_type') in options.OUR_MODELS:
        check_network(opt)


def check_options(opt):
    """Check what needs no look at files: keys, types, the method, the optimizer, the metrics."""
    for key, section in opt['datasets'].items():
        option_tree.check_dataset(f'datasets: {key}', section)
    if opt.get('model_type') not in options.OUR_MODELS:
        return
    option_tree.check_sections(opt)
    unlearning = opt['model_type'] == 'UnlearnModel' and opt['is_train']
    if unlearning:
        option_tree.check_unlearn_options(opt)
        _check_method(opt['train']['method'], opt['datasets']['train'].get('retain'))
    elif opt['is_train'] and opt['train'].get('pixel_opt'):
        _check_loss('train: pixel_opt', opt['train']['pixel_opt'])
    if opt['is_train']:
        optimization.build(opt['train'])
    if opt['num_gpu'] and not torch.cuda.is_available():
        raise InputError(f'num_gpu: {opt["num_gpu"]}: torch finds no GPU here. Set num_gpu: auto, or 0.')
    options.check_speed_options(opt.get('train') or {}, opt['num_gpu'], opt['dist'])
    _check_metrics(opt, unlearning)


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
        _check_loss(f'{option}: {key}', getattr(chosen, key, None) or {'type': 'L1Loss'})


def _check_loss(name, section):
    loss = dict(section)
    kind = loss.pop('type', None)
    options.check_choice(f'{name}: type', kind, [registered for registered, _ in LOSS_REGISTRY])
    options.check_keys(name, loss, list(signature(LOSS_REGISTRY.get(kind)).parameters))
    try:
        LOSS_REGISTRY.get(kind)(**loss)
    except (TypeError, ValueError) as error:
        raise InputError(f'{name}: {error}') from None


def check_data(sections, open_images=True):
    """Build the data sets of `{option: section}`, and open their images, unless another process does."""
    files = []
    for option, section in sections.items():
        files += _check_dataset(option, section)
    if open_images:
        _check_files(files)


def _check_dataset(option, section):
    """Build a data set; return the (pair of) image files that it will read, and the patch size that they must hold."""
    kind = section.get('type')
    options.check_choice(f'{option}: type', kind, [name for name, _ in DATASET_REGISTRY])
    options.check_name(f'{option}: name', section.get('name'))
    option_tree.check_dataset(option, section)
    files = []
    if kind == 'PairedImageDataset':  # BasicSR's own words name no file
        if is_lmdb(section):
            raise InputError(
                f'{option}: type: PairedImageDataset: its reader cannot share an LMDB with other sets of the run. '
                'Set type: PairedFilesDataset, which takes the same keys.'
            )
        files = [(pair, None) for pair in find_pairs(option, section)]
    try:
        dataset = DATASET_REGISTRY.get(kind)(deepcopy(section))
    except InputError:
        raise
    except (AssertionError, OSError, KeyError, TypeError, ValueError) as error:
        hint = ' PairedFilesDataset pairs files of different names.' if kind == 'PairedImageDataset' else ''
        raise InputError(f'{option}: {type(error).__name__}: {" ".join(str(error).split())}{hint}') from None
    patch = getattr(dataset, 'size', None)
    for source in _sources(dataset):
        pairs = image_files(source)
        reader = getattr(source, 'read_image', None)
        if reader and reader.lmdbs:
            _check_recorded_sizes(option, pairs, reader.lmdbs, patch)
        elif reader:
            files += [(pair, patch) for pair in pairs]
    return files


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
    image_size = cache(partial(_image_size, fully=fully))  # many degraded images share one clean image
    for pair, patch in tqdm(files, 'checking images', unit='pair', leave=False, disable=quiet):
        check_sizes(pair, list(map(image_size, pair)), patch)


def _image_size(path, fully):
    if not osp.isfile(path):
        raise InputError(f'{path}: is no file. Replace it or take it out of the data set.')
    try:
        with Image.open(path) as image:
            if fully:
                image.load()
            return image.size
    except UNREADABLE:
        raise InputError(f'{path}: cannot be read as an image. Replace it or take it out of the data set.') from None


def check_network(opt):
    """Build network_g and try the weights that the run will load."""
    net = build_network_g(opt.get('network_g'))
    path, state = opt['path'], opt['path'].get('resume_state')
    if state and not osp.isfile(state):
        raise InputError(f'path: resume_state: {state}: no such file.')
    unlearning = opt['model_type'] == 'UnlearnModel' and opt['is_train']
    if unlearning:
        section = opt['train']['method']
        method_class(section).modules(method_options(section), net)
    resuming = opt.get('auto_resume') or state
    names = ['original', 'oracle'] if unlearning else ['g']
    cost = None
    for name in names:
        weights = path.get(f'pretrain_network_{name}')
        option = 'path: pretrain_network_' + ('g' if name == 'original' else name)
        if weights and not (resuming and name == 'g'):
            options.check_outside(option, weights, None if resuming else path.get('experiments_root'))
            strict = name == 'oracle' or path.get('strict_load_g', True)
            checkpoint.load_into(net, weights, option, path.get(f'param_key_{name}', 'params'), strict)
            cost = (manifest.read_entry(weights) or {}).get('cost') if name == 'oracle' else None
    if (
        unlearning
        and options.stop_options(opt['train']).max_cost_share
        and not (opt['train'].get('oracle_cost') or cost)
    ):
        raise InputError(
            'train: stop: max_cost_share: the cost of the oracle is not known. Set train: oracle_cost: iterations x '
            'images of an iteration x 3.'
        )
