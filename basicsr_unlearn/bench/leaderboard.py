"""The files of a leaderboard: JSON, CSV, Markdown and pictures."""

import csv
import io
import json
from os import path as osp

from basicsr_unlearn import __version__
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.models.summary import markdown_table
from basicsr_unlearn.options import task_of

COMMON = {'cost': 'cost_share', 'seconds': 'seconds', 'MiB': 'memory', 'missed by': 'shortfall'}
COLUMNS = {  # by the attack
    'relearning': {
        'forget': 'forget_psnr',
        'SSIM': 'forget_ssim',
        'to oracle': 'forget_gap',
        'retained': 'retained',
        'ret. to oracle': 'retained_to_oracle',
        'relearn E': 'relearn_excess',
        **COMMON,
    },
    'membership': {
        'AUC': 'auc',
        '95 %': 'auc_interval',
        'TPR at 1 %': 'tpr_1',
        'gap': 'gap',
        'gap, 95 %': 'gap_interval',
        'members': 'members',
        'others': 'others',
        'retained': 'retained',
        **COMMON,
    },
}
FORMS = {
    'SSIM': '.3f',
    'AUC': '.3f',
    '95 %': '.3f',
    'TPR at 1 %': '.3f',
    'cost': '.2%',
    **dict.fromkeys(('seconds', 'MiB'), '.0f'),
    **dict.fromkeys(('forget', 'relearn E', 'members', 'others'), '.2f'),
}


def write(bench, tables):
    """Write `leaderboard.json`, `.md`, `.csv` and, with matplotlib, `.png` into the folder of the benchmark.

    Args:
        bench (Bench): The options.
        tables (dict): `screening` and, when it is there, `final`: `{references, rows, attacks}`.

    Returns:
        str: What was written, and why there is no picture where there is none.
    """
    stem = osp.join(bench.folder, 'leaderboard')
    content = {
        'version': __version__,
        'name': bench.options.name,
        'task': task_of(bench.base),
        'attack': 'membership' if bench.membership else 'relearning',
        'goals': vars(bench.goals),
        'claims': bench.claims(),
        'search': bench.searches,
        'notes': {name: row['note'] for name, row in bench.options.rows.items() if row.get('note')},
        'stages': {'screening': vars(bench.screening), 'full': vars(bench.full)},
        'crop': bench.options.crop,
        'oracle_cost': bench.oracle_cost,
        'tables': tables,
    }
    atomic_write(json.dumps(content, indent=1) + '\n', f'{stem}.json')
    atomic_write(to_markdown(content), f'{stem}.md')
    atomic_write(to_csv(tables, content['attack']), f'{stem}.csv')
    try:
        from basicsr_unlearn.bench import plot
    except ImportError:
        return f'{stem}.md, .json, .csv; no .png: matplotlib is not installed (pip install "basicsr-unlearn[report]")'
    plot.draw(content, f'{stem}.png')
    return f'{stem}.md, .json, .csv, .png'


def to_markdown(content):
    """Return the leaderboard as Markdown."""
    lines = [f'# {content["name"]}', '']
    for title, table in reversed(content['tables'].items()):
        stage = content['stages']['full' if title == 'final' else 'screening']
        lines += [f'## {title.capitalize()}', '', *markdown_table(_cells(table, content['attack'])), '']
        lines += [f'{stage["images"] or "All"} test crops of {content["crop"]} pixels for each set.', '']
        if table['attacks']:
            lines[-2] += f' {stage["steps"]} steps of relearning, followed on {stage["attack_images"] or "all"}.'
            lines += _attacks(table)
    notes = [f'- {row}: {note}' for row, note in content['notes'].items()]
    lines += [*notes, ''] if notes else []
    lines += [_legend(content), content['claims'], *_search(content['search'])]
    return '\n'.join(lines) + '\n'


def _legend(content):
    """Explain the columns."""
    goals = content['goals']
    if content['attack'] == 'membership':
        return (
            'AUC and TPR at 1 % FPR of the membership attack, members being the forget set, others held-out pairs of '
            'the same kind; scores are PSNR less the difficulty of a pair, `gap` their difference, with bootstrap '
            'intervals of 95 %. PSNR in dB. `retained`: worst retained set against the original; then all sets one by '
            'one. `cost`: share of the training of the oracle. `missed by`: dB by which the goals (gap within '
            f'{goals["gap"]} of the oracle, AUC within {goals["auc"]}, each hundredth beyond it 0.1 dB, loss '
            f'{goals["retained_loss"]}) are missed in all. `unchanged`: the original was kept.'
        )
    return (
        'PSNR in dB. `to oracle`: of the forget sets. `retained`: worst retained task against the original; `ret. to '
        'oracle`: against the oracle. `relearn E`: mean lead over the oracle while both relearn the forgotten, worst '
        'attack. `cost`: share of the training of the oracle. `missed by`: dB by which the goals (gap '
        f'{goals["forget_gap"]}, loss {goals["retained_loss"]}, E {goals["relearn_excess"]}) are missed in all. '
        '`unchanged`: no state on the way met the forget level within the retain budget, and the original was kept.'
    )


def _cells(table, attack):
    sets = list(table['references'][0]['sets']) if attack == 'membership' else []
    rows = [('row', 'seeds', 'retain data', *COLUMNS[attack], *sets, 'ended by')]
    for entry in [*table['references'], *table['rows']]:
        retain = {None: '', True: 'yes', False: 'no'}[entry.get('retain_data')]
        rows.append(
            (
                entry['row'],
                str(entry['seeds']),
                retain,
                *(_cell(name, entry[key]) for name, key in COLUMNS[attack].items()),
                *(f'{entry["sets"][name]["psnr"]:.2f}' for name in sets),
                ', '.join(entry['stopped_by']),
            )
        )
        remarks = []
        if entry.get('budget') and entry['cost_share'] > entry['budget']:
            remarks.append('over budget')
        if entry['unchanged']:
            whole = entry['unchanged'] == entry['seeds']
            remarks.append('unchanged' if whole else f'{entry["unchanged"]} of {entry["seeds"]} unchanged')
        if remarks:
            rows[-1] = (f'{entry["row"]} ({", ".join(remarks)})', *rows[-1][1:])
    return rows


def _cell(name, value):
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(_cell(name, end) for end in value)}]'
    return 'n/a' if value is None else format(value, FORMS.get(name, '+.2f'))


def _attacks(table):
    """Say which attacks tell networks apart, and how each row fares under each."""
    silent = [name for name, attack in table['attacks'].items() if attack['window'] == 0]
    lines = [
        f'- {entry["row"]}: {_fates(entry)}' for entry in [*table['references'], *table['rows']] if entry['excess']
    ]
    lines = ['Relearn E by attack (learning rate, scope):', '', *lines, ''] if lines else []
    if silent:
        lines += [f'Not informative (the original never leads the oracle by 1 dB): {", ".join(silent)}.', '']
    return lines


def _fates(entry):
    return ', '.join(f'{attack} {_cell("relearn E", value)}' for attack, value in entry['excess'].items())


def _search(searches):
    tried = {json.dumps(found): [] for found in searches.values()}
    for row, found in searches.items():
        tried[json.dumps(found)].append(row)
    if list(tried) == ['[{}]']:
        return ['No search: every row ran once, as its preset says.']
    return [f'Tried on val, and the best kept: {", ".join(rows)}: {found}.' for found, rows in tried.items()]


def to_csv(tables, attack):
    """Return all rows of all stages as CSV."""
    out = io.StringIO()
    names = ['stage', 'row', 'seeds', 'retain_data', *COLUMNS[attack].values(), 'worst_retained', 'worst_attack']
    writer = csv.DictWriter(out, names, extrasaction='ignore', lineterminator='\n')
    writer.writeheader()
    for stage, table in tables.items():
        writer.writerows({'stage': stage, **entry} for entry in [*table['references'], *table['rows']])
    return out.getvalue()
