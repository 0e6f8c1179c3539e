"""From the results of jobs to what audit.json says of each audit."""

from statistics import fmean

from basicsr_unlearn.audits.membership import membership
from basicsr_unlearn.audits.relearn import area, excess

LISTS = ('psnr', 'agreement', 'colour', 'texture')
PUBLIC = 'audit: public is missing: pairs of the forgotten kind that are used nowhere else.'
HELDOUT = 'audit: heldout is missing: pairs like the forget set that were never trained on.'
FORGET = 'No validation set has role: forget, so nothing shows what is left of the skill. Give one.'
RETAIN = 'No validation set has role: retain, so there is nothing that must stay robust. Give one.'
FEW = 30  # members or non-members below which a membership attack says nothing


def collect(course, results):
    """Return `{behaviour, relearning, hidden, membership, robustness, reconstruction}` of audit.json.

    Args:
        course (Course): What was to be done.
        results (dict): `{(audit, net, part): what the job gave}`.
    """
    parts = {}
    for (audit, net, part), result in results.items():
        parts.setdefault(audit, {}).setdefault(part, {})[net] = result
    return {
        'behaviour': {'sets': _behaviour(course, parts.get('behaviour', {}))},
        'relearning': _relearning(course, parts.get('relearning', {})),
        'hidden': _hidden(course, parts),
        'membership': _membership(course, parts),
        'robustness': _robustness(course, parts),
        'reconstruction': {part: nets['original'] for part, nets in parts['reconstruction'].items()},
    }


def _behaviour(course, sets):
    found = {}
    for name, nets in sets.items():
        degraded = nets['input']
        entry = {'role': course.subject.sets()[name]['role'], 'images': degraded['images']}
        entry.update(input=degraded['psnr'], strength=degraded['strength'])
        known = {net: values for net, values in nets.items() if net != 'input'}
        found[name] = {**entry, **{key: {net: values[key] for net, values in known.items()} for key in LISTS}}
    return found


def table(sets):
    """Return the means over each set: `[{name, role, images, psnr: {input, original, unlearned, oracle, ...}}]`."""
    return [
        {
            'name': name,
            'role': entry['role'],
            'images': len(entry['images']),
            'psnr': {'input': fmean(entry['input']), **{net: fmean(v) for net, v in entry['psnr'].items()}},
        }
        for name, entry in sets.items()
    ]


def _relearning(course, attacks):
    if not course.subject.sets('forget'):
        return {'missing': FORGET}
    found = []
    for (data, scope, lr), curves in attacks.items():
        curves = {net: {int(step): value for step, value in curve.items()} for net, curve in curves.items()}
        entry = {'data': data, 'scope': scope, 'lr': lr, 'seed': course.options.seed, 'steps': course.depth.steps}
        entry.update(curves=curves, area={}, excess={}, window=0)
        oracle, original = curves.get('oracle'), curves['original']
        if oracle:
            entry['area'] = {net: area(curve, oracle) for net, curve in curves.items()}
            entry['excess'] = {net: excess(curve, oracle, original)[0] for net, curve in curves.items()}
            entry['window'] = excess(original, oracle, original)[1]
        found.append(entry)
    return {'attacks': found, 'left_out': course.missing}


def _hidden(course, parts):
    nets = parts.get('hidden', {}).get('')
    if not nets:
        return {'missing': FORGET}
    found = {'swap': {net: values['swap'] for net, values in nets.items()}}
    found['similarity'] = {net: values['similarity'] for net, values in nets.items()}
    found['probe'] = {net: values['probe'] for net, values in nets.items()}
    if not course.options.public:
        found['probe'] = {'missing': PUBLIC}
    return found


def _membership(course, parts):
    nets = dict(parts.get('membership', {}).get('', {}))
    if not nets:
        return {'missing': HELDOUT}
    known = nets.pop('difficulty')
    numbers = {key: len(values) for key, values in known.items()}
    if min(numbers.values()) < FEW:
        return {
            'missing': f'{numbers["members"]} members and {numbers["non_members"]} others: too few, {FEW} at least.'
        }
    found = {}
    for net, values in nets.items():
        sides = [{'psnr': values[key], 'difficulty': known[key]} for key in ('members', 'non_members')]
        found[net] = membership(*sides, course.options.seed)
    return {**numbers, 'calibrated_by': course.subject.calibration, 'nets': found, 'psnr': nets}


def _robustness(course, parts):
    nets = parts.get('robustness', {}).get('')
    if not nets:
        return {'missing': RETAIN}
    part = {key: {net: values[key] for net, values in nets.items()} for key in nets['original']}
    radius = {
        key: {net: values[key] and 255 * values[key] for net, values in part['radius'].items()}
        for key in ('pgd', 'smoothing')
    }
    return {
        'pgd': {'eps': list(course.depth.eps), 'psnr': part['pgd']},
        'smoothing': {'sigma': list(course.depth.sigmas), 'psnr': part['smoothing']},
        'purified': part['purified'],
        'clean': part['clean'],
        'radius': radius,
    }
