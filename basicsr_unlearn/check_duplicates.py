"""The part of `basicsr check` that looks for one image in two sets of a run, or twice in one."""

from os import path as osp

from tqdm import tqdm

from basicsr_unlearn.check_images import CLEAN, DEGRADED
from basicsr_unlearn.data.duplicates import copies


def report(sets, task, report):
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
