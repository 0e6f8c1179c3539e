"""The part of `basicsr check` that reads images: every one in full, and each but once; then which are there twice."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from os import path as osp

from tqdm import tqdm

from basicsr_unlearn import options
from basicsr_unlearn.data.crops import check_sizes
from basicsr_unlearn.data.duplicates import copies, print_of
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


def report_duplicates(sets, task, report):
    """Report the images that are asked to be forgotten and kept, trained on and measured, or twice in one set."""
    kept, trained, known = [], [], []
    for first, second in tqdm(list(_comparisons(sets)), 'comparing sets', leave=False, disable=None):
        if 'heldout' in (first.part, second.part):
            known += _shared(first, second, (DEGRADED, CLEAN), report)
            continue
        sides = _what_counts(first, second, task)
        kept += _shared(first, second, sides[0], report)
        trained += _shared(first, second, sides[1], report)
    twice = [text for one in sets for text in _twice(one, report)]
    none = f'none in {len(sets)} sets'
    if any(one.part == 'forget' for one in sets):
        remedy = 'They cannot be both: take them out of one of the two.'
        report.found('duplicates: forgotten and kept', kept, remedy, none, task == 'instance')
    if any(one.part == 'heldout' for one in sets):
        remedy = 'Held-out pairs must be new to every network: take these out.'
        report.found('duplicates: held out and trained', known, remedy, none, task == 'instance')
    if {one.measured for one in sets} == {True, False}:
        remedy = 'These figures would measure training images: take them out of one of the two.'
        report.found('duplicates: trained and measured', trained, remedy, none)
    report.found('duplicates: within a set', twice, 'Each counts as often as it is there: remove the copies.', none)


def _what_counts(first, second, task):
    """Return the sides of pairs that cannot be forgotten and kept, and those that should not be trained and measured.

    By task: of a degradation that is forgotten, the same photograph may stay under another one; the pairs of a source
    or of instances are to go whatever is on them, and a reported set may hold these very pairs.
    """
    both, contradiction = (DEGRADED, CLEAN), _is_contradiction(first, second)
    if task == 'degradation':
        kept, trained = ((DEGRADED,), (CLEAN,)) if contradiction else ((), both)
    elif contradiction:
        kept, trained = both, ()
    else:
        kept, trained = (), () if {first.part, second.part} == {'forget'} else both
    return kept, trained if first.measured or second.measured else ()


def _comparisons(sets):
    """Yield the pairs of sets to compare; the clean images of proxies are those of the forget set by design."""
    sets = [one for one in sets if not one.proxy]
    for index, first in enumerate(sets):
        for second in sets[index + 1 :]:
            heldout = 'heldout' in (first.part, second.part) and not (first.measured or second.measured)
            if heldout or _is_contradiction(first, second) or first.measured != second.measured:
                yield first, second


def _is_contradiction(first, second):
    """Return whether one is to be forgotten, the other to be kept, and one of them is trained on."""
    return {first.part, second.part} == {'forget', 'retain'} and not (first.measured and second.measured)


def _shared(first, second, columns, report):
    """Return what `_line` says of the images of one set that are in another too."""
    found = {}
    for column in columns:
        matches = copies(first.side(column, first.option), second.side(column, second.option))
        for number, pair in enumerate(first.pairs):
            match = matches.get(first.files(pair)[column]) if column == CLEAN or len(pair) == 2 else None
            if match and not found.get(number, (0, 0, False))[2]:
                found[number] = (pair[column], match[0][0], match[1])
    return _line(f'{first.name} and {second.name}', found, len(first.pairs), report)


def _twice(one, report):
    """Return what `_line` says of copies within a set.

    Of pairs only the same degraded pixels count: several degraded versions of one clean image are no copies.
    """
    paired = len(one.pairs[0]) == 2
    files = one.side(DEGRADED if paired else CLEAN)
    place = {file: number for number, file in enumerate(files)}
    matches = {file: match for file, match in copies(files, files).items() if match[1] or not paired}
    found = {file: (file[0], other[0], same) for file, (other, same) in matches.items() if place[other] < place[file]}
    return _line(one.name, found, len(files), report)


def _line(sets, found, total, report):
    """Return `[(a line about copies, how many are the same)]`, empty where there are none."""
    if not found:
        return []
    same = sum(match[2] for match in found.values())
    first, second = (osp.basename(report.shown(path)) for path in next(iter(found.values()))[:2])
    text = f'{sets}: {len(found)} of {total} ({same} the same, {len(found) - same} alike), as {first} and {second}.'
    return [(text, same)]
