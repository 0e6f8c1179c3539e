"""The words and the parts of a page: what HTML, Markdown and JSON share."""

import statistics

LIGHTS = {'green': 'passed', 'amber': 'borderline', 'red': 'failed', 'grey': 'no answer'}
QUESTIONS = {
    'forgotten': 'Is it forgotten?',
    'removed': 'Is it removed, or only hidden?',
    'kept': 'Are the others kept?',
    'members': 'Are members visible?',
    'price': 'What did it cost?',
}
NETS = {'original': 'original', 'unlearned': 'unlearned', 'oracle': 'oracle', 'oracle_2': 'second oracle'}
UNKNOWN = 'n/a'


def number(value, digits=2, form='f', unit=''):
    """Return the cell of a number: its text and its value; None is `n/a`."""
    return {
        'text': UNKNOWN if value is None else f'{value:{"+" if form == "+" else ""}.{digits}f}{unit}',
        'value': value,
    }


def share(value, digits=2):
    """Return the cell of a share, as a percentage."""
    return {'text': UNKNOWN if value is None else f'{100 * value:.{digits}f} %', 'value': value}


def mean(values):
    """Return the mean of those that are known, or None."""
    known = [value for value in values or [] if value is not None]
    return statistics.fmean(known) if known else None


def difference(by_net, net):
    """Return by how much the value of the unlearned network is above that of another one, or None."""
    values = by_net.get('unlearned'), by_net.get(net)
    return None if None in values else values[0] - values[1]


def light(colour):
    """Return the cell of a traffic light: a word, and its colour."""
    return {'text': LIGHTS[colour], 'light': colour}


def text_of(cell):
    """Return the text of a cell."""
    return cell['text'] if isinstance(cell, dict) else cell


def table(title, head, rows, note=''):
    """Return a table; a row per line, cells are texts or what `number` and `light` give."""
    return {'kind': 'table', 'title': title, 'head': list(head), 'rows': [list(row) for row in rows], 'note': note}


def facts(rows):
    """Return pairs of a name and what there is to say."""
    return {'kind': 'facts', 'rows': [[name, value] for name, value in rows]}


def missing(title, reason):
    """Return what stands in the place of an audit that is missing."""
    return {'kind': 'missing', 'title': title, 'note': '', 'text': reason}


def charts(title, drawn, numbers=None, note=''):
    """Return charts that share a legend, with the table of their numbers or None."""
    series = [entry for each in drawn for entry in each['series'] if not each.get('labels')]
    legend = dict.fromkeys((entry['name'], entry['style']) for entry in series)
    found = {'kind': 'charts', 'title': title, 'note': note, 'legend': list(map(list, legend)), 'charts': drawn}
    return {**found, 'numbers': numbers}


def chart(title, x, y, series, **more):
    """Return a chart.

    Args:
        title (str): Stands above it.
        x, y (str): What the axes show.
        series (list[dict]): As `line` gives them.
        more: `steps` (bool): the axis x is logarithmic and holds 0; `limits` (list): [low, high] of both axes;
            `diagonal` (bool): equal axes and the line where both are equal; `labels` (bool): names beside the points.
    """
    return {'title': title, 'note': '', 'x': x, 'y': y, 'series': series, **more}


def line(name, style, points, drawn=True):
    """Return a series; a point is [x, y] (None: unknown), with a mark [x, y, its title], or [x, y, its title, area]."""
    return {'name': name, 'style': style, 'line': drawn, 'points': [list(point) for point in points]}
