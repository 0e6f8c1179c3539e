"""Tables and ROC curves of the membership attacks."""

from basicsr_unlearn.report import words
from basicsr_unlearn.report.details import details, given
from basicsr_unlearn.report.words import NETS, number

RATES = ('AUC', '95 % interval', 'TPR at 1 % FPR', '95 % interval', 'TPR at 0.1 % FPR')


def roc(title, curves, note):
    """Return ROC curves; `curves` is `{name: (style, {fpr, tpr})}`."""
    series = [
        words.line(name, style, zip(found['fpr'], found['tpr'], strict=True)) for name, (style, found) in curves.items()
    ]
    x, y = 'non-members taken for members', 'members found'
    return words.charts(title, [words.chart(title, x, y, series, diagonal=True, limits=[0, 1])], None, note)


def membership(found):
    """Return the table and the ROC curves of the membership attacks."""
    nets = given(found['nets'])
    names = {'loss': 'loss', 'calibrated': 'loss, calibrated by difficulty'}
    rows = [
        [NETS[net], names[attack], *_rates(found['nets'][net][attack])]
        for net in nets
        for attack in names
        if found['nets'][net].get(attack)
    ]
    note = f'{found["members"]} members, {found["non_members"]} non-members. An AUC of 0.5 is a guess.'
    blocks = [words.table('Membership', ['network', 'attack', *RATES], rows, note)]
    curves = {NETS[net]: (net, found['nets'][net]['roc']) for net in nets if found['nets'][net].get('roc')}
    if curves:
        blocks.append(roc('Membership: ROC curves', curves, 'On the diagonal nothing can be seen.'))
    return blocks + details(
        'Membership, more', {k: v for k, v in found.items() if k not in ('nets', 'members', 'non_members')}
    )


def _rates(found):
    intervals = [found.get(key) for key in ('interval', 'tpr_1_interval')]
    texts = [f'{pair[0]:.3f} to {pair[1]:.3f}' if pair else words.UNKNOWN for pair in intervals]
    auc, tpr, rare = (number(found.get(key), 3) for key in ('auc', 'tpr_1', 'tpr_01'))
    return [auc, texts[0], tpr, texts[1], rare]


def shadows(found):
    """Return the table and the ROC curves of LiRA and U-LiRA."""
    names = {'lira': 'LiRA (original)', 'u_lira': 'U-LiRA (unlearned)'}
    attacks = {key: name for key, name in names.items() if found.get(key)}
    rows = [[name, *_rates(found[key])] for key, name in attacks.items()]
    note = f'{found["shadows"]} shadow networks of the toy preset, leave-one-out.'
    blocks = [words.table('Membership by shadow networks', ['attack', *RATES], rows, note)]
    styles = {'lira': 'original', 'u_lira': 'unlearned'}
    curves = {name: (styles[key], found[key]['roc']) for key, name in attacks.items() if found[key].get('roc')}
    if curves:
        blocks.append(roc('Shadow networks: ROC curves', curves, 'On the diagonal nothing can be seen.'))
    return blocks + details('Shadow networks, more', {k: v for k, v in found.items() if k not in (*names, 'shadows')})
