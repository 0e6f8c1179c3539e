"""`basicsr audit` from the option file to audit.json."""

import copy
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import NET, make_net, write_pairs

from basicsr_unlearn import leftovers
from basicsr_unlearn.audit_run.course import Course
from basicsr_unlearn.audit_run.jobs import KINDS
from basicsr_unlearn.audit_run.measure import Measure
from basicsr_unlearn.audit_run.record import forgotten, options_text
from basicsr_unlearn.audit_run.subject import Subject
from basicsr_unlearn.audit_run.verdicts import questions
from basicsr_unlearn.cli import main
from basicsr_unlearn.options import hashed

HAZE = {'fixed': True, 'degradation': {'type': 'haze'}}
SEEDS = {'original': 5, 'unlearned': 6, 'oracle': 7, 'oracle_2': 8}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A folder with networks, an option file and a finished run."""
    home = tmp_path_factory.mktemp('audit')
    for name, seed in SEEDS.items():
        torch.save({'params': make_net(seed).state_dict()}, home / f'{name}.pth')
    folder = home / 'experiments/tiny/models'
    folder.mkdir(parents=True)
    (home / 'unlearned.pth').rename(folder / 'net_g_latest.pth')
    summary = {
        'version': '0',
        'name': 'tiny',
        'method': 'NegGrad',
        'cost': 10.0,
        'finished': '2026-01-02T03:04:05+00:00',
    }
    (folder.parent / 'unlearn_summary.json').write_text(json.dumps(summary))
    rain = write_pairs(home / 'rain', {'type': 'rain'})
    tree = {
        'name': 'tiny',
        'model_type': 'UnlearnModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 3,
        'datasets': {
            'train': {
                'name': 'train',
                'type': 'ForgetRetainPairedDataset',
                'forget': {'scenes': 40, **HAZE},
                'retain': {'rain': rain},
                'gt_size': 32,
                'num_worker_per_gpu': 0,
                'batch_size_per_gpu': 2,
            },
            'val_haze': {'name': 'haze', 'type': 'SceneDataset', 'role': 'forget', 'scenes': 3, 'gt_size': 32, **HAZE},
            'val_rain': {'name': 'rain', 'type': 'PairedFilesDataset', 'role': 'retain', **rain},
        },
        'network_g': NET,
        'path': {'pretrain_network_g': 'original.pth', 'pretrain_network_oracle': 'oracle.pth'},
        'train': {
            'method': {'type': 'NegGrad'},
            'optim_g': {'type': 'AdamW', 'lr': 1e-4},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [1000]},
            'total_iter': 4,
            'oracle_cost': 1000,
        },
        'val': {'val_freq': 1000, 'save_img': False},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': True},
        'audit': {
            'public': {'scenes': 40, 'first_scene': 100, **HAZE},
            'heldout': {'scenes': 40, 'first_scene': 200, **HAZE},
            'oracle_2': 'oracle_2.pth',
            'steps': 2,
            'images': 2,
            'attacks': [
                {'data': 'public', 'scope': 'all', 'lr': 1e-3},
                {'data': 'private', 'scope': 'lora', 'lr': 1e-3},
                {'data': 'public', 'scope': 'prompt', 'lr': 1e-3},
            ],
        },
    }
    for place in (home, folder.parent):  # BasicSR copies the file into the folder of the run
        (place / 'tiny.yml').write_text(yaml.safe_dump(tree))
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def changed(at_home):
    """Write the option file with changes `{a:b:c: value}` under another name, and return it."""

    def change(**changes):
        tree = yaml.safe_load((at_home / 'tiny.yml').read_text())
        for key, value in changes.items():
            *sections, last = key.split('__')
            section = tree
            for name in sections:
                section = section[name]
            section[last] = value
        (at_home / 'changed.yml').write_text(yaml.safe_dump(tree))
        return 'changed.yml'

    return change


@pytest.fixture(scope='module')
def audited(home):
    before = os.getcwd()
    os.chdir(home)
    try:
        assert main(['audit', '-opt', 'tiny.yml', '--quick', '--workers', '2']) == 0
        return json.loads((home / 'audits/tiny/audit.json').read_text())
    finally:
        os.chdir(before)


def test_what_an_audit_says(audited, home):
    assert (audited['name'], audited['run'], audited['method'], audited['task']) == (
        'tiny',
        'tiny',
        'NegGrad',
        'degradation',
    )
    assert set(audited['nets']) == set(SEEDS) and len({net['sha256'] for net in audited['nets'].values()}) == 4
    questions = {question['key']: question for question in audited['questions']}
    assert list(questions) == ['forgotten', 'removed', 'kept', 'members', 'price']
    price = questions['price']
    assert (
        price['measures'][0]['values']['unlearned'] == 1.0
        and price['light'] == 'green'
        and '1.00 %' in price['sentence']
    )
    haze = audited['audits']['behaviour']['sets']['haze']
    assert haze['images'] == ['scene_000000', 'scene_000001'] and haze['agreement']['oracle'] == [0, 0]
    gap = questions['forgotten']['measures'][0]
    assert gap['values']['unlearned'] == pytest.approx(sum(haze['psnr']['unlearned']) / 2)
    attacks = audited['audits']['relearning']['attacks']
    assert [(a['data'], a['scope']) for a in attacks] == [('public', 'all'), ('private', 'lora'), ('public', 'prompt')]
    for attack in attacks:
        assert attack['area']['oracle'] == 0 and set(attack['curves']['unlearned']) == {'0', '1', '2'}
        first = {curve['0'] for curve in (a['curves']['unlearned'] for a in attacks)}
        assert len(first) == 1  # adapters begin with nothing
    nets = audited['audits']['membership']['nets']
    assert audited['audits']['membership']['members'] == 40 and nets['oracle_2']['calibrated']['auc'] == 0.5
    assert audited['audits']['hidden']['similarity']['original']['to_original']['latent'] == pytest.approx(1)
    record = audited['record']
    assert record['forgotten']['pairs'] == 40 and record['finished'].startswith('2026-01-02')
    assert 'type: NegGrad' in record['options']['text'] and record['seeds'] == ['run 3', 'audit 0']
    assert record['weights']['after'] == audited['nets']['unlearned']['sha256']
    pictures = audited['pictures']
    assert {p['set'] for p in pictures} == {'haze', 'rain'}
    assert all((home / 'audits/tiny' / file).stat().st_size > 500 for p in pictures for file in p['files'].values())
    assert list((home / 'tb_logger/tiny/audit').glob('events*'))


def test_numbers_depend_on_nothing_but_the_seed(audited, at_home):
    course = Course(Subject('tiny.yml', quick=True), 1)
    for job in course.jobs().values():
        kept = json.loads((at_home / f'audits/jobs/{job["key"]}.json').read_text())['result']
        if (
            job['kind'] in ('look', 'hidden', 'harden', 'attack')
            and job['weights'] == course.nets['unlearned']['weights']
        ):
            assert json.loads(json.dumps(KINDS[job['kind']](job))) == kept


def test_a_killed_audit_goes_on(audited, at_home):
    files = sorted((at_home / 'audits/jobs').glob('*.json'))
    times = {path: path.stat().st_mtime_ns for path in files}
    lost = [path for path in files if path.name.startswith('hidden')][:2]
    for path in lost:
        path.unlink()
    assert main(['audit', '-opt', 'tiny.yml', '--quick', '--workers', '1']) == 0
    again = json.loads((at_home / 'audits/tiny/audit.json').read_text())
    assert all((path.stat().st_mtime_ns == times[path]) == (path not in lost) for path in files)
    for key in ('questions', 'audits', 'sets', 'record', 'nets'):
        assert again[key] == audited[key]


def test_without_oracle_and_data_reasons_stand_in_their_place(changed, at_home, capsys):
    bare = {'steps': 1, 'images': 1, 'shadows': 0}
    path = changed(name='bare', path__pretrain_network_oracle=None, logger__private=True, audit=bare)
    os.makedirs('experiments/bare/models', exist_ok=True)
    torch.save({'params': make_net(6).state_dict()}, 'experiments/bare/models/net_g_latest.pth')
    assert main(['audit', '-opt', path, '--quick', '--workers', '1']) == 0
    found = json.loads((at_home / 'audits/bare/audit.json').read_text())
    questions = {question['key']: question for question in found['questions']}
    assert questions['removed']['light'] == 'grey' and 'no oracle was given' in questions['removed']['sentence']
    assert 'audit: heldout is missing' in questions['members']['sentence']
    assert questions['price']['light'] == 'grey' and 'not known' in questions['price']['measures'][0]['remark']
    assert "against the input's" in questions['forgotten']['measures'][0]['name']
    assert 'audit: public is missing' in found['audits']['hidden']['probe']['missing']
    assert all('audit: public' in why for why in found['audits']['relearning']['left_out'].values())
    assert found['private'] and {picture['set'] for picture in found['pictures']} == {'rain'}
    assert found['audits']['behaviour']['sets']['haze']['images'] == [hashed('scene_000000')]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'audit': {'heldut': {}}}, 'audit: heldut is an unknown key. Did you mean heldout?'),
        (
            {'audit': {'heldout': {'dataroot_lq': 'empty', 'dataroot_gt': 'empty'}}},
            'audit: heldout: dataroot_lq: empty: no image',
        ),
        ({'audit': {'public': {'scenes': 4}}}, 'audit: public: needs a degradation'),
        (
            {'audit': {'attacks': [{'data': 'all', 'scope': 'all', 'lr': 1e-4}]}},
            'audit: attacks: 0: data: all is unknown',
        ),
        ({'audit': {'limits': {'auc': [2, 1]}}}, 'audit: limits: auc: [2, 1] must be two rising numbers'),
        ({'audit': {'shadows': 3}}, 'audit: shadows: 3 must be 16 to 64'),
        ({'audit': {'oracle_2': 'gone.pth'}}, 'audit: oracle_2: gone.pth: no such file'),
        ({'path__pretrain_network_oracle': 'gone.pth'}, 'path: pretrain_network_oracle: gone.pth: no such file'),
        ({'network_g': {**NET, 'dim': 12}}, 'does not fit PromptIR'),
        ({'name': 'none'}, 'experiments/none/models/net_g_latest.pth: no such file. Run basicsr train'),
        ({'model_type': 'SRModel'}, 'model_type: SRModel'),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(changed, at_home, capsys, changes, message):
    os.makedirs('empty', exist_ok=True)
    before = sorted(at_home.rglob('*'))
    path = changed(**changes)
    assert main(['audit', '-opt', path]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert sorted({*before, at_home / path}) == sorted(at_home.rglob('*'))


def test_a_measure_that_cannot_tell_the_original_from_the_oracle_is_grey():
    def light(unlearned, original=6.0, oracle_2=0.1, **facts):
        values = {'original': original, 'unlearned': unlearned, 'oracle': 0.0, 'oracle_2': oracle_2}
        measure = Measure('relearn', 'E', values, {}, share=True, **facts)
        return measure.light, measure.remark

    assert [light(value)[0] for value in (0.0, 1.5, 2.9, 3.1, 6.0)] == ['green', 'green', 'amber', 'red', 'red']
    assert light(0.0, original=0.5) == ('grey', 'not informative: it does not tell the original from the oracle')
    assert light(0.0, oracle_2=2.0) == ('grey', 'not informative: a second oracle fails it too')
    assert light(0.0, missing='n/a: because') == ('grey', 'n/a: because')
    assert Measure('relearn', 'E', {'unlearned': 1.0, 'original': 2.0}, {}).remark.startswith('n/a: no oracle')
    assert (
        Measure('forget_gap', 'gap', {'unlearned': -2.0, 'original': 6.0, 'oracle': 0.0}, {}, sided=False).light
        == 'red'
    )
    assert Measure('forget_gap', 'gap', {'unlearned': -2.0, 'original': 6.0, 'oracle': 0.0}, {}).light == 'green'
    mild = {'forget_gap': [3.0, 4.0]}
    assert Measure('forget_gap', 'gap', {'unlearned': 2.5, 'original': 6.0, 'oracle': 0.0}, mild).light == 'green'


def test_the_record_knows_the_pairs_by_their_content_alone(tmp_path):
    section = write_pairs(tmp_path / 'a', {'type': 'haze'}, 3)
    record = forgotten(section)
    assert (record['pairs'], record['files'], len(record['hashes'])) == (3, 6, 3)
    os.rename(tmp_path / 'a/lq/0000.png', tmp_path / 'a/lq/zz.png')
    os.rename(tmp_path / 'a/gt/0000.png', tmp_path / 'a/gt/zz.png')
    assert forgotten(section) == record
    (tmp_path / 'a/lq/0001.png').write_bytes((tmp_path / 'a/lq/0002.png').read_bytes())
    assert forgotten(section)['sha256'] != record['sha256']
    assert str(tmp_path) not in json.dumps(record)


def test_the_record_does_not_say_where_the_forget_set_is(tmp_path):
    place = str(tmp_path / 'secret')
    forget = {'dataroot_lq': f'{place}/lq', 'dataroot_gt': f'{place}/gt'}
    opt = {'name': 'x', 'datasets': {'train': {'forget': forget}, 'val': {'dataroot_lq': f'{place}/lq'}}}
    text = options_text(opt)
    assert place not in text and text.count('<forget set>') == 3
    opt['datasets']['train'].update(forget={**forget, 'glob': '*'}, retain={'rain': {'glob': 'keep_*.png'}})
    text = options_text(opt)
    assert 'glob: keep_*.png' in text and text.count('<forget set>') == 4


def test_purge_knows_what_an_audit_shows(audited, home, tmp_path, monkeypatch):
    shutil.copytree(home / 'audits/tiny', tmp_path / 'audits/tiny')
    monkeypatch.chdir(tmp_path)
    page = 'audits/tiny/report.html'
    found = {entry['path'] for entry in leftovers.inside('.', 'tiny', ['haze'])}
    shown = [entry for entry in audited['pictures'] if entry['set'] == 'haze']
    assert found == {f'audits/tiny/{path}' for entry in shown for path in entry['files'].values()} | {page}
    assert leftovers.inside('.', 'tiny', ['noise']) == []
    for path in found:
        os.remove(path)
    assert main(['report', 'tiny']) == 0  # again, now without those pictures
    assert os.path.isfile(page) and leftovers.inside('.', 'tiny', ['haze']) == []
    assert leftovers.inside('.', 'tiny', ['rain'])


def test_toys_judge_the_method_and_the_network_is_judged_by_its_own(audited):
    def answer(auc, gap, toy):
        audits = copy.deepcopy(audited['audits'])
        nets = audits['membership']['nets']
        for net, (value, lead) in {'original': (0.99, 8.0), 'unlearned': (auc, gap), 'oracle': (0.5, 0.0)}.items():
            nets[net].update(gap=lead, **{kind: {'auc': value, 'interval': [0, 1]} for kind in ('loss', 'calibrated')})
        nets['oracle_2'] = nets['oracle']
        audits['shadows'] = {'lira': {'auc': 1.0}, 'u_lira': {'auc': toy}}
        subject = SimpleNamespace(task='instance', options=SimpleNamespace(limits={}))
        found = questions(subject, audits, 0.02)[3]
        return found['light'], found['sentence']

    light, sentence = answer(0.51, 0.0, 0.5)
    assert light == 'green' and sentence.startswith('No more than in the oracle') and 'toy' not in sentence
    light, sentence = answer(0.51, 0.0, 0.9)
    assert light == 'green' and sentence.endswith(
        'The method fails on a toy: the method on a toy, shadow networks: AUC.'
    )
    light, sentence = answer(0.9, 2.0, 0.5)
    assert light == 'red' and sentence.startswith('Yes: an attack tells members with AUC 0.90')
    light, sentence = answer(0.5, -1.0, 0.5)
    assert light == 'red' and sentence == 'Yes, by over-forgetting: forget pairs are 1.00 dB worse than held-out ones.'
