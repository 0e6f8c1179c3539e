"""The picture of a leaderboard: depth of forgetting against retained quality and cost, and the relearning curves."""

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402

SHOWN = 6  # rows whose curves are drawn, the best ones
COLOURS = {'original': 'black', 'oracle': 'tab:green', 'oracle_2': 'limegreen'}


def draw(content, path):
    """Write the picture of the last stage of a leaderboard.

    Args:
        content (dict): What leaderboard.json holds.
        path (str): The file.
    """
    table = list(content['tables'].values())[-1]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 5.5), layout='constrained')
    goals = content['goals']
    if content['attack'] == 'membership':
        _scatter(left, table, 'auc', (-goals['retained_loss'], 0.5), 'AUC of the membership attack; area: cost')
        _roc(right, table)
    else:
        aims = -goals['retained_loss'], goals['relearn_excess']
        _scatter(left, table, 'relearn_excess', aims, 'relearn excess E (dB); area: cost')
        _curves(right, table)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _scatter(axes, table, key, aims, label):
    known = [entry for entry in [*table['references'], *table['rows']] if entry[key] is not None]
    for number, entry in enumerate(known):
        place, share = (entry['retained'], entry[key]), entry['cost_share']
        colour = COLOURS.get(entry['row'], f'C{number % 10}')
        axes.scatter(*place, s=30 if share is None else 30 + 3000 * share, alpha=0.6, color=colour)
        axes.annotate(entry['row'], place, fontsize=7, xytext=(4, 3 if number % 2 else -8), textcoords='offset points')
    axes.axvline(aims[0], color='grey', lw=0.8)
    axes.axhline(aims[1], color='grey', lw=0.8)
    axes.set(xlabel='worst retained task to the original (dB)', ylabel=label)


def _roc(axes, table):
    for entry in [*table['references'], *table['rows'][:SHOWN]]:
        style = {'color': COLOURS[entry['row']], 'lw': 2.5} if entry['row'] in COLOURS else {'lw': 1.2}
        axes.plot(entry['roc']['fpr'], entry['roc']['tpr'], label=entry['row'], **style)
    axes.set(xlabel='false positive rate', ylabel='true positive rate', xscale='log', yscale='log', xlim=(3e-3, 1))
    axes.set_title('membership attack, calibrated by difficulty', fontsize=10)
    axes.legend(fontsize=7)


def _curves(axes, table):
    """Draw the attack that is the worst for the best row; where none says anything, the first."""
    worst = f'{table["rows"][0]["worst_attack"]} seed'
    name = next((name for name in table['attacks'] if name.startswith(worst)), next(iter(table['attacks'])))
    for entry in [*table['references'], *table['rows'][:SHOWN]]:
        curve = table['attacks'][name]['curves'][entry['nets'][0]]
        steps = sorted(curve, key=int)
        style = {'color': COLOURS[entry['row']], 'lw': 2.5} if entry['row'] in COLOURS else {'lw': 1.2}
        axes.plot([int(step) for step in steps], [curve[step] for step in steps], label=entry['row'], **style)
    axes.set(xlabel='steps of relearning', ylabel='forget PSNR (dB)', xscale='symlog')
    axes.set_title(f'attack: learning rate, scope: {name}', fontsize=10)
    axes.legend(fontsize=7)
