"""Sections of any depth as tables."""

from basicsr_unlearn.report import words
from basicsr_unlearn.report.words import NETS


def given(by_net):
    """Return the known networks among the keys of a section, in our order."""
    return [net for net in NETS if net in (by_net or {})]


def details(title, found):
    """Return nested sections as a table: a row for each value, or for each value of every network."""
    if not found:
        return []
    rows, by_net = {}, set()
    for path, value in _leaves(found):
        net = next((part for part in path if part in NETS), None)
        by_net.add(net)
        name = ', '.join(part.replace('_', ' ') for part in path if part not in (net, 'missing'))
        cell = f'n/a: {value}' if path[-1] == 'missing' else _leaf(value)
        rows.setdefault(name, {})[net] = cell if net else words.text_of(cell)
    nets = [net for net in (*NETS, None) if net in by_net]
    head = ['what', *('value' if net is None else NETS[net] for net in nets)]
    return [words.table(title, head, [[name, *(row.get(net, '') for net in nets)] for name, row in rows.items()])]


def _leaves(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, path + (str(key),))
    else:
        yield path, value


def _leaf(value):
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return {True: 'yes', False: 'no', None: words.UNKNOWN}.get(value, value)
    if isinstance(value, list):
        if any(isinstance(item, (list, dict)) for item in value):
            return f'{len(value)} entries, in audit.json'
        shown = ', '.join(words.text_of(_leaf(item)) for item in value[:8])
        return f'{shown}, … ({len(value)} values)' if len(value) > 8 else shown
    return {'text': f'{value:.4g}' if abs(value) < 1000 else f'{value:.0f}', 'value': value}
