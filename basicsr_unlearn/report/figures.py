"""From the audits of a network to the charts and tables of its page."""

from basicsr_unlearn.report import words
from basicsr_unlearn.report.details import details, given
from basicsr_unlearn.report.words import NETS, number

MOST = 300  # points of one cloud: beyond, an evenly spread part


def worst_attack(attacks):
    """Return the relearning attack under which the unlearned network comes back the most, or None."""

    def comes_back(attack):
        excess = (attack.get('excess') or {}).get('unlearned')
        return (excess is not None, excess if excess is not None else max(_values(attack['curves']['unlearned'])))

    return max((attack for attack in attacks if 'unlearned' in attack['curves']), key=comes_back, default=None)


def _values(curve):
    return [value for value in curve.values() if value is not None] or [0.0]


def name_of(attack):
    """Return the name of a relearning attack."""
    scope = {'all': 'all weights', 'output': 'output block', 'prompt': 'prompts'}.get(attack['scope'], attack['scope'])
    return f'{attack["data"]} data, {scope}, lr {attack["lr"]:g}, seed {attack["seed"]}'


def curve(name, style, found):
    """Return the series of a relearning curve."""
    points = sorted((int(step), value) for step, value in found.items())
    return words.line(name, style, [(step, value, f'{name}, step {step}: {_db(value)}') for step, value in points])


def _db(value):
    return words.UNKNOWN if value is None else f'{value:.2f} dB'


def relearning(found):
    """Return the blocks of the relearning attacks, the worst first."""
    attacks = sorted(found['attacks'], key=lambda attack: -((attack.get('excess') or {}).get('unlearned') or 0))
    drawn, rows = [], []
    looks = sorted({int(step) for attack in attacks for found in attack['curves'].values() for step in found})
    for attack in attacks:
        nets = given(attack['curves'])
        series = [curve(NETS[net], net, attack['curves'][net]) for net in nets]
        chart = words.chart(name_of(attack), 'steps of fine-tuning', 'PSNR of the forget sets, dB', series, steps=True)
        drawn.append({**chart, 'note': _outcome(attack)})
        for net in nets:
            values = [number((attack.get(key) or {}).get(net)) for key in ('excess', 'area')]
            curves = [number(attack['curves'][net].get(str(look))) for look in looks]
            rows.append([name_of(attack), NETS[net], *values, *curves])
    head = ['attack', 'network', 'E', 'area', *map(str, looks)]
    note = (
        'How fast fine-tuning brings the forgotten back. Removed: as slowly as in the oracle. The worst attack first.'
    )
    return [words.charts('Relearning', drawn, words.table('PSNR in dB by step', head, rows), note)]


def _outcome(attack):
    excess = (attack.get('excess') or {}).get('unlearned')
    if excess is None:
        return 'No E: there is no oracle, or the original never leads it by 1 dB.'
    return f'E of the unlearned network: {excess:.2f} dB over {attack["window"]} steps.'


def trade(audit):
    """Return what each network keeps, how fast it relearns and what it cost: `{net: (retained, E, cost share)}`."""
    attacks = audit['audits'].get('relearning', {}).get('attacks') or []
    kept, found = _retained(audit), {}
    for net in NETS:
        excess = [value for attack in attacks if (value := (attack.get('excess') or {}).get(net)) is not None]
        changes = [psnr[net] - psnr['original'] for psnr in kept if None not in (psnr.get(net), psnr.get('original'))]
        cost = audit['record'].get('cost_share') if net == 'unlearned' else None
        if net == 'unlearned' or excess or changes:
            found[net] = (min(changes, default=None), max(excess, default=None), cost)
    return found


def _retained(audit):
    """Return the mean PSNR of each network on each retain set."""
    sets = audit['audits'].get('behaviour', {}).get('sets')
    if not sets:
        return [entry['psnr'] for entry in audit['sets'] if entry['role'] == 'retain']
    return [
        {net: words.mean(values) for net, values in entry['psnr'].items()}
        for entry in sets.values()
        if entry['role'] == 'retain'
    ]


def depth(points):
    """Return the plot of depth, quality and cost; `points` is `{name: (style, (retained, E, cost share))}`."""
    title, series, rows = 'Depth, quality and cost', [], []
    for name, (style, (kept, excess, cost)) in points.items():
        rows.append([name, number(kept, 2, '+'), number(excess), words.share(cost)])
        texts = [cell['text'] for cell in rows[-1][1:]]
        text = '{}: retained {} dB, E {} dB, cost {}'.format(name, *texts)
        series.append(words.line(name, style, [(kept, excess, text, cost)], drawn=False))
    if all(None in entry['points'][0][:2] for entry in series):
        reason = 'E needs an oracle and relearning attacks; the change of the retained needs a set with role: retain.'
        return [words.missing(title, reason)]
    x, y = 'worst retained set against the original, dB', 'relearn excess E, worst attack, dB'
    note = "Deep is low, well kept is right. The area is the cost, as a share of the oracle's training."
    table = words.table(title, ['network', 'retained', 'E', 'cost'], rows)
    return [words.charts(title, [words.chart(title, x, y, series, labels=True)], table, note)]


def behaviour(found):
    """Return the restoration of every image, and how far it is from the oracle's."""
    return [_per_image(found), *_agreement(found)]


def _per_image(found):
    """Return the scatter plots of all sets, and the table of all images."""
    drawn, rows = [], []
    for name, entry in found['sets'].items():
        psnr = entry['psnr']
        against = 'oracle' if 'oracle' in psnr else 'original'
        nets = [net for net in ('original', 'unlearned') if net in psnr and net != against]
        pick = _spread(len(entry['images']))
        series = [
            words.line(NETS[net], net, [(psnr[against][i], psnr[net][i], _point(entry, psnr, i)) for i in pick], False)
            for net in nets
        ]
        x, y = f'PSNR of the {against}, dB', 'PSNR of the network, dB'
        drawn.append(words.chart(f'{name} ({entry["role"]})', x, y, series, diagonal=True))
        columns = [entry['input'], *(psnr.get(net) or [None] * len(entry['images']) for net in NETS)]
        for i in pick:
            rows.append([name, entry['images'][i], *(number(column[i]) for column in columns)])
    head = ['set', 'image', 'input', *NETS.values()]
    note = 'Each mark is an image; on the line both networks restore it alike.'
    return words.charts('Image by image', drawn, words.table('PSNR of each image, dB', head, rows), note)


def _point(entry, psnr, i):
    return f'{entry["images"][i]}: ' + ', '.join(f'{NETS[net]} {_db(psnr[net][i])}' for net in given(psnr))


def _spread(length):
    return range(length) if length <= MOST else [index * length // MOST for index in range(MOST)]


def _agreement(found):
    """Return how far outputs are from the oracle's, by the strength of the degradation; nothing without an oracle."""
    drawn, rows = [], []
    for name, entry in found['sets'].items():
        agree, strength = entry.get('agreement') or {}, entry.get('strength')
        nets = [net for net in given(agree) if net != 'oracle']
        if not (nets and strength):
            continue
        series = [words.line(NETS[net], net, _distances(entry, net), False) for net in nets]
        x, y = 'strength of the degradation (mean |input − clean|)', "mean distance to the oracle's output"
        drawn.append(words.chart(f'{name} ({entry["role"]})', x, y, series))
        rows.append([name, *(number(words.mean(agree.get(net)), 4) for net in NETS)])
    if not drawn:
        return []
    note = 'Mean absolute difference of the outputs, in [0, 1]. Low at every strength: it does what the oracle does.'
    table = words.table('Mean of all images', ['set', *NETS.values()], rows)
    return [words.charts("Agreement with the oracle's output", drawn, table, note)]


def _distances(entry, net):
    values, strength = entry['agreement'][net], entry['strength']
    names = [
        f'{name}: {NETS[net]} {number(value, 4)["text"]}' for name, value in zip(entry['images'], values, strict=True)
    ]
    return [(strength[i], values[i], names[i]) for i in _spread(len(values))]


def robustness(found):
    """Return quality under attack and under noise, and what else was found."""
    drawn, rows, rest = [], [], {}
    kinds = {'pgd': ('eps', 'PGD', 'eps_rms of the attack'), 'smoothing': ('sigma', 'Smoothing noise', 'sigma')}
    for key, value in found.items():
        if key not in kinds or 'missing' in value:
            rest[key] = value
            continue
        across, title, label = kinds[key]
        series = [_fall(net, across, value) for net in given(value['psnr'])]
        drawn.append(words.chart(title, label, 'PSNR, dB', series))
        for i, x in enumerate(value[across]):
            rows.append([title, f'{x:g}', *(number((value['psnr'].get(net) or {i: None})[i]) for net in NETS)])
    table = words.table('PSNR in dB', ['input', 'strength', *NETS.values()], rows)
    note = 'Steeper than the original: unlearning made it brittle.'
    return [words.charts('Robustness', drawn, table, note)] * bool(drawn) + details('Robustness, more', rest)


def _fall(net, across, found):
    pairs = zip(found[across], found['psnr'][net], strict=True)
    return words.line(NETS[net], net, [(x, y, f'{NETS[net]}, {across} {x:g}: {_db(y)}') for x, y in pairs])
