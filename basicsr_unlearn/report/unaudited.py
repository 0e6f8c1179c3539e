"""A finished run without an audit: its summary in the shape of an audit in which every audit is missing."""

from basicsr_unlearn.option_tables import FORGOTTEN_ROLES
from basicsr_unlearn.report.words import QUESTIONS

AUDITS = ('behaviour', 'relearning', 'hidden', 'membership', 'reconstruction', 'robustness', 'confusion', 'shadows')
REASON = 'Not audited: `basicsr audit -opt FILE` answers it.'


def from_summary(summary, name):
    """Return what `basicsr audit` would write, as far as the summary of a run knows it.

    Args:
        summary (dict): The content of unlearn_summary.json.
        name (str): Of the run.
    """
    return {
        'version': summary['version'],
        'name': name,
        'run': name,
        'method': summary['method'],
        'task': summary['task'],
        'private': False,
        'summary': summary,
        'nets': {},
        'questions': [_question(key, text, summary) for key, text in QUESTIONS.items()],
        'audits': {key: {'missing': REASON} for key in AUDITS},
        'sets': summary['sets'],
        'pictures': [],
        'record': {
            'leftovers': summary.get('leftovers') or [],
            **{key: summary.get(key) for key in ('cost', 'cost_share', 'iterations', 'kept_iteration')},
        },
    }


def _question(key, text, summary):
    roles = {'forgotten': FORGOTTEN_ROLES, 'kept': ('retain',)}.get(key, ())
    shown = [(entry['name'], entry['psnr']) for entry in summary['sets'] if entry['role'] in roles]
    measures = [_measure(f'PSNR of {name}', 'dB', psnr, 2) for name, psnr in shown]
    found = [f'{name} {psnr["original"]:.2f} dB before, {psnr["unlearned"]:.2f} after' for name, psnr in shown]
    if key == 'price':
        share, seconds = summary['cost_share'], summary['seconds']
        measures.append(_measure("Cost, share of the oracle's training", '%', {'unlearned': share and 100 * share}, 2))
        measures.append(_measure('Time of the run', 's', {'unlearned': seconds}, 0))
        found = [*([f"{share:.2%} of the oracle's training"] if share is not None else []), f'{seconds:.0f} seconds']
    sentence = f'{"; ".join(found)}. Not judged: that needs `basicsr audit -opt FILE`.' if found else REASON
    return {'key': key, 'question': text, 'light': 'grey', 'sentence': sentence, 'measures': measures}


def _measure(name, unit, values, digits):
    remark = 'not judged without an audit'
    shown = {'key': name, 'name': name, 'unit': unit, 'values': values, 'digits': digits}
    return {**shown, 'rule': '', 'light': 'grey', 'remark': remark}
