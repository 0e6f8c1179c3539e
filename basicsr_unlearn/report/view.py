"""The page of one audit, as parts that HTML, Markdown and JSON share."""

from basicsr_unlearn import __version__
from basicsr_unlearn.option_tables import FORGOTTEN_ROLES
from basicsr_unlearn.report import figures, membership, record, words
from basicsr_unlearn.report.chain import chain, notices
from basicsr_unlearn.report.details import details
from basicsr_unlearn.report.words import LIGHTS, NETS, QUESTIONS, light, number

AUDITS = {  # of the question that they belong to: {audit: (title, function of what was found)}
    'forgotten': {'behaviour': ('Image by image', figures.behaviour)},
    'removed': {
        'relearning': ('Relearning', figures.relearning),
        'hidden': ('Hidden knowledge', lambda found: details('Hidden knowledge', found)),
        'confusion': ('Interdegradation confusion', lambda found: details('Interdegradation confusion', found)),
    },
    'kept': {'robustness': ('Robustness', figures.robustness)},
    'members': {
        'membership': ('Membership', membership.membership),
        'shadows': ('Shadow networks', membership.shadows),
        'reconstruction': ('Reconstruction', lambda found: details('Reconstruction', found)),
    },
    'price': {},
}
SEVERITY = ('grey', 'green', 'amber', 'red')
PICTURES = {'input': 'degraded', 'original': 'original', 'unlearned': 'unlearned', 'oracle': 'oracle', 'clean': 'clean'}
TERMS = (
    ('forget set', 'What the network was to forget. The retain sets are what it was to keep.'),
    ('original, unlearned', 'The network before and after.'),
    ('oracle', 'A network trained without the forget set: what forgetting should lead to. A second one, trained with '
     'another seed, shows what is chance.'),
    ('PSNR', 'Closeness of a restored image to the clean one, in dB; higher is closer. 1 dB can be seen side by side.'),
    ('E, relearn excess', 'How far the unlearned network leads the oracle while both are fine-tuned on the forgotten, '
     'mean in dB. 0: it learns as slowly as one that never knew.'),
    ('member, AUC, TPR, FPR', 'A member was in the forget set. An attacker guesses members; AUC 0.5 is chance, 1 is '
     'certainty. TPR at 1 % FPR: the share of members found when one in a hundred others is accused.'),
    ('cost', "Work of unlearning as a share of training the oracle from scratch."),
    ('no answer', 'The measure cannot tell the original from the oracle here, or something it needs was not given.'),
)  # fmt: skip


def build(audit):
    """Return the page of an audit.

    Args:
        audit (dict): The content of audit.json.

    Returns:
        dict: `made_by version title summary facts notices cards sections`.
    """
    return {
        'made_by': 'basicsr report',
        'version': __version__,
        'title': f'Audit of {audit["name"]}' if audit['nets'] else f'{audit["name"]}, not audited',
        'summary': _in_short(audit['questions']),
        'facts': _facts(audit),
        'notices': _notices(audit),
        'cards': [_card(question) for question in audit['questions']],
        'sections': [
            _section('sets', 'What the networks make of it', [_sets(audit['sets']), *chain(audit), *_gallery(audit)]),
            *(_question(question, audit) for question in audit['questions']),
            _section('record', 'Record for the data-protection officer', record.blocks(audit)),
            _section('terms', 'How to read this page', [words.facts(TERMS)]),
        ],
    }


def _section(key, title, blocks, colour=None, lead=''):
    return {'key': key, 'title': title, 'light': colour, 'lead': lead, 'blocks': blocks}


def _in_short(questions):
    lights = [question['light'] for question in questions]
    found = {colour: lights.count(colour) for colour in LIGHTS if colour in lights}
    counts = [f'{many} {"without an answer" if colour == "grey" else LIGHTS[colour]}' for colour, many in found.items()]
    return f'{len(lights)} questions: {", ".join(counts)}.'


def _facts(audit):
    """Return what was audited, in a few words each."""
    finished = audit.get('finished')
    found = [audit['method'], audit['task'] and f'task {audit["task"]}', finished and finished[:10]]
    found += ['short audit (--quick)' if audit.get('quick') else None, 'private' if audit['private'] else None]
    return [fact for fact in found if fact]


def _notices(audit):
    found, nets = [], audit['nets']
    if audit['record'].get('kept_iteration') == 0:
        found.append("The weights left behind are the original's: nothing was forgotten.")
    found += notices(audit)
    if not nets:
        found.append(f'{audit["name"]} has not been audited: `basicsr audit -opt FILE`, with FILE naming it, does it.')
    elif 'oracle' not in nets:
        found.append(
            'No oracle was given. The page shows how far the restoration of the forget sets fell, not that the network '
            'equals one that never saw them.'
        )
    if audit['private']:
        found.append('A private run: images are named by the beginning of a hash.')
    if audit.get('quick'):
        found.append('A short audit with few images and steps: a long one may find what it did not.')
    return found


def _card(question):
    """Return a question with its answer; measures of one rule stand under the one with the worst light."""
    groups = {}
    for measure in question['measures']:
        if measure['rule']:
            groups.setdefault(measure['rule'], []).append(measure)
    limits = []
    for rule, group in groups.items():
        worst = max(group, key=lambda measure: SEVERITY.index(measure['light']))
        more = f' and {len(group) - 1} more' if len(group) > 1 else ''
        limits.append({'name': worst['name'] + more, 'rule': rule, **light(worst['light'])})
    card = {'key': question['key'], 'question': question['question'], 'sentence': question['sentence']}
    return {**card, **light(question['light']), 'limits': limits}


def _question(question, audit):
    blocks = [_measures(question['measures'], audit['nets'])] if question['measures'] else []
    if question['key'] == 'price':
        blocks += figures.depth({NETS[net]: (net, point) for net, point in figures.trade(audit).items()})
    for key, (title, show) in AUDITS.get(question['key'], {}).items():
        found = audit['audits'].get(key) or {'missing': 'It is not part of this audit.'}
        if 'missing' in found:
            blocks.append(words.missing(title, found['missing']))
        else:
            blocks += show(found)
    title = question['question'] or QUESTIONS.get(question['key'])
    return _section(question['key'], title, blocks, question['light'], question['sentence'])


def _measures(measures, nets):
    shown = [net for net in NETS if net in ('original', 'unlearned') or net in nets]
    shown += [net for net in NETS if net not in shown and any(m['values'].get(net) is not None for m in measures)]
    rows = [
        [
            f'{measure["name"]}, {measure["unit"]}' if measure.get('unit') else measure['name'],
            *(number(measure['values'].get(net), measure.get('digits', 2)) for net in shown),
            measure['rule'],
            light(measure['light']),
            measure.get('remark') or '',
        ]
        for measure in measures
    ]
    return words.table('Measures', ['measure', *(NETS[net] for net in shown), 'rule', 'light', 'remark'], rows)


def _sets(sets):
    head = ['set', 'role', 'images', 'input', 'original', 'unlearned', 'oracle', 'to original', 'to oracle']
    rows = []
    for entry in sets:
        psnr, ssim = entry['psnr'], entry.get('ssim') or {}
        rows.append(
            [
                entry['name'],
                entry['role'],
                number(entry['images'], 0),
                *(number(psnr.get(column)) for column in ('input', 'original', 'unlearned', 'oracle')),
                *(number(words.difference(psnr, net), 2, '+') for net in ('original', 'oracle')),
                *(number(ssim[net], 3) for net in ('original', 'unlearned', 'oracle') if net in ssim),
            ]
        )
    if not rows:
        return words.missing('Quality', 'No set was measured.')
    head += ['SSIM orig.', 'SSIM unl.', 'SSIM oracle'][: len(rows[0]) - len(head)]
    return words.table('Quality', head, rows, 'PSNR in dB, means over the images.')


def _gallery(audit):
    items = [
        {
            'set': entry['set'],
            'name': f'{entry["set"]} ({entry["role"]}): {entry["name"]}',
            'pictures': [
                {'net': net, 'label': label, 'file': entry['files'][net]}
                for net, label in PICTURES.items()
                if entry['files'].get(net)
            ],
        }
        for entry in audit['pictures']
    ]
    if not items:
        return [words.missing('Pictures', 'There are none.')]
    shown = any(entry['role'] in FORGOTTEN_ROLES for entry in audit['pictures'])
    note = '' if shown else 'No picture of a forget set is shown: the audit holds none.'
    return [{'kind': 'gallery', 'title': 'Pictures', 'shown': items, 'note': note}]
