"""The look at the data sets of a run before it creates anything: pairs, parts that must share nothing, images."""

from copy import deepcopy

from basicsr.utils.registry import DATASET_REGISTRY
from basicsr_unlearn import option_tree, options
from basicsr_unlearn.data.pairing import find_pairs, is_lmdb
from basicsr_unlearn.data.sources import build_source, image_files
from basicsr_unlearn.data.splits import check_split
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_options
from basicsr_unlearn.methods.covariance_navigation import PROXIES, proxy_set
from basicsr_unlearn.preflight_images import Images, check_images


def check_data(sections, open_images=True):
    """Build the data sets of `{option: section}`, and open their images, unless another process does."""
    images = []
    for option, section in sections.items():
        images += check_dataset(option, section)
    if open_images:
        check_images(images)


def loader_options(train):
    """Return a section `datasets: train` less what says which images: the options of its loader."""
    return {key: value for key, value in train.items() if key not in ('forget', 'retain', 'heldout')}


def as_training_set(option, source, train):
    """Return a source by itself as a training set with the loader of another, which is how its images are checked.

    Raises:
        InputError: Unknown keys, or as `build_source`.
    """
    option_tree.check_source(option, source)
    build_source(option, source)
    name = option.split(': ')[-1]
    return {**loader_options(train), 'type': 'MixedPairedDataset', 'sources': {name: source}}


def check_parts(opt):
    """Check that single pairs that are to be forgotten (`task: instance`) are in no other part of `datasets: train`.

    Raises:
        InputError: An image, or a drawn scene, is in two parts, or retain data is made of the forget set.
    """
    if not opt['is_train'] or opt.get('model_type') != 'UnlearnModel' or options.task_of(opt) != 'instance':
        return
    data = opt['datasets']['train']
    for name, section in (data.get('retain') or {}).items():
        if section.get('from') == 'forget':
            raise InputError(
                f'datasets: train: retain: {name}: from: forget trains on the clean images of the forget set, which '
                'task: instance is to forget. Take other images.'
            )
    dataset = DATASET_REGISTRY.get(data['type'])(deepcopy(data))
    own = {'datasets: train: forget': dataset.forget, 'datasets: train: heldout': dataset.heldout}
    others = {f'datasets: train: retain: {name}': source for name, source in dataset.retain.items()}
    check_split({option: source for option, source in own.items() if source is not None}, others)


def check_dataset(option, section):
    """Build a data set; return the Images that it will read, source by source.

    Raises:
        InputError: Missing folders, empty sets, pairs that do not match, unknown keys.
    """
    kind = section.get('type')
    options.check_choice(f'{option}: type', kind, [name for name, _ in DATASET_REGISTRY])
    options.check_name(f'{option}: name', section.get('name'))
    option_tree.check_dataset(option, section)
    images = []
    if kind == 'PairedImageDataset':  # BasicSR's own words name no file
        if is_lmdb(section):
            raise InputError(
                f'{option}: type: PairedImageDataset: its reader cannot share an LMDB with other sets of the run. '
                'Set type: PairedFilesDataset, which takes the same keys.'
            )
        pairs = find_pairs(option, section)
        images.append(Images(option, pairs, 2 * len(pairs)))
    try:
        dataset = DATASET_REGISTRY.get(kind)(deepcopy(section))
    except InputError:
        raise
    except (AssertionError, OSError, KeyError, TypeError, ValueError) as error:
        hint = ' PairedFilesDataset pairs files of different names.' if kind == 'PairedImageDataset' else ''
        raise InputError(f'{option}: {type(error).__name__}: {" ".join(str(error).split())}{hint}') from None
    if kind == 'SingleImageDataset' and not is_lmdb(section):
        images.append(Images(option, [(path,) for path in dataset.paths], len(dataset.paths)))
    return images + _images_of(dataset, option)


def check_proxies(opt):
    """Build the proxies of the method of an unlearning run, where it has some; return the Images that it will read.

    Raises:
        InputError: As `check_dataset`; or they show what is to be forgotten.
    """
    method = options.method_of(opt) if opt.get('model_type') == 'UnlearnModel' and opt['is_train'] else {}
    if not method.get('proxies'):
        return []
    train, chosen = opt['datasets']['train'], method_options(method)
    forgotten = ((train.get('forget') or {}).get('degradation') or {}).get('type')
    for name, source in chosen.proxies.items():
        if options.task_of(opt) == 'degradation' and forgotten == (source.get('degradation') or {}).get('type', ''):
            raise InputError(f'{PROXIES}: {name}: is {forgotten} too, which task: degradation forgets. Remove it.')
    return _images_of(proxy_set(chosen, train), PROXIES)


def _images_of(dataset, option):
    """Return the Images that a data set of ours will read, source by source."""
    images, limits = [], (getattr(dataset, 'size', None), getattr(dataset, 'max_skipped', None))
    for source in _sources(dataset):
        samples, reader = image_files(source), getattr(source, 'read_image', None)
        if reader:
            lmdbs = reader.lmdbs and tuple(reader.lmdbs[key] for key in ('lq', 'gt')[-len(samples[0]) :])
            name, number = getattr(source, 'option', option), getattr(source, 'files', len(samples))
            images.append(Images(name, samples, number, *limits, lmdbs))
    return images


def _sources(dataset):
    """Return what a data set of ours reads from; the set itself where it is its own source."""
    sources = list(getattr(dataset, 'sources', getattr(dataset, 'retain', {})).values())
    sources += [dataset.heldout] if getattr(dataset, 'heldout', None) else []
    own = getattr(dataset, 'forget', getattr(dataset, 'source', None))
    return sources + [own] if own else sources or [dataset]
