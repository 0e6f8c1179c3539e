"""The look at all input before a run creates anything: options, files, pairs, pixels, weights.

It runs inside BasicSR's `parse_options` (see compat/reading.py), so that every way to start a run goes through it.
"""

from inspect import signature

import torch

from basicsr.utils.registry import LOSS_REGISTRY
from basicsr_unlearn import optimization, option_tree, options
from basicsr_unlearn.data import found
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class, method_options
from basicsr_unlearn.metrics.chosen import choose_metrics, with_table
from basicsr_unlearn.preflight_data import check_data, check_parts, check_proxies
from basicsr_unlearn.preflight_history import check_retain
from basicsr_unlearn.preflight_images import check_images
from basicsr_unlearn.preflight_network import check_network


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
    found.keep()  # pairs, for the data sets that BasicSR and the model build next
    check_data({f'datasets: {key}': section for key, section in opt['datasets'].items()}, opt['rank'] == 0)
    proxies = check_proxies(opt)
    if opt['rank'] == 0:
        check_images(proxies)
        check_parts(opt)
    if opt.get('model_type') in options.OUR_MODELS:
        check_network(opt)
    if opt.get('model_type') == 'UnlearnModel' and opt['is_train'] and opt['rank'] == 0:
        check_retain(opt)


def check_options(opt):
    """Check what needs no look at files: keys, types, the method, the optimizer, the metrics."""
    for key, section in opt['datasets'].items():
        option_tree.check_dataset(f'datasets: {key}', section)
    for test in option_tests(opt).values():
        test()


def option_tests(opt):
    """Return `{name: function}`: the tests that `check_options` does, each raises InputError by itself."""
    tests = {}
    if opt.get('model_type') not in options.OUR_MODELS:
        return tests
    train, unlearning = opt.get('train') or {}, opt['model_type'] == 'UnlearnModel' and opt['is_train']
    tests['options'] = lambda: _check_keys(opt, unlearning)
    if unlearning:
        tests['train: method'] = lambda: _check_method(train['method'], opt['datasets']['train'].get('retain'))
        tests['train: method: forget_target'] = lambda: _check_target(
            train['method'], opt['datasets']['train'], opt['path']
        )
    elif opt['is_train'] and train.get('pixel_opt'):
        tests['train: pixel_opt'] = lambda: _check_loss('train: pixel_opt', train['pixel_opt'])
    if opt['is_train']:
        tests['train: optim_g, scheduler'] = lambda: optimization.build(train) and None
    tests['num_gpu'] = lambda: _check_gpu(opt['num_gpu'], opt['dist'])
    tests['train: amp, compile'] = lambda: options.check_speed_options(train, opt['num_gpu'])
    tests['val: metrics'] = lambda: _check_metrics(opt, unlearning)
    return tests


def _check_keys(opt, unlearning):
    option_tree.check_sections(opt)
    if unlearning:
        option_tree.check_unlearn_options(opt)


def _check_gpu(number, distributed):
    if number and not torch.cuda.is_available():
        raise InputError(f'num_gpu: {number}: torch finds no GPU here. Set num_gpu: auto, or 0.')
    if number > 1 and not distributed:
        raise InputError(f'num_gpu: {number}: a process uses one GPU. Set 1, or start with torchrun.')


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


def _check_target(section, data, path, option='train: method'):
    """Check what the network is to learn of forget images: that someone can say it, who does not know the pairs."""
    chosen = method_options(section, option)
    if getattr(chosen, 'host', None):
        return _check_target({'task': chosen.task, **chosen.host}, data, path, f'{option}: host')
    target, option = getattr(chosen, 'forget_target', None), f'{option}: forget_target'
    regions = (data.get('forget') or {}).get('regions')
    if target == 'region' and not regions:
        raise InputError(
            f'{option}: region: datasets: train: forget: regions: is missing. Name a file with a box in each line.'
        )
    if regions and target != 'region':
        raise InputError(
            f'datasets: train: forget: regions: {regions}: {section["type"]} would forget whole pairs. Choose a method '
            'with forget_target, such as MirrorTarget, and set it to region, or take the regions out.'
        )
    if target == 'reference' and not path.get('pretrain_network_reference'):
        raise InputError(
            f'{option}: reference: path: pretrain_network_reference: is missing. Name weights that never saw the '
            'forget pairs, or choose mirror.'
        )
    if target == 'mirror' and (data.get('use_rot') or (data.get('use_hflip') and chosen.mirror == 'horizontal')):
        remedy = 'choose reference' if data.get('use_rot') else 'set mirror: vertical'
        raise InputError(
            f'{option}: mirror: {chosen.mirror}: with use_hflip or use_rot the original learnt the mirror images, too: '
            f'{remedy}, or set both to false if it was trained without.'
        )


def _check_loss(name, section):
    loss = dict(section)
    kind = loss.pop('type', None)
    options.check_choice(f'{name}: type', kind, [registered for registered, _ in LOSS_REGISTRY])
    options.check_keys(name, loss, list(signature(LOSS_REGISTRY.get(kind)).parameters))
    try:
        LOSS_REGISTRY.get(kind)(**loss)
    except (TypeError, ValueError) as error:
        raise InputError(f'{name}: {error}') from None
