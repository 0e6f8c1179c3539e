"""What a network was made to forget, request after request: the list `history` beside the weights, oldest first.

An entry: {name, task, method, version, finished, weights_before_sha256, forget, retain, iterations, kept_iteration,
cost, cost_share, stopped_by, sets: [{name, role, psnr: {input, original, unlearned}}]}. `forget` tells the forget set
without names: {pairs, files, sha256, what, degradation, scenes: [first, number], degraded, clean}; `degraded` and
`clean` are the digests of the pixels of its images. Unknown values are null.
"""

from basicsr_unlearn import __version__, checkpoint
from basicsr_unlearn.data import digests
from basicsr_unlearn.option_tables import FORGOTTEN_ROLES

CAME_BACK = 0.2  # dB above the level right after its removal
SAME_SET = 0.01  # dB between the degraded pictures of two sets of one name that are the same
SIDES = ('degraded', 'clean')


def of(opt):
    """Return the history of the network that a run starts from."""
    return checkpoint.read_history(opt['path']['pretrain_network_original'], 'path: pretrain_network_g')


def entry(opt, summary, source):
    """Return the entry of a finished run.

    Args:
        opt (dict): Its option tree.
        summary (dict): What unlearn_summary.json says of it.
        source (Source): Its forget set.
    """
    same = ('iterations', 'kept_iteration', 'cost', 'cost_share', 'stopped_by')
    before = checkpoint.resolve(opt['path']['pretrain_network_original'])
    return {
        'name': summary['name'],
        'task': summary['task'],
        'method': summary['method'],
        'version': __version__,
        'finished': summary['finished'],
        'weights_before_sha256': checkpoint.sha256(before),
        'forget': _forget(opt['datasets']['train']['forget'], source),
        'retain': list(opt['datasets']['train'].get('retain') or {}),
        **{key: summary[key] for key in same},
        'sets': [
            {
                'name': one['name'],
                'role': one['role'],
                'psnr': {state: one['psnr'][state] for state in ('input', 'original', 'unlearned')},
            }
            for one in summary['sets']
        ],
    }


def _forget(section, source):
    found = digests.forgotten(section, source)
    scenes = [section.get('first_scene', 0), section['scenes']] if 'scenes' in section else None
    degradation = (section.get('degradation') or {}).get('type')
    pixels = {side: sorted(known) for side, known in digests.pixel_digests(source).items()}
    return {
        **{key: found[key] for key in ('pairs', 'files', 'sha256', 'what')},
        'degradation': degradation,
        'scenes': scenes,
        **pixels,
    }


def brief(history):
    """Return a history without the digests of single images."""
    return [
        {**request, 'forget': {key: value for key, value in request['forget'].items() if key not in SIDES}}
        for request in history
    ]


def judge(history, sets):
    """Add to the measured sets with role forgotten what their removal left, and whether they came back.

    Args:
        history (list): Of the requests before.
        sets (list[dict]): `sets` of the summary. Those of that role get `left`: {request, psnr} (dB), and `came_back`;
            both are None where no earlier request has measured this very set as its forget set.
    """
    for one in sets:
        if one['role'] != 'forgotten':
            continue
        one['left'] = one['came_back'] = None
        for request in history:
            for then in request['sets']:
                if then['role'] == 'forget' and _same(then, one):
                    one['left'] = {'request': request['name'], 'psnr': then['psnr']['unlearned']}
        if one['left']:
            one['came_back'] = one['psnr']['unlearned'] - one['left']['psnr'] > CAME_BACK


def verdicts(sets, only_returned=False):
    """Return a sentence for each earlier removal that was measured again, or only for those that came back."""
    judged = [one for one in sets if one['role'] == 'forgotten']
    return [_verdict(one) for one in judged if one['came_back'] or not only_returned]


def _verdict(one):
    left, now = one['left'], one['psnr']['unlearned']
    if left is None:
        return f'{one["name"]} cannot be judged: no earlier request measured this set as its forget set.'
    rise = now - left['psnr']
    where = f'{now:.2f} dB, {abs(rise):.2f} {"above" if rise > 0 else "below"} what the request {left["request"]} left'
    return f'{one["name"]} CAME BACK: {where}.' if one['came_back'] else f'{one["name"]} did not come back: {where}.'


def came_back(sets):
    """Return the names of the sets that came back."""
    return [one['name'] for one in sets if one.get('came_back')]


def unmeasured(history, sets):
    """Return `[one sentence]` on what earlier requests removed and no set of a run measures again; empty: nothing.

    Args:
        history (list): Of the requests before.
        sets (dict): `{name: role}` of the run.
    """
    removed = {
        then['name']: request['name'] for request in history for then in request['sets'] if then['role'] == 'forget'
    }
    lost = [f'{name} (request {of})' for name, of in removed.items() if sets.get(name) not in FORGOTTEN_ROLES]
    if not lost:
        return []
    return [
        f'Earlier removals that are not measured again: {", ".join(lost)}. Add each to datasets as the validation set '
        'that it was, with role: forgotten.'
    ]


def remarks(summary, only_returned=False):
    """Return what the summary of a run says of earlier removals: `verdicts`, and `unmeasured` ones."""
    roles = {one['name']: one['role'] for one in summary['sets']}
    earlier = (summary.get('history') or [])[:-1]
    return [*verdicts(summary['sets'], only_returned), *unmeasured(earlier, roles)]


def table(history):
    """Return the chain as rows: the PSNR of every measured set in every state, and what each request was.

    Returns:
        list[list]: The head, then a row for each set: name, roles, PSNR before and after each request (None: not
        measured). Then rows of text on methods, tasks, costs and dates.
    """
    known = []
    for one in (one for request in history for one in request['sets']):
        if not any(_same(one, other) for other in known):
            known.append(one)
    rows = [['set', 'role', 'before', *(f'after {request["name"]}' for request in history)]]
    for first in known:
        found = [next((one for one in request['sets'] if _same(one, first)), None) for request in history]
        states = [found[0] and found[0]['psnr']['original']]
        for here, later in zip(found, [*found[1:], None], strict=True):
            states.append(here['psnr']['unlearned'] if here else later and later['psnr']['original'])
        rows.append([first['name'], ', '.join(one['role'] if one else 'n/a' for one in found), *states])
    for what, say in REQUEST.items():
        rows.append([what, '', '', *map(say, history)])
    return rows


def _same(one, other):
    """Return whether two measured sets are one; sets of one name whose degraded pictures differ are two."""
    return one['name'] == other['name'] and abs(one['psnr']['input'] - other['psnr']['input']) < SAME_SET


def _cost(request):
    share = request.get('cost_share')
    return f'{request["cost"]:.0f}' + ('' if share is None else f" ({share:.2%} of the oracle's)")


REQUEST = {
    'method': lambda request: request['method'],
    'task': lambda request: request['task'],
    'cost': _cost,
    'finished': lambda request: request['finished'][:10],
}
