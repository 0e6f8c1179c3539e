"""The files of a leaderboard: JSON, CSV, Markdown and pictures."""

import csv
import io
import json
from os import path as osp

from basicsr_unlearn import __version__
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.models.summary import markdown_table

COLUMNS = {
    'forget': 'forget_psnr',
    'SSIM': 'forget_ssim',
    'to oracle': 'forget_gap',
    'retained': 'retained',
    'ret. to oracle': 'retained_to_oracle',
    'relearn E': 'relearn_excess',
    'cost': 'cost_share',
    'seconds': 'seconds',
    'MiB': 'memory',
    'missed by': 'shortfall',
}
FORMS = {'SSIM': '.3f', 'cost': '.2%', 'seconds': '.0f', 'MiB': '.0f', 'forget': '.2f', 'relearn E': '.2f'}


def write(bench, tables):
    """Write `leaderboard.json`, `.md`, `.csv` and, with matplotlib, `.png` into the folder of the benchmark.

    Args:
        bench (Bench): The options.
        tables (dict): `screening` and, when it is there, `final`: `{references, rows, attacks}`.
    """
    stem = osp.join(bench.folder, 'leaderboard')
    content = {
        'version': __version__,
        'name': bench.options.name,
        'goals': vars(bench.goals),
        'claims': bench.claims(),
        'search': bench.searches,
        'stages': {'screening': vars(bench.screening), 'full': vars(bench.full)},
        'crop': bench.options.crop,
        'oracle_cost': bench.oracle_cost,
        'tables': tables,
    }
    atomic_write(json.dumps(content, indent=1) + '\n', f'{stem}.json')
    atomic_write(to_markdown(content), f'{stem}.md')
    atomic_write(to_csv(tables), f'{stem}.csv')
    try:
        from basicsr_unlearn.bench import plot
    except ImportError:
        print('No picture of the leaderboard: matplotlib is not installed (pip install "basicsr-unlearn[report]").')
        return
    plot.draw(content, f'{stem}.png')


def to_markdown(content):
    """Return the leaderboard as Markdown."""
    lines = [f'# {content["name"]}', '']
    for title, table in reversed(content['tables'].items()):
        stage = content['stages']['full' if title == 'final' else 'screening']
        images = stage['images'] or 'all'
        lines += [f'## {title.capitalize()}', '', *markdown_table(_cells(table)), '']
        lines += [
            f'{images} test crops of {content["crop"]} pixels for each set; {stage["steps"]} steps of relearning, '
            f'followed on {stage["attack_images"] or "all"}.',
            '',
        ]
        lines += _attacks(table)
    goals = content['goals']
    lines += [
        'PSNR in dB. `to oracle`: of the forget sets. `retained`: worst retained task against the original; `ret. to '
        'oracle`: against the oracle. `relearn E`: mean lead over the oracle while both relearn the forgotten, worst '
        'attack. `cost`: share of the training of the oracle. `missed by`: dB by which the goals (gap '
        f'{goals["forget_gap"]}, loss {goals["retained_loss"]}, E {goals["relearn_excess"]}) are missed in all. '
        '`unchanged`: no state on the way met the forget level within the retain budget, and the original was kept.',
        content['claims'],
        *_search(content['search']),
    ]
    return '\n'.join(lines) + '\n'


def _cells(table):
    rows = [('row', 'seeds', 'retain data', *COLUMNS, 'ended by')]
    for entry in [*table['references'], *table['rows']]:
        retain = {None: '', True: 'yes', False: 'no'}[entry.get('retain_data')]
        rows.append(
            (
                entry['row'],
                str(entry['seeds']),
                retain,
                *(_cell(name, entry[key]) for name, key in COLUMNS.items()),
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


def to_csv(tables):
    """Return all rows of all stages as CSV."""
    out = io.StringIO()
    names = ['stage', 'row', 'seeds', 'retain_data', *COLUMNS.values(), 'worst_retained', 'worst_attack']
    writer = csv.DictWriter(out, names, extrasaction='ignore', lineterminator='\n')
    writer.writeheader()
    for stage, table in tables.items():
        writer.writerows({'stage': stage, **entry} for entry in [*table['references'], *table['rows']])
    return out.getvalue()
