"""The part of `basicsr check` that reads images: every one in full, and each but once."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from tqdm import tqdm

from basicsr_unlearn import options
from basicsr_unlearn.data.crops import check_sizes
from basicsr_unlearn.data.duplicates import print_of
from basicsr_unlearn.data.image_header import check_file
from basicsr_unlearn.data.lmdb_files import environment
from basicsr_unlearn.data.sources import ImageReader, build_source, image_files, to_float
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.covariance_navigation import PROXIES
from basicsr_unlearn.option_tables import FORGOTTEN_ROLES
from basicsr_unlearn.preflight_data import check_dataset, check_proxies

LISTS = ('lmdb', 'file_list', 'meta_info_file', 'glob', 'without', 'regions')  # their errors may name images
DEGRADED, CLEAN = 0, -1  # where in a pair


@dataclass
class ImageSet:
    """The images of one source or reported set; `part`: forget (now or earlier), heldout, retain or train."""

    option: str
    part: str
    pairs: list
    lmdbs: tuple | None = None  # of each image of a pair
    patch: int | None = None
    measured: bool = False
    proxy: bool = False  # made of the clean images of the forget set

    def __post_init__(self):
        self.prints = {}  # (path, root) to its Print, of those that can be read

    def files(self, pair):
        """Return `(path, LMDB or None)` of the images of a pair."""
        return list(zip(pair, self.lmdbs or [None] * len(pair), strict=True))

    def side(self, column, owner=None):
        """Return `{file: (owner, Print)}` of one side of the pairs, each file an owner of its own by default."""
        files = dict.fromkeys(self.files(pair)[column] for pair in self.pairs if column == CLEAN or len(pair) == 2)
        return {file: (owner or file, self.prints[file]) for file in files if file in self.prints}

    @property
    def name(self):
        return self.option.removeprefix('datasets: ')


def find(opt, report, unusable):
    """Find the images of all data sets; a source that cannot be built is a row of the report, and left out."""
    found = []
    for key, section in opt['datasets'].items():
        option = f'datasets: {key}'
        if option in unusable:
            continue
        lists = any(word in str(section) for word in LISTS)
        before, built = len(report.rows), None
        sources = report.attempt(option, _find_sources, option, section, report, lists) if key == 'train' else []
        if not any(result == 'error' for _, result, _ in report.rows[before:]):
            built = report.attempt(option, check_dataset, option, section, lists=lists)
        if key == 'train':
            found += sources or []
        elif built:
            part = 'forget' if section.get('role') in FORGOTTEN_ROLES else section.get('role')
            found += [ImageSet(option, part, one.samples, one.lmdbs, one.patch, measured=True) for one in built]
        elif built is not None:
            report.add(option, 'ok', 'no files of its own')
    return found + (_find_proxies(opt, report) if 'train: method' not in unusable else [])


def _find_proxies(opt, report):
    """Find the images of the proxies of a method; they are to be kept, as those of a retain set."""
    method = options.method_of(opt)
    lists = any(word in str(method) for word in LISTS)
    built = report.attempt(PROXIES, check_proxies, opt, lists=lists) or []
    return [ImageSet(one.option, 'retain', one.samples, one.lmdbs, one.patch) for one in built]


def _find_sources(option, section, report, lists):
    """Build each source of a training set by itself."""
    parts = {'forget': section.get('forget'), 'heldout': section.get('heldout')}
    parts.update({f'retain: {name}': source for name, source in (section.get('retain') or {}).items()})
    parts.update({f'sources: {name}': source for name, source in (section.get('sources') or {}).items()})
    found, forget = [], None
    for name, source in parts.items():
        test = f'{option}: {name}'
        proxy = isinstance(source, dict) and source.get('from') == 'forget'
        if not source or (proxy and forget is None):
            continue  # that of the whole set says so
        built = report.attempt(test, build_source, test, source, forget, lists=lists)
        forget = built if name == 'forget' else forget
        if built is None:
            continue
        part, pairs = name.split(':')[0].replace('sources', 'train'), image_files(built)
        if pairs:
            lmdbs = built.read_image.lmdbs
            lmdbs = lmdbs and tuple(lmdbs[kind] for kind in ('lq', 'gt')[-len(pairs[0]) :])
            found.append(ImageSet(test, part, pairs, lmdbs, section.get('gt_size'), proxy=proxy))
        else:
            report.add(test, 'ok', f'{len(built)} drawn scenes')
    return found


def read(sets, report):
    """Decode every image once, fill in `prints`, and report what cannot be read and which sizes do not fit."""
    files = {}  # each once, and how it is read
    for one in sets:
        for pair in one.pairs:
            files.update(dict.fromkeys(one.files(pair)))
    for root in {root for _, root in files if root}:
        environment(root)  # opened here, shared by the threads
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        bar = tqdm(pool.map(_read, files), 'reading images', len(files), unit='image', leave=False, disable=None)
        looked = dict(zip(files, bar, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    for one in sets:
        used = dict.fromkeys(file for pair in one.pairs for file in one.files(pair))
        one.prints = {file: looked[file] for file in used if not isinstance(looked[file], InputError)}
        faults = [((file[0],), looked[file]) for file in used if file not in one.prints]
        noun = 'images' if len(one.pairs[0]) == 1 else f'images of {len(one.pairs)} pairs'
        report.faults(f'{one.option}: images', faults, f'{len(used)} {noun}')
        _report_sizes(one, report)


@cache
def _reader(root):
    return ImageReader({'io_backend': {'type': 'lmdb'}, 'dataroot_lq': root, 'dataroot_gt': root} if root else {})


def _read(file):
    """Return the Print of an image, or the InputError that says what is wrong with it."""
    path, root = file
    try:
        if root is None:
            check_file(path, pixels=True)
        return print_of(to_float(_reader(root)(path, 'gt')))
    except InputError as error:
        return error
    except Exception as error:  # one image must not end the look at the others
        return InputError(f'{path}: cannot be read as an image ({type(error).__name__}). Replace it or take it out.')


def _report_sizes(one, report):
    sizes, faults = set(), []
    for pair in one.pairs:
        prints = [one.prints.get(file) for file in one.files(pair)]
        if not all(prints):
            continue
        found = [(image.width, image.height) for image in prints]
        sizes.update(found)
        try:
            check_sizes(pair, found, one.patch if isinstance(one.patch, int) else None)
        except InputError as error:
            faults.append((pair, error))
    if sizes:
        least, most = (f(sizes, key=lambda size: size[0] * size[1]) for f in (min, max))
        span = '{}x{}'.format(*least) + (' to {}x{}'.format(*most) if least != most else '')
        noun = 'images' if len(one.pairs[0]) == 1 else 'pairs'
        report.faults(f'{one.option}: sizes', faults, f'{len(one.pairs)} {noun}', f'{span} pixels')
