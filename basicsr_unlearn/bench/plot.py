"""The picture of a leaderboard: depth of forgetting against retained quality and cost, and the relearning curves."""

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402


def draw(content, path):
    """Write the picture of the last stage of a leaderboard.

    Args:
        content (dict): What leaderboard.json holds.
        path (str): The file.
    """
    table = list(content['tables'].values())[-1]
    curves = _hardest(table)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.2), layout='constrained')
    _scatter(left, table, content['goals'])
    for name, curve in curves['curves'].items() if curves else ():
        bold = name in ('original', 'oracle', 'oracle_2')
        steps = sorted(curve, key=int)
        right.plot([int(step) for step in steps], [curve[step] for step in steps], lw=2.5 if bold else 1, label=name)
    right.set(xlabel='steps of relearning', ylabel='forget PSNR (dB)', xscale='symlog')
    if curves:
        right.set_title(curves['name'], fontsize=10)
        right.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _scatter(axes, table, goals):
    known = [entry for entry in [*table['references'], *table['rows']] if entry['relearn_excess'] is not None]
    for entry in known:
        share = entry['cost_share']
        axes.scatter(
            entry['retained'], entry['relearn_excess'], s=30 if share is None else 30 + 3000 * share, alpha=0.6
        )
        axes.annotate(entry['row'], (entry['retained'], entry['relearn_excess']), fontsize=8)
    axes.axhline(goals['relearn_excess'], color='grey', lw=0.8)
    axes.axvline(-goals['retained_loss'], color='grey', lw=0.8)
    axes.set(xlabel='worst retained task to the original (dB)', ylabel='relearn excess E (dB); area: cost')


def _hardest(table):
    """Return the attack under which the original leads for the longest, `{name, window, curves}`."""
    known = [{'name': name, **attack} for name, attack in table['attacks'].items()]
    return max(known, key=lambda attack: attack['window'] or 0, default=None)
