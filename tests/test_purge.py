"""What a run leaves of the forgotten data, and `basicsr purge`: found before, gone after, and nothing else touched."""

import io
import json
import os
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from conftest import latest, make_net, write_pairs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_unlearn_model import log_text, summary

from basicsr_unlearn import cli, event_files, leftovers
from basicsr_unlearn.data.lmdb_files import write_lmdb
from basicsr_unlearn.models.summary import write_summary

SAME = 0.6  # correlation of thumbnails: other scenes stay below 0.35, what the tiny network makes of one is above 0.75
SAME_PATCH = 0.95  # of a patch and one out of thousands
PATCH = 32  # gt_size of `options`


# --- the scan: it knows nothing of the package but that pictures may stand side by side below 20 pixels of words ---


def thumbnail(image):
    small = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(float).ravel()
    return (small - small.mean()) / (small.std() + 1e-9) / np.sqrt(small.size)


def panels(image):
    """Return a picture, and what may stand side by side in it."""
    height, width = image.shape[:2]
    numbers = [number for number in (2, 3, 4) if width == number * (height - 20)]
    return [image] + [panel for number in numbers for panel in np.split(image[20:], number, axis=1)]


def images_in(path):
    """Return all pictures of a file, decoded: of a picture, of TensorBoard's events, of an adversarial cache."""
    if path.suffix == '.png':
        return [cv2.imread(str(path))]
    if 'tfevents' in path.name:
        found = events(path)
        stored = [event.encoded_image_string for tag in found.Tags()['images'] for event in found.Images(tag)]
        return [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) for content in stored]
    if path.name == 'data.mdb':
        with lmdb.open(str(path.parent), readonly=True, lock=False) as store, store.begin() as transaction:
            contents = [
                bytes(content) for _, content in transaction.cursor() if len(content) == 8 + 2 * 2 * 3 * PATCH**2
            ]
        pairs = [np.frombuffer(content[8:], np.float16).reshape(2, 3, PATCH, PATCH) for content in contents]
        return [image.transpose(1, 2, 0)[..., ::-1].astype(np.float32) for pair in pairs for image in pair]
    return []


def patch_thumbnails(images):
    """Return the thumbnails of all patches of images, however turned, as an array."""
    turned = [np.rot90(side, turn) for image in images for side in (image, image[:, ::-1]) for turn in range(4)]
    starts = range(images[0].shape[0] - PATCH + 1)
    patches = (image[y : y + PATCH, x : x + PATCH] for image in turned for y in starts for x in starts)
    return np.stack(list(map(thumbnail, patches)))


def scan(home, private):
    """Return the files below `home` that show a forget image, whole or a patch, or hold its bytes."""
    paths = sorted(private.rglob('*.png'))
    forget = [cv2.imread(str(path)) for path in paths]
    assert len(forget) == 8
    known = [path.read_bytes() for path in paths]
    known += [pixels.tobytes() for image in forget for pixels in (image, image[..., ::-1].copy())]
    whole, found = np.stack(list(map(thumbnail, forget))), set()
    for path in filter(Path.is_file, home.rglob('*')):
        content, images = path.read_bytes(), images_in(path)
        shown = [panel for image in images for panel in panels(image)]
        parts = [image for image in images if image.shape[0] == PATCH]
        if (
            any(part in content for part in known)
            or any((whole @ thumbnail(panel)).max() > SAME for panel in shown)
            or (parts and (patch_thumbnails(forget) @ np.stack(list(map(thumbnail, parts))).T).max() > SAME_PATCH)
        ):
            found.add(str(path.relative_to(home)))
    return found


def events(path):
    return EventAccumulator(str(path), size_guidance={'images': 0, 'scalars': 0}).Reload()


def read_board(folder):
    """Return all scalars and pictures that TensorBoard shows of a run."""
    found = events(folder)
    scalars = {tag: found.Scalars(tag) for tag in found.Tags()['scalars']}
    return scalars, {tag: found.Images(tag) for tag in found.Tags()['images']}


# --- what the tests begin with ---


@pytest.fixture
def private(options, tmp_path):
    """Eight forget pictures of scenes that are nowhere else; `options` forgets them and keeps all it can."""
    pairs = write_pairs(tmp_path / 'private', {'type': 'haze'}, first=100)
    options['datasets']['train']['forget'] = pairs
    options['datasets']['val_haze'].update(pairs)
    options['logger'].update(save_checkpoint_freq=1, private=False)
    options['train']['total_iter'] = 3
    options['val']['save_img'] = True
    return tmp_path / 'private'


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A finished run `tiny` of a few files, written by hand, in the current directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path('experiments/tiny')
    for name in ('models/net_g_latest.pth', 'models/net_g_1.pth', 'training_states/1.state', 'visualization/a/b.png'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / 'train_tiny_20260101_000000.log').write_text('Written to experiments/tiny: unlearn_summary.json')
    Path('original.pth').write_text('weights')
    write_entries([{'path': str(tmp_path / 'original.pth'), 'kind': 'original', 'bytes': 7, 'why': 'it knows'}])
    return folder


def write_entries(outside, name='tiny'):
    table = {'psnr': dict.fromkeys(('input', 'original', 'unlearned', 'oracle'), 1.0), 'ssim': {}}
    table['ssim'] = table['psnr']
    sets = [
        {'name': 'haze', 'role': 'forget', 'shows_forgotten': True, 'images': 1, **table},
        {'name': 'rain', 'role': 'retain', 'shows_forgotten': False, 'images': 1, **table},
    ]
    metrics = {'psnr': {'type': 'calculate_psnr'}, 'ssim': {'type': 'calculate_ssim'}}
    known = {'version': '1', 'name': name, 'method': 'NegGrad', 'task': 'degradation', 'stopped_by': 'total_iter'}
    numbers = dict.fromkeys(('iterations', 'kept_iteration', 'seconds', 'memory', 'cost', 'cost_share'), 1)
    known['reason'] = None
    write_summary({**known, **numbers, 'metrics': metrics, 'sets': sets, 'leftovers': outside}, 'experiments/tiny')


def purge(*arguments):
    return cli.main(['purge', *arguments])


def answer(monkeypatch, text):
    """Answer questions at a terminal."""
    stdin = io.StringIO(text)
    stdin.isatty = lambda: True
    monkeypatch.setattr('sys.stdin', stdin)


def contents(folder='.'):
    """Return everything below a folder: files, links, folders."""
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for path in Path(folder).rglob('*')
    }


def kinds(home):
    """Return `{kind: paths}` of the summary."""
    found = {}
    for entry in summary(home)['leftovers']:
        found.setdefault(entry['kind'], []).append(entry['path'])
    return found


OUTSIDE = {'original', 'forget_data'}


# --- whole runs ---


def test_nothing_of_the_forgotten_images_is_left(options, run, private, weights, capsys):
    run(options, '--debug')
    run(options)
    _, home = run(options)
    folder = home / 'experiments/tiny'
    (folder / 'models/net_g_latest.pth.7.tmp').write_bytes(next(private.rglob('*.png')).read_bytes())
    pictures = [f'experiments/tiny/visualization/0{n}/haze_0{n}_3.png' for n in range(100, 104)]
    shown = scan(home, private)
    assert {*pictures, 'experiments/tiny/models/net_g_latest.pth.7.tmp'} < shown
    for start in (
        'tb_logger/tiny/',
        'tb_logger/tiny_archived_',
        'experiments/tiny_archived_',
        'experiments/debug_tiny/',
    ):
        assert any(path.startswith(start) for path in shown)
    table = (folder / 'unlearn_summary.md').read_text()
    assert log_text(home).rstrip().endswith(table.rstrip())
    for words in ('| 3 training states', '4 pictures of haze', str(private / 'gt'), '`basicsr purge tiny` removes'):
        assert words in table.split('## What is left of the forgotten data')[1]
    before = kinds(home)
    assert before['training_state'] == [f'experiments/tiny/training_states/{n}.state' for n in (1, 2, 3)]
    assert before['checkpoint'] == [f'experiments/tiny/models/net_g_{n}.pth' for n in (1, 2, 3)]
    assert before['pictures'] == ['experiments/tiny/visualization']
    assert [path.split('_archived_')[0] for path in before['archived_run']] == ['experiments/tiny', 'tb_logger/tiny']
    assert before['dry_run'] == ['experiments/debug_tiny'] and len(before['tensorboard']) == 1
    assert before['original'] == [weights] and before['forget_data'] == [str(private / kind) for kind in ('lq', 'gt')]
    sizes = {entry['path']: entry['bytes'] for entry in summary(home)['leftovers']}
    assert sizes[weights] == os.path.getsize(weights)
    assert sizes[str(private / 'gt')] == sum(path.stat().st_size for path in (private / 'gt').iterdir())
    assert sizes['experiments/tiny/visualization'] == sum(os.path.getsize(home / path) for path in pictures)
    board = read_board(home / 'tb_logger/tiny')
    rest = contents(folder)

    capsys.readouterr()
    assert purge('tiny', '--yes') == 0
    output = capsys.readouterr().out
    assert '| 3 training states' in output and output.splitlines()[-1].startswith('purged tiny: 12 leftovers removed (')
    assert scan(home, private) == set()
    assert os.listdir(home / 'experiments') == ['tiny'] == os.listdir(home / 'tb_logger')
    assert sorted(os.listdir(folder / 'visualization')) == ['0000', '0001', '0002', '0003']  # retain pictures
    assert os.listdir(folder / 'models') == ['net_g_latest.pth'] and os.listdir(folder / 'training_states') == []
    make_net().load_state_dict(latest(home))  # and its file is unchanged, see below
    scalars, images = read_board(home / 'tb_logger/tiny')
    assert scalars == board[0] and 'psnr_forget/haze' in scalars
    assert {tag for tag in board[1] if tag not in images} == {'haze/0', 'haze/1'}
    assert images == {tag: board[1][tag] for tag in ('noise/0', 'noise/1')}
    after = contents(folder)
    changed = {path for path in after if after[path] != rest[path]}
    assert changed == {str(folder / f'unlearn_summary.{suffix}') for suffix in ('json', 'md')}
    assert set(kinds(home)) == OUTSIDE and len(list(private.rglob('*.png'))) == 8 and os.path.isfile(weights)
    text = (folder / 'unlearn_summary.md').read_text()
    assert 'The folders of the run hold nothing of it' in text and f'| original    | 1.65 | {weights}' in text
    assert purge('experiments/tiny', '--yes') == 0
    assert capsys.readouterr().out.endswith('purged tiny: 0 leftovers removed (0.0 MiB), 3 remain outside\n')


def test_a_kept_adversarial_cache(options, run, private):
    del options['datasets']['train']['retain'], options['datasets']['val_noise']
    attack = {'type': 'InstanceWise', 'craft': 'cache', 'cache_images': 4, 'target': 'identity', 'steps': 1}
    options['train']['method'] = {**attack, 'keep_cache': True}
    options['val']['save_img'] = False
    _, home = run(options)
    assert any(path.startswith('experiments/tiny/adversarial_cache/') for path in scan(home, private))
    assert kinds(home)['adversarial_cache'] == ['experiments/tiny/adversarial_cache']
    assert purge('tiny', '--yes') == 0
    assert scan(home, private) == set() and not (home / 'experiments/tiny/adversarial_cache').exists()


def test_the_original_and_forget_lmdbs_go_only_when_asked_for(options, run, private, tmp_path, weights, monkeypatch):
    own = str(tmp_path / 'original.pth')
    torch.save(torch.load(weights), own)
    options['path']['pretrain_network_g'] = own
    for kind in ('lq', 'gt'):
        write_lmdb(str(private / kind), sorted(os.listdir(private / kind)), str(tmp_path / f'{kind}.lmdb'))
    roots = {f'dataroot_{kind}': str(tmp_path / f'{kind}.lmdb') for kind in ('lq', 'gt')}
    options['datasets']['train']['forget'] = {**roots, 'io_backend': {'type': 'lmdb'}}
    _, home = run(options)
    found = kinds(home)
    assert found['original'] == [own] and found['forget_lmdb'] == list(roots.values())
    assert found['forget_data'] == [str(private / 'lq'), str(private / 'gt')]  # of the validation set
    places = [own, *roots.values()]
    assert purge('tiny', '--yes') == 0 and all(map(os.path.exists, places))
    answer(monkeypatch, 'n\n')
    assert purge('tiny', '--outside') == 0 and all(map(os.path.exists, places))
    assert purge('tiny', '--outside', '--yes') == 0
    assert not any(map(os.path.exists, places)) and len(list(private.rglob('*.png'))) == 8
    assert set(kinds(home)) == {'forget_data'}


def test_private_runs_name_no_file(options, run, private):
    for path in list(private.rglob('*.png')):
        path.rename(path.with_name(f'grandmother_{path.name}'))
    options['logger'].pop('private')
    options['train']['method']['task'] = 'instance'
    proxies = {'dataroot_gt': options['datasets']['train']['forget']['dataroot_gt'], 'role': 'retain'}
    rain = {'name': 'proxy', 'type': 'DegradedImageDataset', 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}
    options['datasets']['val_proxy'] = {**rain, **proxies}  # clean forget images under another degradation
    _, home = run(options)
    assert scan(home, private) == set()
    assert [entry['shows_forgotten'] for entry in summary(home)['sets']] == [True, False, True]
    texts = [path.read_text() for path in (home / 'experiments/tiny').iterdir() if path.is_file()]
    assert len(texts) == 4 and not any('grandmother' in text for text in texts)
    assert set(kinds(home)) == OUTSIDE | {'training_state', 'checkpoint'}
    assert not any('grandmother' in path for path in contents(home))


def test_a_run_that_became_private_when_it_was_resumed(options, run, private):
    """The pictures of its first part are found, and counted without a name."""
    options['val']['val_freq'] = 1
    run(options)
    options['logger']['private'] = True
    options['train']['total_iter'] = 4
    status, home = run(options, '--auto_resume')
    assert status == 0 and len(os.listdir(home / 'tb_logger/tiny')) == 2
    found = {entry['kind']: entry for entry in summary(home)['leftovers']}
    assert found['pictures']['path'] == 'experiments/tiny/visualization'
    assert found['pictures']['why'] == '12 pictures of haze' and found['tensorboard']['why'] == '2 pictures of haze'
    assert purge('tiny', '--yes') == 0 and scan(home, private) == set()


# --- what is outside of a run ---


def test_an_lmdb_that_holds_other_images_is_never_removed(options, private, tmp_path, weights):
    for kind in ('lq', 'gt'):
        write_lmdb(str(private / kind), sorted(os.listdir(private / kind)), str(tmp_path / f'{kind}.lmdb'))
    lmdbs = {f'dataroot_{kind}': str(tmp_path / f'{kind}.lmdb') for kind in ('lq', 'gt')}
    lmdbs['io_backend'] = {'type': 'lmdb'}
    (tmp_path / 'some.txt').write_text('0100.png\n')
    options['path']['pretrain_network_original'] = weights

    def found():
        return {entry['path']: entry for entry in leftovers.outside(options)}

    options['datasets']['train']['forget'] = lmdbs
    assert [found()[lmdbs[f'dataroot_{kind}']]['kind'] for kind in ('lq', 'gt')] == ['forget_lmdb', 'forget_lmdb']
    noisy = {'dataroot_gt': lmdbs['dataroot_gt'], 'io_backend': {'type': 'lmdb'}, 'degradation': {'type': 'rain'}}
    options['datasets']['train']['retain']['clean'] = noisy
    assert [found()[lmdbs[f'dataroot_{kind}']]['kind'] for kind in ('lq', 'gt')] == ['forget_lmdb', 'forget_data']
    del options['datasets']['train']['retain']['clean']
    lmdbs['file_list'] = str(tmp_path / 'some.txt')
    entries = found()
    assert [entries[lmdbs[f'dataroot_{kind}']]['kind'] for kind in ('lq', 'gt')] == ['forget_data', 'forget_data']
    assert entries[lmdbs['file_list']]['why'] == 'names of forget images'
    assert [path for path, entry in entries.items() if leftovers.is_removable(entry)] == [weights]


def test_weights_of_the_package_stay(options, private):
    options['path']['pretrain_network_original'] = 'zoo:quickstart_original.safetensors'
    entry = leftovers.outside(options)[0]
    assert entry['path'] == 'zoo:quickstart_original.safetensors' and entry['bytes'] > 1000
    assert not leftovers.is_removable(entry)


def test_sets_that_show_forgotten_images(options, private, pairs):
    """By role, or because they read a file of the forget set; a list may choose others of the same folder."""
    names, section = os.listdir(private / 'gt'), {'type': 'DegradedImageDataset', 'role': 'retain'}
    section.update(dataroot_gt=str(private / 'gt'), degradation={'type': 'rain'})
    lists = [private / 'some.txt', private / 'others.txt']
    for file, part in zip(lists, (names[:2], names[2:]), strict=True):
        file.write_text('\n'.join(part))
    options['datasets']['train']['forget']['file_list'] = str(lists[0])
    options['datasets']['val_all'] = {**section, 'name': 'all'}
    options['datasets']['val_some'] = {**section, 'name': 'some', 'file_list': str(lists[0])}
    options['datasets']['val_others'] = {**section, 'name': 'others', 'file_list': str(lists[1])}
    assert leftovers.forgotten_sets(options) == ['haze', 'all', 'some']


# --- TensorBoard's files ---


def test_event_files_stay_what_they_are(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        for step in range(3):
            writer.add_scalar('haze/0', step, step)  # a tag like that of a picture
            for tag in ('haze/0', 'rain/0', 'dark haze/0'):
                writer.add_image(tag, np.full((3, 4, 4), step / 3, np.float32), step)
        writer.add_text('note', 'haze/0')
    (path,) = event_files.find(tmp_path)
    whole = Path(path).read_bytes()
    assert len(event_files.pictures(path, ['haze'])) == 3 and len(event_files.pictures(path, ['rain', 'haze'])) == 6
    event_files.drop_pictures(path, ['fog'])
    assert Path(path).read_bytes() == whole
    Path(path).write_bytes(whole + whole[24:60])  # half a record, of a killed process
    event_files.drop_pictures(path, ['haze'])
    scalars, images = read_board(tmp_path)
    assert {tag: len(found) for tag, found in images.items()} == {'rain/0': 3, 'dark haze/0': 3}
    assert [event.value for event in scalars['haze/0']] == [0, 1, 2]
    assert len(Path(path).read_bytes()) < len(whole) and event_files.pictures(path, ['haze']) == []
    assert os.listdir(tmp_path) == [os.path.basename(path)]
    dropped = Path(path).read_bytes()
    event_files.drop_pictures(path, ['haze'])
    assert Path(path).read_bytes() == dropped


# --- questions and refusals ---


@pytest.mark.parametrize('text', ['n\n', '', '\n', 'no\n', 'yesterday\n'])
def test_without_consent_nothing_is_removed(made, monkeypatch, capsys, text):
    before = contents()
    answer(monkeypatch, text)
    assert purge('tiny') == 0
    output = capsys.readouterr().out
    assert 'experiments/tiny/training_states/1.state' in output and output.endswith('tiny: nothing was removed\n')
    assert contents() == before


def test_one_question_for_the_run_and_one_for_what_is_outside(made, monkeypatch, capsys):
    answer(monkeypatch, 'y\nn\n')
    assert purge('tiny', '--outside') == 0
    output = capsys.readouterr().out
    assert output.count('[y/N]') == 2 and f'Remove {Path("original.pth").absolute()} as well' in output
    assert not (made / 'training_states/1.state').exists() and Path('original.pth').exists()
    answer(monkeypatch, 'yes\n')
    assert purge('tiny', '--outside') == 0
    assert capsys.readouterr().out.count('[y/N]') == 1 and not Path('original.pth').exists()
    assert (made / 'models/net_g_latest.pth').exists()
    assert json.loads((made / 'unlearn_summary.json').read_text())['leftovers'] == []


def test_without_a_terminal_yes_is_needed(made, monkeypatch, capsys):
    before = contents()
    monkeypatch.setattr('sys.stdin', io.StringIO('y\n'))
    assert purge('tiny') == 2
    output = capsys.readouterr()
    assert output.out == '' and '--yes' in output.err and output.err.count('\n') == 1
    assert contents() == before
    assert purge('tiny', '--yes') == 0 and not (made / 'models/net_g_1.pth').exists()


def test_runs_of_other_names_stay(made):
    """Names that only look like those of archived and dry runs, and a folder of theirs."""
    stay = ['tiny2', 'tiny_archived_v2', 'debug_tiny', 'tinyX_archived_20260101_000000', 'debug_tiny2']
    for name in stay:
        os.makedirs(f'experiments/{name}')
        Path(f'experiments/{name}/tiny.yml').write_text('# TIME\n# CMD:\n# basicsr -opt a.yml\n\n# try --debug\n')
    gone = ['tiny_archived_20260101_000000', 'debug_tiny_archived_20260101_000000']
    for name in gone:
        os.makedirs(f'experiments/{name}')
        Path(f'experiments/{name}/tiny.yml').write_text('# TIME\n# CMD:\n# basicsr -opt a.yml --debug\n')
    assert purge('tiny', '--yes') == 0
    assert sorted(os.listdir('experiments')) == sorted([*stay, 'tiny'])


def unfinished(folder):
    (folder / 'unlearn_summary.json').unlink()


def started_again(folder):
    (folder / 'train_tiny_20260102_000000.log').write_text('Start training from epoch: 0, iter: 1')


def renamed(folder):
    write_entries([], name='haze')


def damaged(folder):
    (folder / 'unlearn_summary.json').write_text('{"name": "tiny"')


def no_result(folder):
    (folder / 'models/net_g_latest.pth').unlink()


def linked_result(folder):
    (folder / 'models/net_g_latest.pth').unlink()
    (folder / 'models/net_g_latest.pth').symlink_to('net_g_1.pth')


def linked_file(folder):
    (folder / 'training_states/2.state').symlink_to(Path('original.pth').absolute())


def linked_folder(folder):
    (folder / 'visualization/b').symlink_to(Path('elsewhere').absolute())


def linked_run(folder):
    os.rename(folder, 'elsewhere/tiny')
    folder.symlink_to(Path('elsewhere/tiny').absolute())


def linked_board(folder):
    os.makedirs('tb_logger')
    Path('tb_logger/tiny').symlink_to(Path('elsewhere').absolute())


def linked_archive(folder):
    Path('experiments/tiny_archived_20260101_000000').symlink_to(Path('elsewhere').absolute())


def original_in_the_run(folder):
    path = str((folder / 'models/net_g_1.pth').absolute())
    write_entries([{'path': path, 'kind': 'original', 'bytes': 1, 'why': 'it knows'}])


def nothing(folder):
    pass


REFUSED = {
    'no such run': (nothing, 'rain', 'there is no folder'),
    'a separator': (nothing, 'elsewhere/tiny', 'is no run of'),
    'the folder of all runs': (nothing, '.', 'is no run of'),
    'its parent': (nothing, '..', 'is no run of'),
    'nothing': (nothing, '', 'is no run of'),
    'not finished': (unfinished, 'tiny', 'has not finished'),
    'started again': (started_again, 'tiny', 'was started again and has not finished'),
    'renamed': (renamed, 'tiny', 'is a folder of the run haze'),
    'damaged': (damaged, 'tiny', 'is damaged'),
    'no result': (no_result, 'tiny', 'the result of the run must lie there'),
    'a linked result': (linked_result, 'tiny', 'the result of the run must lie there'),
    'a linked file': (linked_file, 'tiny', '2.state: is a link to'),
    'a linked folder': (linked_folder, 'tiny', 'visualization/b: is a link to'),
    'a linked run': (linked_run, 'tiny', 'experiments/tiny: is a link to'),
    'a linked board': (linked_board, 'tiny', 'tb_logger/tiny: is a link to'),
    'a linked archive': (linked_archive, 'tiny', '000000: is a link to'),
    'the original inside': (original_in_the_run, 'tiny', 'Move that away first'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(made, case, capsys):
    change, name, words = REFUSED[case]
    os.makedirs('elsewhere')
    Path('elsewhere/mine.png').write_text('mine')
    change(made)
    before = contents()
    assert purge(name, '--yes', '--outside') == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1
    assert contents() == before


def test_links_inside_a_run_are_removed_as_links(made):
    (made / 'training_states/newest.state').symlink_to('1.state')
    assert purge('tiny', '--yes') == 0 and os.listdir(made / 'training_states') == []


def test_what_cannot_be_removed_is_one_line(made, monkeypatch, capsys):
    def fail(path):
        raise PermissionError(13, 'Permission denied', path)

    with monkeypatch.context() as patch:
        patch.setattr('basicsr_unlearn.purge_run.os.remove', fail)
        assert purge('tiny', '--yes') == 2
    assert '1.state: Permission denied. The same command goes on' in capsys.readouterr().err
    assert purge('tiny', '--yes') == 0 and not (made / 'models/net_g_1.pth').exists()


def test_a_killed_purge_is_finished_by_the_next(made):
    """What is gone already is gone from the summary as well."""
    (made / 'training_states/1.state').unlink()
    (made / 'models/net_g_1.pth').unlink()
    gone = {'path': 'experiments/tiny/models/net_g_1.pth', 'kind': 'checkpoint', 'bytes': 1, 'why': 'old'}
    write_entries([gone])
    assert purge('tiny', '--yes') == 0
    assert json.loads((made / 'unlearn_summary.json').read_text())['leftovers'] == []
    assert 'hold nothing of it' in (made / 'unlearn_summary.md').read_text()
