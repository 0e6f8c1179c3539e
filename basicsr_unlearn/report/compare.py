"""The page of several runs."""

from basicsr_unlearn import __version__
from basicsr_unlearn.report import figures, words
from basicsr_unlearn.report.chain import chain, notices
from basicsr_unlearn.report.words import NETS, QUESTIONS, light, number, share


def build(audits):
    """Return the page of several audits.

    Args:
        audits (list[dict]): The contents of their audit.json.

    Returns:
        dict: As `view.build` gives it.
    """
    names = _names(audits)
    chains = [block for audit, name in zip(audits, names, strict=True) for block in chain(audit, name)]
    sections = {
        'runs': ('The runs', [_table(audits, names)]),
        **({'chain': ('One request after another', chains)} if chains else {}),
        'depth': ('Depth, quality and cost', _depth(audits, names)),
        'relearning': ('Relearning', _relearning(audits, names)),
        'measures': ('All measures', [_measures(audits, names)]),
    }
    return {
        'made_by': 'basicsr compare',
        'version': __version__,
        'title': f'{len(audits)} runs compared' if len(audits) > 1 else f'{names[0]} alone',
        'summary': ', '.join(names),
        'facts': [],
        'notices': _notices(audits, names),
        'cards': [],
        'sections': [
            {'key': key, 'title': title, 'light': None, 'lead': '', 'blocks': blocks}
            for key, (title, blocks) in sections.items()
        ],
    }


def _names(audits):
    """Return the names of the runs; the second of one name has a number."""
    names = [audit['name'] for audit in audits]
    return [
        f'{name} ({names[: index + 1].count(name)})' if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def _notices(audits, names):
    found = []
    for net in ('original', 'oracle'):
        hashes = {(audit['nets'].get(net) or {}).get('sha256') for audit in audits if audit['nets']}
        if len(hashes) > 1:
            found.append(f'Not every run has the same {net}: numbers against it are not comparable one to one.')
    without = [name for audit, name in zip(audits, names, strict=True) if not audit['nets']]
    if without:
        found.append(f'Not audited: {", ".join(without)}.')
    found += [f'{name}: {said}' for audit, name in zip(audits, names, strict=True) for said in notices(audit)]
    return found


def _table(audits, names):
    head = ['run', 'method', *(text.rstrip('?') for text in _questions(audits).values())]
    head += ['forget PSNR', 'to oracle', 'worst retained', 'E', 'AUC', 'cost', 'seconds']
    rows = []
    for audit, name in zip(audits, names, strict=True):
        lights = {question['key']: question['light'] for question in audit['questions']}
        shown = [light(lights.get(key, 'grey')) for key in _questions(audits)]
        rows.append([name, audit['method'] or '', *shown, *_headline(audit)])
    note = 'PSNR and E in dB. AUC of the membership attack calibrated by difficulty; 0.5 is a guess.'
    return words.table('Verdicts', head, rows, note)


def _questions(audits):
    found = dict(QUESTIONS)
    for audit in audits:
        found.update({question['key']: question['question'] for question in audit['questions']})
    return found


def _headline(audit):
    forget = [entry['psnr'] for entry in audit['sets'] if entry['role'] == 'forget']
    kept, excess, cost = figures.trade(audit)['unlearned']
    membership = audit['audits'].get('membership') or {}
    auc = ((membership.get('nets', {}).get('unlearned') or {}).get('calibrated') or {}).get('auc')
    seconds = (audit.get('summary') or {}).get('seconds')
    level = words.mean([psnr.get('unlearned') for psnr in forget])
    gap = words.mean([words.difference(psnr, 'oracle') for psnr in forget])
    return [
        number(level),
        number(gap, 2, '+'),
        number(kept, 2, '+'),
        number(excess),
        number(auc, 3),
        share(cost),
        number(seconds, 0),
    ]


def _depth(audits, names):
    points = {names[i]: (_style(i), figures.trade(audit)['unlearned']) for i, audit in enumerate(audits)}
    first = next((audit for audit in audits if audit['nets']), audits[0])
    for net, point in figures.trade(first).items():
        if net != 'unlearned':
            points[NETS[net]] = (net, point)
    return figures.depth(points)


def _style(index):
    return f'run{index % 8}'


def _relearning(audits, names):
    """Return the curves of all runs under the attack that is worst for one of them and was made on all."""
    found = [
        {figures.name_of(a): a for a in audit['audits'].get('relearning', {}).get('attacks') or []} for audit in audits
    ]
    attacked = [index for index, attacks in enumerate(found) if attacks]
    if not attacked:
        return [words.missing('Relearning', 'No run was attacked in this way. `basicsr audit -opt FILE` does it.')]
    shared = set.intersection(*(set(found[index]) for index in attacked))
    worst = figures.worst_attack([found[index][key] for index in attacked for key in sorted(shared)])
    if not worst:
        return [words.missing('Relearning', 'The runs have no attack in common.')]
    title = figures.name_of(worst)
    first = found[attacked[0]][title]['curves']
    series = [figures.curve(NETS[net], net, first[net]) for net in ('original', 'oracle') if net in first]
    series += [figures.curve(names[i], _style(i), found[i][title]['curves']['unlearned']) for i in attacked]
    looks = sorted({int(step) for entry in series for step, *_ in entry['points']})
    rows = [
        [entry['name'], *(number(dict(p[:2] for p in entry['points']).get(step)) for step in looks)] for entry in series
    ]
    chart = words.chart(title, 'steps of fine-tuning', 'PSNR of the forget sets, dB', series, steps=True)
    numbers = words.table('PSNR in dB by step', ['network', *map(str, looks)], rows)
    note = 'The attack under which one of the runs comes back the most.'
    return [words.charts('The worst attack', [chart], numbers, note)]


def _measures(audits, names):
    known = {}
    for audit in audits:
        for question in audit['questions']:
            for measure in question['measures']:
                known.setdefault((question['key'], measure['name']), (question['question'], measure))
    rows = []
    for (question, name), (text, first) in known.items():
        cells = [text, f'{name}, {first["unit"]}' if first.get('unit') else name]
        for audit in audits:
            entry = next((q for q in audit['questions'] if q['key'] == question), {'measures': []})
            measure = next((m for m in entry['measures'] if m['name'] == name), None)
            cells.append(_judged(measure) if measure else '')
        rows.append(cells)
    note = 'Values of the unlearned network, in the colour and with the word of its light.'
    return words.table('All measures', ['question', 'measure', *names], rows, note)


def _judged(measure):
    cell = {**number(measure['values'].get('unlearned'), measure.get('digits', 2)), 'light': measure['light']}
    return {**cell, 'text': f'{cell["text"]} {words.LIGHTS[measure["light"]]}'}
