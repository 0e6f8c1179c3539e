"""`basicsr report` and `basicsr compare`: what audit.json holds stands on the page, and nothing else gets there."""

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from audit_fixture import make_audit, write_audit
from PIL import Image

from basicsr_unlearn.cli import main
from basicsr_unlearn.report import charts, words


class Page(HTMLParser):
    """Tables, headings, sections and links of a page, as a browser would read them."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.links, self.sections, self.texts, self.images = [], [], {}, [], []
        self.section, self.cell, self.silent = '', None, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [value for key, value in attributes.items() if key in ('src', 'href', 'action', 'data', 'srcset')]
        self.silent += tag in ('script', 'style')
        if tag == 'section':
            self.section = attributes['id']
        elif tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('td', 'th'):
            self.cell = ''
        elif tag == 'img' and 'data-net' in attributes:
            self.images.append((attributes['alt'], attributes['data-net']))

    def handle_endtag(self, tag):
        self.silent -= tag in ('script', 'style')
        if tag in ('td', 'th'):
            self.tables[-1][-1].append(' '.join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.silent:
            return
        if self.cell is not None:
            self.cell += data
        self.texts.append(data)
        self.sections[self.section] = self.sections.get(self.section, '') + data

    @property
    def text(self):
        return ' '.join(' '.join(self.texts).split())


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_page(home, audit, **more):
    """Write an audit and its page; return the page, the view of report.json and the Markdown."""
    folder = write_audit(home, audit, **more)
    assert main(['report', audit['name']]) == 0
    return read_page(folder / 'report')


def read_page(stem):
    found = json.loads(stem.with_suffix('.json').read_text())
    return Page(stem.with_suffix('.html').read_text()), found, stem.with_suffix('.md').read_text()


def tables_of(view):
    """Return the tables of a view as texts, in the order of the page."""
    found = []
    for section in view['sections']:
        for block in section['blocks']:
            table = block.get('numbers') if block['kind'] == 'charts' else block if block['kind'] == 'table' else None
            if table:
                found.append([[words.text_of(cell) for cell in row] for row in [table['head'], *table['rows']]])
    return found


def refused(arguments, capsys):
    """Return the one line with which the command refuses."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


# --- one audit ---


def test_verdicts_and_their_thresholds(home, capsys):
    page, view, _ = write_page(home, make_audit())
    assert [line.split('/')[-1] for line in capsys.readouterr().out.split()[1::2]] == [
        'report.html', 'report.md', 'report.json',
    ]  # fmt: skip
    assert '5 questions: 3 passed, 1 borderline, 1 failed.' in page.text
    assert [card['light'] for card in view['cards']] == ['green', 'amber', 'green', 'red', 'green']
    for card, sentence, rule in (
        (0, 'Yes: haze is left at 15.0 dB, the oracle at 14.9.', 'green up to 0.5 dB, amber up to 1.0, red above'),
        (1, 'For the most part: the hardest attack brings back 0.9 dB', 'green up to 0.05 above the oracle'),
        (3, 'an attacker tells members from others with an AUC of 0.64', 'green up to 0.55, amber up to 0.60'),
    ):
        assert sentence in page.sections[''] and sentence in view['cards'][card]['sentence']
        assert rule in page.sections[''] and any(rule in limit['rule'] for limit in view['cards'][card]['limits'])


def test_values(home):
    page, _, _ = write_page(home, make_audit())
    rows = [row for table in page.tables for row in table]
    rule = 'green up to 0.5 dB, amber up to 1.0, red above'
    assert [
        'PSNR of the forget sets, distance to the oracle, dB',
        '6.70',
        '0.10',
        '0.00',
        '0.02',
        rule,
        'passed',
        '',
    ] in rows
    remark = 'not informative: the original and the oracle are alike'
    probe = ['Linear probe for the type of degradation', '0.990', '0.970', '0.970', '0.960']
    assert [*probe, 'green up to 0.05 above the oracle', 'no answer', remark] in rows
    psnr = ['15.18', '21.60', '15.00', '14.90', '-6.60', '+0.10']
    assert ['haze', 'forget', '40', *psnr, '0.655', '0.455', '0.452'] in rows
    assert [
        'unlearned',
        'loss, calibrated by difficulty',
        '0.640',
        '0.610 to 0.660',
        '0.075',
        '0.000 to 0.300',
        'n/a',
    ] in rows
    assert ['swap, original encoder, own decoder', '15.62', '15.62', '15.62', '15.62', ''] in rows
    assert ['swap, haze left', '', '', '', '', 'n/a: No haze.'] in rows
    assert ['PGD', '4', '21.50', '20.54', '21.82', '22.14'] in rows
    assert ['inversion, psnr', '17.25'] in rows


def test_depth_is_that_of_the_worst_attack_and_set(home):
    audit = make_audit()
    worst = max(attack['excess']['unlearned'] for attack in audit['audits']['relearning']['attacks'])
    kept = [entry['psnr'] for entry in audit['audits']['behaviour']['sets'].values() if entry['role'] == 'retain']
    lost = min(np.mean(psnr['unlearned']) - np.mean(psnr['original']) for psnr in kept)
    page, view, _ = write_page(home, audit)
    table = next(table for table in page.tables if table[0] == ['network', 'retained', 'E', 'cost'])
    assert table[2] == ['unlearned', f'{lost:+.2f}', f'{worst:.2f}', '4.92 %']
    price = next(section for section in view['sections'] if section['key'] == 'price')
    points = {entry['name']: entry['points'][0] for entry in price['blocks'][1]['charts'][0]['series']}
    assert points['unlearned'][:2] == pytest.approx([lost, worst]) and points['unlearned'][3] == 0.0492
    assert points['oracle'][1] == 0 and points['original'][0] == 0


def test_the_worst_attack_comes_first(home):
    _, view, _ = write_page(home, make_audit())
    removed = next(section for section in view['sections'] if section['key'] == 'removed')
    found = removed['blocks'][1]['charts']
    assert found[0]['title'] == 'public data, lora, lr 0.001, seed 0' and len(found) == 4
    assert 'E of the unlearned network: 1.81 dB over 87 steps.' == found[0]['note']


def test_record(home):
    page, _, _ = write_page(home, make_audit())
    record = page.sections['record']
    for value in ('200 pairs, 400 files', 'f' * 64, f'{199:064x}', '0' * 64, '1' * 64, 'torch 2.9.0', '<forget set>',
                  '270; the weights of iteration 270 were kept', "4.92% of the oracle's", 'weights/original.pth',
                  'basicsr purge unlearn_haze', 'total_iter was reached'):  # fmt: skip
        assert value in record, value


@pytest.mark.parametrize('nets', [('original', 'unlearned', 'oracle', 'oracle_2'), ('original', 'unlearned')])
def test_html_markdown_and_json_agree(home, nets):
    page, view, markdown = write_page(home, make_audit(nets=nets))
    tables = tables_of(view)
    assert len(tables) >= 12 and page.tables == tables
    shown = [
        [cell.strip() for cell in html.unescape(re.sub(r'\\(.)', r'\1', line)).strip('| ').split(' | ')]
        for line in markdown.splitlines()
        if line.startswith('| ')
    ]
    for table in tables:
        for row in table:
            assert [cell for cell in row if cell] in [[cell for cell in line if cell.strip(' |')] for line in shown], (
                row
            )
    for card in view['cards']:
        assert card['sentence'] in markdown and card['sentence'] in page.text
    for section in view['sections']:
        assert f'## {section["title"]}' in markdown and section['title'] in page.sections[section['key']]


def test_the_same_audit_gives_the_same_page(home):
    folder = write_audit(home, make_audit())
    pages = []
    for _ in range(2):  # the second replaces the first
        assert main(['report', 'audits/unlearn_haze/audit.json']) == 0
        pages.append([(folder / f'report.{suffix}').read_bytes() for suffix in ('html', 'md', 'json')])
    assert pages[0] == pages[1]


WHERE = {
    'behaviour': 'forgotten', 'relearning': 'removed', 'hidden': 'removed', 'confusion': 'removed',
    'robustness': 'kept', 'membership': 'members', 'shadows': 'members', 'reconstruction': 'members',
}  # fmt: skip


def test_a_missing_audit_says_why_in_its_place(home):
    audit = make_audit()
    audit['audits'] = {key: {'missing': f'Because of {key}.'} for key in WHERE}
    page, view, markdown = write_page(home, audit, pictures=())
    for key, question in WHERE.items():
        assert f'Because of {key}.' in page.sections[question] and f'n/a: Because of {key}.' in markdown
    assert 'E needs an oracle and relearning attacks' in page.sections['price']
    assert not any(block['kind'] == 'charts' for section in view['sections'] for block in section['blocks'])


def test_an_audit_that_was_not_made_is_named(home):
    audit = make_audit()
    del audit['audits']['shadows']
    assert 'It is not part of this audit.' in write_page(home, audit)[0].sections['members']


def test_without_an_oracle(home):
    page, view, _ = write_page(home, make_audit(nets=('original', 'unlearned')))
    assert 'No oracle was given.' in page.sections['']
    measures = [table for table in page.tables if table[0][0] == 'measure']
    assert measures[0][0] == ['measure', 'original', 'unlearned', 'rule', 'light', 'remark']
    assert measures[0][1][-2:] == ['no answer', 'n/a: no oracle was given (path: pretrain_network_oracle)']
    assert 'No E: there is no oracle' in page.sections['removed']
    forgotten = next(section for section in view['sections'] if section['key'] == 'forgotten')
    drawn = forgotten['blocks'][1]['charts'][0]
    assert drawn['x'] == 'PSNR of the original, dB' and [entry['name'] for entry in drawn['series']] == ['unlearned']


def test_unknown_numbers(home):
    audit = make_audit()
    audit['questions'][0]['measures'][0]['values'] = {'original': None}
    for entry in audit['audits']['behaviour']['sets'].values():
        for values in (entry['psnr']['unlearned'], entry['agreement']['unlearned'], entry['input'], entry['strength']):
            values[0] = None
    attack = audit['audits']['relearning']['attacks'][0]
    attack['curves']['unlearned']['5'] = float('nan')
    attack['excess'], attack['window'] = dict.fromkeys(attack['excess']), 0
    audit['audits']['robustness']['pgd']['psnr']['unlearned'] = [None] * 5
    page, view, _ = write_page(home, audit)
    assert page.tables[1][1][1:5] == ['n/a'] * 4
    assert 'NaN' not in json.dumps(view)


# --- what must not be on it ---


def test_names_are_text(home):
    evil = '<script>alert(1)</script><b>"\'|`x`[y](z)'
    audit = make_audit()
    sets = audit['audits']['behaviour']['sets']
    sets[evil] = sets.pop('haze')
    sets[evil]['images'][0] = evil
    audit['sets'][0]['name'] = audit['method'] = evil
    audit['questions'][0]['measures'][0].update(name=evil, rule=evil, remark=evil)
    audit['questions'][0]['sentence'] = audit['record']['options']['text'] = evil
    audit['audits']['confusion'] = {'missing': evil}
    page, view, markdown = write_page(home, audit, pictures=('rain',))
    text = (home / 'audits/unlearn_haze/report.html').read_text()
    assert text.count('<script') == 1 and '<b>"' not in text and text.count('alert(1)') > 10
    assert page.tables[0][1][0] == evil and page.tables[1][1][0] == f'{evil}, dB'
    outside = re.sub(r'^```.*?^```', '', markdown, flags=re.S | re.M)
    assert '<script' not in outside and '<b>' not in outside and '[y]' not in outside
    assert max(outside.count('|', *match.span()) for match in re.finditer('.*alert.*', outside)) > 2
    row = next(line for line in outside.splitlines() if line.startswith('| &lt;script'))
    assert len(re.findall(r'(?<!\\)\|', row)) == len(view['sections'][0]['blocks'][0]['head']) + 1


def test_a_private_run_shows_no_names_and_no_forget_pictures(home):
    audit = make_audit(private=True)
    page, view, markdown = write_page(home, audit, pictures=('rain',))
    everything = (home / 'audits/unlearn_haze/report.html').read_text() + markdown + json.dumps(view)
    assert '.png' not in everything and 'haze_0' not in everything
    assert audit['audits']['behaviour']['sets']['haze']['images'][3] in everything
    assert {name.split(' (')[0] for name, _ in page.images} == {'rain'} and 'No picture of a forget set' in page.text
    assert 'private' in view['facts']


def test_pictures(home):
    page, view, markdown = write_page(home, make_audit())
    names = ['haze (forget): haze_0000.png', 'rain (retain): rain_0000.png']
    kinds = {
        'input': 'degraded',
        'original': 'original',
        'unlearned': 'unlearned',
        'oracle': 'oracle',
        'clean': 'clean',
    }
    assert page.images == [(f'{name}, {label}', net) for name in names for net, label in kinds.items()]
    assert '![unlearned](<pictures/haze_0_unlearned.jpg>)' in markdown and 'No picture of a forget set' not in page.text
    for block in view['sections'][0]['blocks'][1]['shown']:
        for picture in block['pictures']:
            assert (home / 'audits/unlearn_haze' / picture['file']).is_file()


def test_it_needs_nothing_but_itself(home):
    audit = make_audit()
    audit['record']['options']['text'] = 'see: https://example.org/data'
    page, _, _ = write_page(home, audit)
    assert {link.split(',')[0] for link in page.links if not link.startswith('#')} == {
        'data:image/jpeg;base64',
        'data:',
    }
    text = (home / 'audits/unlearn_haze/report.html').read_text()
    assert re.findall(r'https?:', text) == ['https:'] and 'url(' not in text and '@import' not in text
    assert "default-src 'none'" in text


def test_it_stays_below_5_mb(home):
    audit = make_audit(images=600)
    folder = write_audit(home, audit)
    noise = np.random.default_rng(0).integers(0, 256, (420, 420, 3), np.uint8)
    Image.fromarray(noise).save(folder / 'pictures' / 'noise.png')  # half a megabyte
    audit['pictures'] += [
        {'set': 'rain', 'role': 'retain', 'name': str(index), 'files': {'input': 'pictures/noise.png'}}
        for index in range(9)
    ]
    (folder / 'audit.json').write_text(json.dumps(audit))
    assert main(['report', 'unlearn_haze']) == 0
    page, _, _ = read_page(folder / 'report')
    assert (folder / 'report.html').stat().st_size < 5_000_000
    left = page.text.count('Not shown: its files are gone')
    assert len(page.images) == 10 + 9 - left and 3 <= left <= 5
    assert page.text.count('haze_0598.png') > 0 and 'haze_0599.png' not in page.text


def test_pictures_that_are_gone_are_left_out(home):
    folder = write_audit(home, make_audit())
    (folder / 'pictures/haze_0_unlearned.jpg').unlink()
    assert main(['report', 'unlearn_haze']) == 0
    page, _, _ = read_page(folder / 'report')
    assert len(page.images) == 5 and page.text.count('Not shown: its files are gone') == 1


@pytest.mark.parametrize('path', ['../../secret.png', '/etc/passwd', 'audit.json'])
def test_nothing_outside_of_the_audit_gets_into_the_page(home, capsys, path):
    audit = make_audit()
    folder = write_audit(home, audit)
    (home / 'secret.png').write_bytes(b'secret')
    audit['pictures'][0]['files']['input'] = path
    (folder / 'audit.json').write_text(json.dumps(audit))
    assert 'is no picture of this audit' in refused(['report', 'unlearn_haze'], capsys)
    assert not (folder / 'report.html').exists()


# --- a run without an audit ---


def write_run(home, name='alone', **changes):
    """Write what `basicsr train` leaves of a run."""
    audit = make_audit()
    folder = home / 'experiments' / name
    folder.mkdir(parents=True)
    summary = {
        'version': '0.1.0', 'name': name, 'method': 'IdentityTarget', 'task': 'degradation', 'iterations': 105,
        'kept_iteration': 105, 'seconds': 31.4, 'stopped_by': 'total_iter', 'cost': 1234.0, 'cost_share': 0.013,
        'sets': [{**entry, 'shows_forgotten': entry['role'] == 'forget'} for entry in audit['sets']],
        'leftovers': audit['record']['leftovers'], **changes,
    }  # fmt: skip
    (folder / 'unlearn_summary.json').write_text(json.dumps(summary))
    return folder


@pytest.mark.parametrize(
    'given', ['alone', 'experiments/alone', 'experiments/alone/', 'experiments/alone/unlearn_summary.json']
)
def test_a_run_without_an_audit(home, given):
    folder = write_run(home)
    assert main(['report', given]) == 0
    page, view, _ = read_page(folder / 'report')
    assert [card['light'] for card in view['cards']] == ['grey'] * 5
    assert all('basicsr audit -opt FILE' in card['sentence'] for card in view['cards'])
    assert view['cards'][0]['sentence'].startswith('haze 21.60 dB before, 15.00 after. Not judged')
    assert view['cards'][4]['sentence'].startswith("1.30% of the oracle's training; 31 seconds. Not judged")
    for question in ('forgotten', 'removed', 'kept', 'members'):
        assert 'basicsr audit -opt FILE answers it' in page.sections[question]
    rows = [row for table in page.tables for row in table]
    assert ['PSNR of haze, dB', '21.60', '15.00', '14.90', '', 'no answer', 'not judged without an audit'] in rows
    assert [
        "Cost, share of the oracle's training, %",
        'n/a',
        '1.30',
        '',
        'no answer',
        'not judged without an audit',
    ] in rows
    assert 'basicsr purge alone' in page.sections['record']


def test_a_run_that_kept_the_original_says_so(home):
    folder = write_run(home, kept_iteration=0)
    assert main(['report', 'alone']) == 0
    assert 'nothing was forgotten' in read_page(folder / 'report')[0].sections['']


@pytest.mark.parametrize('given', ['unlearn_haze', 'experiments/unlearn_haze', 'audits/unlearn_haze'])
def test_a_run_with_an_audit_has_the_page_of_the_audit(home, given):
    write_run(home, 'unlearn_haze')
    folder = write_audit(home, make_audit())
    assert main(['report', given]) == 0
    assert (folder / 'report.html').exists() and not (home / 'experiments/unlearn_haze/report.html').exists()


# --- bad input ---


def test_no_such_run(home, capsys):
    assert 'There are none here' in refused(['report', 'unlearn_haze'], capsys)
    write_audit(home, make_audit())
    write_run(home)
    assert 'unlearn_hase: no such run or audit' in (line := refused(['report', 'unlearn_hase'], capsys))
    assert line.endswith('Did you mean unlearn_haze?')
    assert refused(['compare', 'alone', 'zzz'], capsys).endswith('Known: alone, unlearn_haze.')
    (home / 'experiments/going_on').mkdir()
    assert 'not an unlearning run that finished' in refused(['report', 'going_on'], capsys)


BROKEN = {
    'no JSON': lambda text: text[: len(text) // 2],
    'not a section of keys': lambda text: '[]',
    'record is missing or of the wrong type': lambda text: text.replace('"record"', '"rekord"'),
    "'blue' is no light": lambda text: text.replace('"amber"', '"blue"', 1),
    'without lights or measures': lambda text: text.replace('"measures"', '"measurements"'),
    "KeyError 'curves'": lambda text: text.replace('"curves"', '"kurves"'),
    'ValueError': lambda text: text.replace('"unlearned": 0.1', '"unlearned": "zero"'),
    'IndexError': lambda text: re.sub(r'"input": \[[^]]+\]', '"input": []', text),
}


@pytest.mark.parametrize('reason', BROKEN)
@pytest.mark.parametrize('command', ['report', 'compare'])
def test_a_damaged_audit(home, capsys, reason, command):
    folder = write_audit(home, make_audit())
    whole = (folder / 'audit.json').read_text()
    (folder / 'audit.json').write_text(BROKEN[reason](whole))
    before = sorted(home.rglob('*'))
    line = refused([command, 'unlearn_haze'], capsys)
    assert reason in line and 'audits/unlearn_haze/audit.json: is damaged, or of another version' in line
    assert '`basicsr audit`' in line and sorted(home.rglob('*')) == before


def test_a_damaged_summary(home, capsys):
    write_run(home, sets=[{'name': 'haze'}])
    assert 'unlearn_summary.json: is damaged, or of another version' in refused(['report', 'alone'], capsys)


@pytest.mark.parametrize('suffix', ['html', 'md', 'json'])
def test_a_file_of_somebody_else_stays(home, capsys, suffix):
    folder = write_audit(home, make_audit())
    (folder / f'report.{suffix}').write_text('mine')
    assert f'report.{suffix}: is there already' in refused(['report', 'unlearn_haze'], capsys)
    assert [path.read_text() for path in folder.glob('report.*')] == ['mine']
    (home / f'mine.{suffix}').write_text('mine')
    refused(['compare', 'unlearn_haze', '-o', 'mine'], capsys)
    assert [path.read_text() for path in home.glob('mine.*')] == ['mine']


# --- several runs ---


@pytest.fixture
def runs(home):
    """Two audits of different results, and a run without an audit."""
    write_audit(home, make_audit())
    worse = make_audit('neg_grad')
    worse['method'], worse['record']['cost_share'] = 'NegGrad', 0.0149
    for question in worse['questions']:
        question['light'] = 'red'
    worse['questions'][1]['measures'][0]['values']['unlearned'] = 3.07
    for attack in worse['audits']['relearning']['attacks']:
        attack['excess']['unlearned'] += 2
    worse['audits']['relearning']['attacks'][0]['excess']['unlearned'] = 9.5
    write_audit(home, worse)
    write_run(home)
    return home


def test_compare(runs, capsys):
    assert main(['compare', 'unlearn_haze', 'neg_grad', 'alone']) == 0
    assert capsys.readouterr().out.split()[1::2] == [f'audits/compare.{suffix}' for suffix in ('html', 'md', 'json')]
    page, view, markdown = read_page(runs / 'audits' / 'compare')
    assert page.tables == tables_of(view)
    table = page.tables[0]
    assert table[1][:9] == [
        'unlearn_haze',
        'DeepForget',
        'passed',
        'borderline',
        'passed',
        'failed',
        'passed',
        '15.00',
        '+0.10',
    ]
    assert table[1][10:] == ['1.81', '0.640', '4.92 %', '107']
    assert table[2][:7] == ['neg_grad', 'NegGrad', *['failed'] * 5] and table[2][10:13] == ['9.50', '0.640', '1.49 %']
    assert table[3][2:7] == ['no answer'] * 5 and table[3][10:] == ['n/a', 'n/a', '1.30 %', '31']
    measures = page.tables[-1]
    assert measures[0] == ['question', 'measure', 'unlearn_haze', 'neg_grad', 'alone']
    assert [
        'Is it removed, or only hidden?',
        'Relearn excess E, worst attack, dB',
        '0.92 borderline',
        '3.07 borderline',
        '',
    ] in measures
    assert 'Not audited: alone.' in page.text and '| neg_grad ' in markdown and 'Not every run' not in page.text


def test_compare_draws_all_runs_and_the_worst_attack(runs):
    assert main(['compare', 'unlearn_haze', 'neg_grad', '-o', 'pages/two.html']) == 0
    _, view, _ = read_page(runs / 'pages' / 'two')
    blocks = {section['key']: section['blocks'][0] for section in view['sections']}
    series = {entry['name']: entry for entry in blocks['depth']['charts'][0]['series']}
    assert list(series) == ['unlearn_haze', 'neg_grad', 'original', 'oracle', 'second oracle']
    assert series['neg_grad']['points'][0][1] == 9.5
    worst = blocks['relearning']['charts'][0]
    assert worst['title'] == 'private data, all weights, lr 0.0001, seed 0'
    assert [entry['name'] for entry in worst['series']] == ['original', 'oracle', 'unlearn_haze', 'neg_grad']


def test_compare_unknown_numbers(runs):
    path = runs / 'audits/neg_grad/audit.json'
    audit = json.loads(path.read_text())
    audit['sets'][0]['psnr']['unlearned'] = audit['summary'] = audit['record']['cost_share'] = None
    audit['audits']['membership'] = audit['audits']['relearning'] = {'missing': 'No data.'}
    path.write_text(json.dumps(audit))
    assert main(['compare', 'neg_grad', 'unlearn_haze']) == 0
    page, _, _ = read_page(runs / 'audits' / 'compare')
    assert [page.tables[0][1][column] for column in (7, 8, 10, 11, 12, 13)] == ['n/a'] * 6
    assert page.tables[0][2][10] == '1.81'


def test_compare_says_what_cannot_be_compared(runs):
    path = runs / 'audits/neg_grad/audit.json'
    path.write_text(path.read_text().replace('0' * 64, '9' * 64))
    assert main(['compare', 'unlearn_haze', 'neg_grad']) == 0
    page, _, _ = read_page(runs / 'audits' / 'compare')
    assert 'Not every run has the same original' in page.text and 'the same oracle' not in page.text


def test_runs_without_audits_alone(home):
    write_run(home)
    assert main(['compare', 'alone', 'alone']) == 0
    page, _, _ = read_page(home / 'audits' / 'compare')
    assert [row[0] for row in page.tables[0][1:]] == ['alone (1)', 'alone (2)']
    assert 'No run was attacked in this way' in page.text


# --- charts ---


def test_axes():
    axis = charts.Axis([0, 10], 100, 200, limits=[0, 10])
    assert axis.place(2.5) == 125
    assert axis.ticks() == [(100, '0'), (120, '2'), (140, '4'), (160, '6'), (180, '8'), (200, '10')]
    assert [text for _, text in charts.Axis([-0.2, 0.3], 0, 1).ticks()] == ['−0.2', '0.0', '0.2']
    steps = charts.Axis([0, 99], 0, 200, steps=True)
    assert steps.place(9) == pytest.approx(100) and [text for _, text in steps.ticks()] == ['0', '1', '3', '10', '30']
    assert charts.Axis([4, 4], 0, 10).place(4) == 5


def test_marks_stand_at_their_values():
    series = [words.line('a', 'unlearned', [(0, 0, 'low'), (None, 1, 'no'), (1, 1, 'high', 0.25)])]
    drawn = str(charts.draw(words.chart('title', 'x', 'y', series, limits=[0, 1])))
    low, high = f'translate({charts.LEFT}.0 {charts.BOTTOM}.0)', f'translate({charts.RIGHT}.0 {charts.TOP}.0)'
    assert low in drawn and high in drawn and drawn.count('class="mark unlearned"') == 2
    assert '<title>low</title>' in drawn and f'r="{charts.WHOLE / 2}"' in drawn
    assert 'there are no values' in charts.draw(words.chart('t', 'x', 'y', [words.line('a', 'run0', [(None, 1, '')])]))


def test_names_beside_points_do_not_touch():
    points = [(f'name {index}', (index * 0.01, 1.0)) for index in range(5)]
    series = [words.line(name, f'run{index}', [(*point, name)]) for index, (name, point) in enumerate(points)]
    drawn = str(charts.draw(words.chart('t', 'x', 'y', series, labels=True)))
    places = re.findall(r'<text class="name (\w+)" x="([\d.]+)" y="([\d.]+)">(name \d)', drawn)
    boxes = [(float(x) - (side == 'end') * 36, float(y)) for side, x, y, _ in places]
    assert len(places) == 5
    for index, (x, y) in enumerate(boxes):
        assert all(abs(x - other[0]) >= 36 or abs(y - other[1]) >= 12 for other in boxes[:index])
