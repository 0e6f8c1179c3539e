"""The five questions of an audit: their measures, a light and a sentence each."""

from statistics import fmean

from basicsr_unlearn.audit_run.measure import GREEN, GREY, ORDER, RED, Measure

QUESTIONS = {
    'forgotten': 'Is it forgotten?',
    'removed': 'Is it removed, or only hidden?',
    'kept': 'Is everything else kept?',
    'members': 'Can one see what it was trained on?',
    'price': 'What did it cost?',
}
NEEDED = {'forgotten': 'forget_gap', 'removed': 'relearn', 'kept': 'retained', 'members': 'auc'}  # without: grey
TOYS = ('confusion', 'u_lira')  # measures of the method on a toy: they stand beside, and decide nothing of the network
YES_NO = {'green': 'Yes', 'amber': 'Mostly', 'red': 'No', 'grey': 'Not known'}


def questions(subject, audits, cost_share):
    """Return the questions of audit.json.

    Args:
        subject (Subject): Its task and limits.
        audits (dict): What findings.collect and toys.run gave.
        cost_share (float): Of the oracle's training; None: not known.
    """
    limits = subject.options.limits
    measures = {
        'forgotten': _forgotten(subject.task, audits['behaviour']['sets'], limits),
        'removed': _removed(audits, limits),
        'kept': _kept(audits, limits),
        'members': _members(subject.task, audits, limits),
        'price': [_price(cost_share, limits)],
    }
    found = []
    for key, question in QUESTIONS.items():
        known = [measure for measure in measures[key] if measure.light != GREY and measure.key not in TOYS]
        answered = key not in NEEDED or any(measure.key == NEEDED[key] for measure in known)
        light = max((measure.light for measure in known), key=ORDER.index, default=GREY) if answered else GREY
        failed = [measure.name for measure in measures[key] if measure.key in TOYS and measure.light == RED]
        sentence = SENTENCES[key](light, measures[key], known)
        sentence += f' The method fails on a toy: {"; ".join(failed)}.' if failed else ''
        entries = [measure.entry() for measure in measures[key]]
        found.append({'key': key, 'question': question, 'light': light, 'sentence': sentence, 'measures': entries})
    return found


def _forgotten(task, sets, limits):
    forget = [entry for entry in sets.values() if entry['role'] == 'forget']
    if not forget:
        missing = 'n/a: no validation set has role: forget'
        return [Measure('forget_gap', 'PSNR of the forget sets', {}, limits, missing=missing)]
    means = {key: _means(forget, key) for key in ('psnr', 'agreement', 'colour', 'texture')}
    level, name = None, 'PSNR of the forget sets'
    if 'oracle' not in means['psnr'] and task == 'degradation':
        level, name = fmean(value for entry in forget for value in entry['input']), f"{name}, against the input's"
    return [
        Measure('forget_gap', name, means['psnr'], limits, unit='dB', sided=False, base=level),
        Measure(
            'agreement', "difference of the answers to the oracle's", means['agreement'], limits, digits=4, share=True
        ),
        Measure('colour', 'tint: colour that the input has not', means['colour'], limits, digits=3, must_fail=False),
        Measure(
            'texture', 'texture that the input has not (log2)', means['texture'], limits, digits=2, must_fail=False
        ),
    ]


def _means(sets, key):
    """Return `{net: mean over the pictures of sets}`, without the unknown."""
    values = {net: [v for entry in sets for v in entry[key][net]] for net in sets[0][key]}
    return {net: fmean(numbers) for net, numbers in values.items() if None not in numbers}


def _removed(audits, limits):
    found = []
    for attack in audits['relearning'].get('attacks', []):
        name = f'relearning E, {attack["data"]} data, {attack["scope"]}, rate {attack["lr"]:g}'
        silent = attack['excess'] and not attack['window']
        missing = 'not informative: the original never leads the oracle by 1 dB' if silent else None
        values = attack['excess'] or {'unlearned': None}
        known = {net: value for net, value in values.items() if value is not None}
        if not attack['excess']:
            known = {net: curve[max(curve)] for net, curve in attack['curves'].items()}
            name = f'{name}: PSNR at its end'
        found.append(Measure('relearn', name, known, limits, unit='dB', share=True, missing=missing))
    hidden = audits['hidden']
    if 'missing' in hidden:
        return found
    best = {net: max(values.values()) for net, values in hidden['swap'].items()}
    found.append(Measure('swap', 'halves exchanged with the original: best PSNR', best, limits, unit='dB', share=True))
    for key, name in (('type', 'linear probe: degraded or clean'), ('strength', 'linear probe: how strongly (R2)')):
        probe, missing = hidden['probe'], hidden['probe'].get('missing')
        values = {} if missing else {net: numbers[key] for net, numbers in probe.items()}
        found.append(Measure(f'probe_{key}', name, values, limits, share=True, missing=missing and f'n/a: {missing}'))
    alike = {net: fmean(values['to_original'].values()) for net, values in hidden['similarity'].items()}
    reading = 'for reading: what was fine-tuned stays near the original also where nothing is hidden'
    found.append(Measure('similarity', 'features like the original (CKA)', alike, limits, missing=reading))
    undone = [kind['undone'] for kind in audits['confusion'].get('degradations', {}).values()]
    if undone:
        known = [share for share in undone if share is not None]
        left = {'original': 1.0, 'unlearned': 1 - min(known) if known else None, 'oracle': 0.0}
        silent = None if known else 'not informative: the wrong pairs did no damage to the toy'
        name = 'wrong pairs planted in a toy: share of the damage that stays'
        found.append(Measure('confusion', name, left, limits, missing=silent))
    return found


def _kept(audits, limits):
    retain = {name: entry for name, entry in audits['behaviour']['sets'].items() if entry['role'] == 'retain'}
    found = []
    for name, entry in retain.items():
        means = _means([entry], 'psnr')
        level = min(means[net] for net in ('original', 'oracle') if net in means)
        loss = {net: level - value for net, value in means.items()}
        title = f'{name}: loss of PSNR against the original or, if lower, the oracle'
        found.append(Measure('retained', title, loss, limits, unit='dB', base=0.0, must_fail=False))
    hard = audits['robustness']
    if 'missing' in hard:
        return found
    for key, sizes, name in (('pgd', 'eps', 'an attack'), ('smoothing', 'sigma', 'noise')):
        most = hard[key][sizes][-1]
        radius = {net: most if value is None else value for net, value in hard['radius'][key].items()}
        level = min(radius[net] for net in ('original', 'oracle') if net in radius)
        weaker = {net: 1 - value / level for net, value in radius.items()}
        title = f'brittleness: how much less of {name} it takes to lose 1 dB (share)'
        found.append(Measure('radius', title, weaker, limits, base=0.0, must_fail=False))
    return found


def _members(task, audits, limits):
    known, found = audits['membership'], []
    if 'missing' in known:
        return [Measure('auc', 'membership: AUC', {}, limits, missing=f'n/a: {known["missing"]}')]
    nets = known['nets']
    for kind, name in (
        ('calibrated', 'membership, calibrated: AUC'),
        ('loss', 'membership by loss alone: AUC'),
    ):
        aucs = {net: values[kind]['auc'] for net, values in nets.items()}
        weak = aucs['original'] < 0.75
        low, high = nets['original'][kind]['interval']
        missing = f'nothing can be shown: the AUC of the original is {aucs["original"]:.2f} [{low:.2f}, {high:.2f}]'
        base = None if 'oracle' in aucs else 0.5
        found.append(
            Measure('auc', name, aucs, limits, digits=3, sided=False, base=base, missing=missing if weak else None)
        )
    worse = {net: -values['gap'] for net, values in nets.items()}
    if task != 'degradation':
        name = 'over-forgetting: error of forget pairs above that of held-out ones'
        base = None if 'oracle' in worse else 0.0
        found.append(Measure('over_forgetting', name, worse, limits, unit='dB', base=base, must_fail=False))
    shadows = audits['shadows']
    if 'lira' in shadows:  # who forgets a degradation restores no hazy picture: there both sides are unlearned networks
        after = shadows['u_lira_unlearned' if task == 'degradation' else 'u_lira']
        aucs = {'original': shadows['lira']['auc'], 'unlearned': after.get('auc'), 'oracle': 0.5}
        found.append(Measure('u_lira', 'the method on a toy, shadow networks: AUC', aucs, limits, sided=False))
    return found


def _price(share, limits):
    missing = None if share is not None else "n/a: the cost of the run or of the oracle's training is not known"
    values = {'unlearned': share and 100 * share, 'oracle': 100.0}
    facts = {'unit': '%', 'base': 0.0, 'must_fail': False, 'missing': missing}
    return Measure('price', "share of the oracle's training", values, limits, **facts)


def _say_forgotten(light, measures, known):
    gap = measures[0]
    if light == GREY:
        return f'Not known: {gap.remark}.'
    level = f'the forget sets are at {gap.values["unlearned"]:.1f} dB'
    other = f'the oracle at {gap.base:.1f}' if gap.compares_with_oracle else f'their input at {gap.base:.1f}'
    text = f'{YES_NO[light]}: {level}, {other}'
    if 'original' in gap.values:
        text += f', the original at {gap.values["original"]:.1f}'
    odd = [m.name for m in known if m is not gap and m.light not in (GREEN, GREY)]
    return f'{text}.' + (f' But see: {"; ".join(odd)}.' if odd and gap.light == GREEN else '')


def _say_removed(light, measures, known):
    attacks = [measure for measure in known if measure.key == 'relearn']
    if not attacks:
        return f'Not known: {measures[0].remark if measures else "nothing could be attacked"}.'
    worst = max(attacks, key=lambda m: m.values['unlearned'] / max(m.values['original'], 1e-9))
    back = worst.values['unlearned'] / max(worst.values['original'], 1e-9)
    words = {'green': 'Removed', 'amber': 'Partly hidden', 'red': 'Hidden'}[light]
    text = f"the hardest attack brings back {back:.0%} of the original's lead over the oracle"
    others = '; '.join(m.name for m in known if m.key != 'relearn' and m.light == light)
    if light == max((m.light for m in attacks), key=ORDER.index):
        return f'{words}: {text}.' + (f' Also found by: {others}.' if others and light == RED else '')
    return f'{words}, as {others} shows; by fine-tuning, {text}.'


def _say_kept(light, measures, known):
    losses = [measure for measure in known if measure.key == 'retained']
    if not losses:
        return 'Not known: no validation set has role: retain.'
    worst = max(losses, key=lambda m: m.values['unlearned'])
    loss, name = worst.values['unlearned'], worst.name.split(':')[0]
    lost = f'{name} has lost {loss:.2f} dB'
    text = lost if loss > 0 else f'nothing retained has lost PSNR ({name} {0.0 - loss:+.2f} dB)'
    brittle = [m for m in known if m.key == 'radius' and m.light != GREEN]
    return f'{YES_NO[light]}: {text}{", but the network has become brittle" if brittle else ""}.'


def _say_members(light, measures, known):
    attack = next((measure for measure in known if measure.key == 'auc'), None)
    if attack is None:
        return f'Not known: {measures[0].remark.removeprefix("n/a: ").rstrip(".")}.'
    words = {'green': 'No more than in the oracle', 'amber': 'A little', 'red': 'Yes'}[light]
    worst = max(known, key=lambda measure: ORDER.index(measure.light))
    if worst.key == 'over_forgetting' and attack.light != light:
        behind = worst.values['unlearned']
        return f'{words}, by over-forgetting: forget pairs are {behind:.2f} dB worse than held-out ones.'
    return (
        f'{words}: an attack tells members with AUC {attack.values["unlearned"]:.2f}; in the original '
        f'{attack.values["original"]:.2f}, in the oracle {attack.values.get("oracle", 0.5):.2f}.'
    )


def _say_price(light, measures, known):
    if light == GREY:
        return f'Not known: {measures[0].remark.removeprefix("n/a: ")}.'
    return f'{measures[0].values["unlearned"]:.2f} % of what training the oracle cost.'


SENTENCES = {
    'forgotten': _say_forgotten,
    'removed': _say_removed,
    'kept': _say_kept,
    'members': _say_members,
    'price': _say_price,
}
