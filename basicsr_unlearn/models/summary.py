"""What a run leaves behind for people and programs: unlearn_summary.json and unlearn_summary.md.

The JSON: {version, name, finished, method, task, iterations, kept_iteration, seconds, memory, stopped_by, reason, cost,
cost_share, metrics: {name: {type, options}}, skipped: {count, files}, sets: [{name, role, shows_forgotten, images,
psnr: {input, original, unlearned, oracle}, ssim: {the same}, and so every other name of `val: metrics`}], came_back,
history, leftovers: [{path, kind, bytes, why}]}. Unknown values are null. PSNR in dB; `finished` is when (UTC);
`iterations` were done, `kept_iteration` is the one whose weights are left; `memory` is the peak in MiB, that of the GPU
or of the process; `stopped_by` is a key of ENDINGS, `reason` says in words what diverged; `skipped` are the training
files that could not be used; `cost` in image-forward-equivalents (one training patch forward = 1, a training step on
it = 3); `cost_share` is that cost over the oracle's; sets of role forgotten have `left: {request, psnr}` and
`came_back` as well, and `came_back` at the top names those that did (history.py); `history` is the chain of requests,
this one the last; `leftovers` are what still holds the forgotten data (leftovers.py).
"""

import json

from basicsr_unlearn import history, leftovers
from basicsr_unlearn.atomic import atomic_write

COLUMNS = ('input', 'original', 'unlearned', 'oracle')
HEADER = (
    'set',
    'role',
    'images',
    'input',
    'original',
    'unlearned',
    'oracle',
    'to original',
    'to oracle',
    'SSIM orig.',
    'SSIM unl.',
)
ENDINGS = {
    'forget_level': 'the forget probes fell to the level of the option file (forget_psnr_below)',
    'retain_budget': 'a retain probe lost more than retain_budget; back to the last good weights',
    'total_iter': 'total_iter was reached',
    'max_cost_share': "another step would cost more than its share of the oracle's training (max_cost_share)",
    'method': 'the method was done',
    'diverged': 'the run diverged; back to the last good weights',
}


def _number(value, digits):
    return 'n/a' if value is None else f'{value:.{digits}f}'


def markdown_table(rows):
    """Return the lines of a table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        '| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + ' |' for row in rows
    ]
    lines.insert(1, '| ' + ' | '.join('-' * width for width in widths) + ' |')
    return lines


def to_markdown(summary):
    """Return the table that ends the log, and what it does and does not show."""
    rows = [HEADER]
    for entry in summary['sets']:
        psnr, ssim = entry['psnr'], entry['ssim']
        known = psnr['oracle'] is not None
        rows.append(
            (
                entry['name'],
                entry['role'],
                str(entry['images']),
                *(_number(psnr[column], 2) for column in COLUMNS),
                f'{psnr["unlearned"] - psnr["original"]:+.2f}',
                f'{psnr["unlearned"] - psnr["oracle"]:+.2f}' if known else 'n/a',
                _number(ssim['original'], 4),
                _number(ssim['unlearned'], 4),
            )
        )
    lines = markdown_table(rows)
    share = summary['cost_share']
    cost = f'{summary["cost"]:.0f} image-forward-equivalents'
    cost += f", {share:.2%} of the oracle's" if share is not None else " (the oracle's cost is not known)"
    return '\n'.join(
        [
            f'# {summary["method"]}, task {summary["task"]}',
            '',
            *lines,
            '',
            *_further_metrics(summary),
            f'PSNR in dB{_protocol(summary["metrics"])}. {summary["iterations"]} iterations, '
            f'{summary["seconds"]:.0f} s, {cost}.',
            f'Stopped because {ENDINGS[summary["stopped_by"]]}.'
            + (f' {summary["reason"]}.' if summary['reason'] else ''),
            *_left_out(summary),
            *_claims(summary),
            '',
            *_chain(summary),
            *_leftovers(summary),
            '',
        ]
    )


def _protocol(metrics):
    """Say by which functions the table was measured, unless they are BasicSR's."""
    kinds = [metrics[name]['type'] for name in ('psnr', 'ssim')]
    return '' if kinds == ['calculate_psnr', 'calculate_ssim'] else f' ({", ".join(kinds)})'


def _further_metrics(summary):
    lines = []
    for metric in summary['metrics']:
        if metric not in ('psnr', 'ssim'):
            values = [
                f'{entry["name"]} ' + ' '.join(_number(entry[metric][column], 4) for column in COLUMNS)
                for entry in summary['sets']
            ]
            lines += [f'{metric} ({", ".join(COLUMNS)}): {"; ".join(values)}.', '']
    return lines


def _left_out(summary):
    """Say what `on_error: skip` left out; a summary of an earlier version does not know."""
    skipped = summary.get('skipped') or {'count': 0}
    return [f'{skipped["count"]} files could not be used: {", ".join(skipped["files"])}.'] if skipped['count'] else []


def _claims(summary):
    forget = [entry['psnr'] for entry in summary['sets'] if entry['role'] == 'forget']
    lines = []
    if summary['kept_iteration'] == 0:
        lines.append("The weights left behind are the original's: NOTHING WAS FORGOTTEN.")
    if not forget:
        lines.append('No validation set has role: forget, so this table does not show that anything was forgotten.')
    elif any(psnr['oracle'] is None for psnr in forget):
        lines.append(
            'No oracle was given (path: pretrain_network_oracle): the table shows how far the restoration of the '
            'forget sets fell, not that the network equals one that never saw them.'
        )
    else:
        lines.append(
            'The oracle was trained without the forget data. Equal PSNR is needed for forgetting, and does not '
            'prove it: later fine-tuning may bring it back.'
        )
    return lines


def _chain(summary):
    """Return what earlier requests removed, and whether it stays removed; nothing where there were none."""
    requests, lines = summary.get('history') or [], history.remarks(summary)
    if len(requests) > 1:
        rows = history.table(requests)
        rows = [[cell if isinstance(cell, str) else _number(cell, 2) for cell in row] for row in rows]
        lines = [*markdown_table(rows), '', *lines]
    return ['## One request after another', '', *lines, ''] if lines else []


def _leftovers(summary):
    found = summary['leftovers']
    lines = ['## What is left of the forgotten data', '', *markdown_table(leftovers.rows(found))]
    if any(entry['kind'] not in leftovers.OUTSIDE for entry in found):
        return [*lines, '', f'`basicsr purge {summary["name"]}` removes what lies in the folders of the run.']
    return [*lines, '', 'The folders of the run hold nothing of it, as far as is known.']


def write_summary(summary, folder):
    """Write both files into the experiment folder."""
    atomic_write(json.dumps(summary, indent=2) + '\n', f'{folder}/unlearn_summary.json')
    atomic_write(to_markdown(summary), f'{folder}/unlearn_summary.md')
