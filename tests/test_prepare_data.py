"""scripts/prepare_data.py on small folder trees named as RESIDE's and Rain100L's."""

import importlib.util
import os
import subprocess
import sys
from os import path as osp

import cv2
import lmdb
import pytest
import torch
from layouts import HAZY, write_data_root, write_image, write_rain100l, write_reside
from PIL import Image

from basicsr.data import build_dataset
from basicsr.data.data_util import paths_from_lmdb
from basicsr.utils import FileClient, imfrombytes
from basicsr_unlearn.data import lmdb_files
from basicsr_unlearn.data.pairing import find_pairs
from basicsr_unlearn.errors import InputError

SCRIPT = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'scripts', 'prepare_data.py')
SIZE = {'height': 40, 'width': 48}


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('prepare_data', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def prepare(script, capsys):
    """Run the script in this process; gives exit status, output, and the only line on stderr."""

    def run(*arguments):
        status = script.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        lines = [line for line in printed.err.splitlines() if line.startswith('prepare_data:')]
        assert len(lines) == bool(status)
        return status, printed.out, ''.join(lines)

    return run


@pytest.fixture
def ots(tmp_path):
    """6 hazy images of 2 clean ones in part1, 3 of 1 in part2."""
    write_reside(tmp_path / 'data/Train/Dehaze', [['0025', '0039'], ['3068']], **SIZE)
    return tmp_path / 'data/Train/Dehaze'


def source(folder, **more):
    return {'dataroot_lq': str(folder / 'synthetic'), 'dataroot_gt': str(folder / 'original'), **more}


def forget_set(section):
    opt = {'name': 'x', 'type': 'ForgetRetainPairedDataset', 'forget': section, 'gt_size': 32, 'batch_size_per_gpu': 1}
    return build_dataset(opt)


def in_lmdbs(out, name='ots', **more):
    roots = {f'dataroot_{side}': str(out / f'{name}_{side}.lmdb') for side in ('lq', 'gt')}
    return {**roots, 'io_backend': {'type': 'lmdb'}, **more}


def stored(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as store, store.begin() as transaction:
        return {key.decode(): value for key, value in transaction.cursor()}


def bytes_of(path):
    with open(path, 'rb') as file:
        return file.read()


# check


def test_counts_of_complete_sets(prepare, script, tmp_path, monkeypatch):
    write_data_root(tmp_path)
    table = {'ots': (9, 3), 'rain100l': (2, 2), 'bsd400': (None, 1), 'wed': (None, 2), 'sots_test': (3, 2)}
    table.update({'rain100l_test': (2, 2), 'cbsd68_test': (None, 2)})
    table.update({name: (2, 2) for name in ('gopro', 'lol', 'gopro_test', 'lol_test')})
    for name, (degraded, clean) in table.items():
        monkeypatch.setitem(script.SETS, name, script.SETS[name]._replace(degraded=degraded, clean=clean))
    status, out, _ = prepare('check', tmp_path)
    assert status == 0 and out.count('complete') == len(table) == len(script.SETS)


def test_published_numbers_are_the_measure(prepare, ots, tmp_path):
    status, out, error = prepare('check', tmp_path / 'data')
    assert status == 2 and 'ots' in error
    row = next(line for line in out.splitlines() if line.startswith('ots'))
    assert row.split()[1:5] == ['9', '3', '72135', '/'] and '9 of 72135' in row and '3 of 2061' in row
    assert 'absent' in next(line for line in out.splitlines() if line.startswith('gopro'))


def test_missing_and_misnamed_files_are_named(prepare, ots, tmp_path):
    (ots / 'original/3068.jpg').unlink()
    write_image(ots / 'original/0077.png', 0, **SIZE)
    write_image(ots / 'original/0039.png', 0, **SIZE)
    os.rename(ots / 'synthetic/part1/0025_1_0.2.jpg', ots / 'synthetic/part1/25_1_0.2.jpg')
    _, out, _ = prepare('check', '--lq', ots / 'synthetic', '--gt', ots / 'original')
    assert '4 degraded without a clean image, such as part1/25_1_0.2.jpg' in out
    assert '3 degraded with two clean images, such as part1/0039_0.8_0.04.jpg (0039.jpg, 0039.png)' in out
    assert '1 clean without a degraded image, such as 0077.png' in out


def test_test_folders_beside_the_data_folder(prepare, tmp_path):
    write_data_root(tmp_path / 'data')
    os.rename(tmp_path / 'data/test', tmp_path / 'test')
    _, out, _ = prepare('check', tmp_path / 'data')
    assert 'absent' not in out


# lists and splits


def test_list_is_read_as_file_list(prepare, ots, tmp_path):
    write_image(ots / 'original/0077.png', 0, **SIZE)  # of a part that was not downloaded
    with pytest.raises(InputError, match='0077.png in dataroot_gt has no degraded image.*file_list'):
        find_pairs('x', source(ots))
    assert prepare('list', tmp_path / 'data', '--set', 'ots', '--out', tmp_path / 'ots.txt')[0] == 0
    pairs = find_pairs('x', source(ots, file_list=str(tmp_path / 'ots.txt')))
    assert len(pairs) == 9 and pairs[8] == (f'{ots}/synthetic/part2/3068_1_0.2.jpg', f'{ots}/original/3068.jpg')
    status, out, _ = prepare('list', tmp_path / 'data', '--set', 'ots', '--out', tmp_path / 'ots.txt')
    assert status == 0 and 'complete already' in out


def test_meta_info_is_read_by_basicsr(prepare, tmp_path):
    for side in ('input', 'target'):
        for name in ('1.png', '2.png'):
            write_image(tmp_path / side / name, 1, **SIZE)
    roots = ('--lq', tmp_path / 'input', '--gt', tmp_path / 'target')
    assert prepare('list', *roots, '--meta-info', '--out', tmp_path / 'meta.txt')[0] == 0
    assert (tmp_path / 'meta.txt').read_text() == '1.png (40,48,3)\n2.png (40,48,3)\n'
    section = {'dataroot_lq': roots[1], 'dataroot_gt': roots[3], 'meta_info_file': str(tmp_path / 'meta.txt')}
    assert len(build_dataset({'name': 'x', 'type': 'PairedFilesDataset', **section})) == 2


def test_meta_info_cannot_say_other_names(prepare, ots, tmp_path):
    status, _, error = prepare('list', tmp_path / 'data', '--set', 'ots', '--meta-info', '--out', tmp_path / 'meta.txt')
    assert status == 2 and 'file_list' in error and not (tmp_path / 'meta.txt').exists()


def test_split_by_clean_image(prepare, tmp_path):
    write_reside(tmp_path / 'ots', [[f'{n:04d}' for n in range(10)], [f'{n:04d}' for n in range(10, 20)]], **SIZE)
    roots = ('--lq', tmp_path / 'ots/synthetic', '--gt', tmp_path / 'ots/original', '--share', 0.3)
    sides = {}
    for out in ('a', 'b'):
        assert prepare('split', *roots, '--out', tmp_path / out)[0] == 0
    assert prepare('split', *roots, '--out', tmp_path / 'c', '--seed', 1)[0] == 0
    for side in ('train', 'val'):
        text = (tmp_path / f'a/pairs_{side}.txt').read_text()
        assert text == (tmp_path / f'b/pairs_{side}.txt').read_text() != (tmp_path / f'c/pairs_{side}.txt').read_text()
        pairs = find_pairs('x', source(tmp_path / 'ots', file_list=str(tmp_path / f'a/pairs_{side}.txt')))
        sides[side] = {gt for _, gt in pairs}
        assert len(pairs) == len(HAZY) * len(sides[side])  # all versions of a clean image are on its side
    assert not sides['train'] & sides['val'] and len(sides['train'] | sides['val']) == 20
    assert 2 <= len(sides['val']) <= 10


def test_a_clean_image_stays_on_its_side_when_others_come(prepare, tmp_path):
    names = [f'{n:04d}' for n in range(16)]
    write_reside(tmp_path / 'few', [names[:8]], **SIZE)
    write_reside(tmp_path / 'more', [names], clean_suffix='.png', **SIZE)
    held_out = {}
    for which in ('few', 'more'):
        roots = ('--lq', tmp_path / which / 'synthetic', '--gt', tmp_path / which / 'original')
        assert prepare('split', *roots, '--share', 0.4, '--out', tmp_path / which)[0] == 0
        held_out[which] = {line.split('/')[1][:4] for line in open(tmp_path / which / 'pairs_val.txt')}
    assert held_out['few'] == held_out['more'] & set(names[:8])


def test_split_of_clean_images(prepare, tmp_path):
    write_data_root(tmp_path)
    assert prepare('split', '--gt', tmp_path / 'Train/Denoise', '--share', 0.5, '--out', tmp_path, '--seed', 2)[0] == 0
    lines = [(tmp_path / f'pairs_{side}.txt').read_text().split() for side in ('train', 'val')]
    assert sorted(sum(lines, [])) == ['00001.bmp', '00012.bmp', '5096.jpg']


def test_an_empty_side_is_an_error(prepare, ots, tmp_path):
    status, _, error = prepare('split', tmp_path / 'data', '--set', 'ots', '--share', 0, '--out', tmp_path / 'out')
    assert status == 2 and '--share 0.0' in error and not (tmp_path / 'out').exists()


def test_no_list_is_overwritten(prepare, ots, tmp_path):
    (tmp_path / 'ots_val.txt').write_text('mine')
    status, _, error = prepare('split', tmp_path / 'data', '--set', 'ots', '--share', 0.5, '--out', tmp_path)
    assert status == 2 and 'ots_val.txt' in error and (tmp_path / 'ots_val.txt').read_text() == 'mine'
    assert not (tmp_path / 'ots_train.txt').exists()


# LMDBs


def test_lmdb_holds_the_files(prepare, ots, tmp_path):
    """Byte for byte, each clean image once; ForgetRetainPairedDataset reads from it what it reads from the files."""
    out = tmp_path / 'lmdb'
    status, printed, _ = prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', out)
    assert status == 0 and '9 images written' in printed and '3 images written' in printed
    hazy = stored(out / 'ots_lq.lmdb')
    assert len(hazy) == 9 and hazy['part2/3068_0-8_0-1'] == bytes_of(ots / 'synthetic/part2/3068_0.8_0.1.jpg')
    assert set(stored(out / 'ots_gt.lmdb')) == {'0025', '0039', '3068'}
    files, lmdbs = forget_set(source(ots)), forget_set(in_lmdbs(out))
    assert len(files) == len(lmdbs) == 9
    for number in range(9):
        a, b = files[number], lmdbs[number]
        assert torch.equal(a['forget_lq'], b['forget_lq']) and torch.equal(a['forget_gt'], b['forget_gt'])
        assert a['forget_gt_path'].endswith(f'{b["forget_gt_path"]}.jpg')


def test_basicsr_reads_the_lmdb(prepare, ots, tmp_path):
    prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    folder = str(tmp_path / 'ots_lq.lmdb')
    keys = paths_from_lmdb(folder)
    assert sorted(keys) == sorted(stored(folder))
    client = FileClient('lmdb', db_paths=[folder], client_keys=['lq'])
    image = imfrombytes(client.get('part1/0025_0-8_0-1', 'lq'))
    assert (image == cv2.imread(str(ots / 'synthetic/part1/0025_0.8_0.1.jpg'))).all()
    client.client._client['lq'].close()
    assert (tmp_path / 'ots_lq.lmdb/meta_info.txt').read_text().splitlines()[0] == 'part1/0025_0-8_0-04.jpg (40,48,3) 1'


def test_rain100l_and_bmp(prepare, tmp_path):
    write_rain100l(tmp_path / 'Train/Derain', 3, **SIZE)
    write_data_root(tmp_path / 'clean')
    assert prepare('lmdb', tmp_path, '--set', 'rain100l', '--out', tmp_path)[0] == 0
    assert find_pairs('x', in_lmdbs(tmp_path, 'rain100l'))[0] == ('rain-1', 'norain-1')
    assert prepare('lmdb', tmp_path / 'clean', '--set', 'wed', '--out', tmp_path)[0] == 0
    kept = stored(tmp_path / 'wed_gt.lmdb')
    assert set(kept) == {'00001', '00012'} and kept['00001'].startswith(b'\x89PNG')
    assert (imfrombytes(kept['00012']) == cv2.imread(str(tmp_path / 'clean/Train/Denoise/00012.bmp'))).all()
    section = {'dataroot_gt': str(tmp_path / 'wed_gt.lmdb'), 'io_backend': {'type': 'lmdb'}}
    section['degradation'] = {'type': 'gaussian_noise', 'sigma': 25}
    assert len(build_dataset({'name': 'x', 'type': 'DegradedImageDataset', **section})) == 2


def test_lists_choose_from_an_lmdb(prepare, ots, tmp_path):
    prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    (tmp_path / 'list.txt').write_text('synthetic/part2/3068_0.8_0.1.jpg\npart1/0025_1_0.2.jpg\n')
    found = find_pairs('x', in_lmdbs(tmp_path, file_list=str(tmp_path / 'list.txt')))
    assert found == [('part2/3068_0-8_0-1', '3068'), ('part1/0025_1_0-2', '0025')]


def test_an_lmdb_is_read_by_all_sources_of_a_process(prepare, ots, tmp_path):
    prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    section = in_lmdbs(tmp_path)
    noise = {'from': 'forget', 'degradation': {'type': 'gaussian_noise'}}
    opt = {'name': 'x', 'type': 'ForgetRetainPairedDataset', 'forget': section, 'gt_size': 32, 'batch_size_per_gpu': 1}
    first, second = (build_dataset({**opt, 'retain': {'same': section, 'proxy': noise}}) for _ in range(2))
    assert len(first[0]) == len(second[0]) == 10  # in this process, and then in workers that inherit the handles
    loader = torch.utils.data.DataLoader(second, batch_size=1, num_workers=2)
    assert {sample['retain_task'][0] for sample in loader} == {'same', 'proxy'}


def test_the_map_grows(prepare, ots, tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_files, 'MAP_SIZE', 4 * 4096)
    assert prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)[0] == 0
    assert len(stored(tmp_path / 'ots_lq.lmdb')) == 9


def test_an_interrupted_run_is_continued(prepare, ots, tmp_path, monkeypatch):
    """Ctrl-C at the sixth image: five are kept and not read again, and no data set takes the half for the whole."""
    read, original = [], lmdb_files._checked_bytes

    def interrupted(path):
        if len(read) == 5:
            raise KeyboardInterrupt
        read.append(path)
        return original(path)

    monkeypatch.setattr(lmdb_files, '_checked_bytes', interrupted)
    command = ('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    status, _, message = prepare(*command)
    assert status == 4 and 'the same command goes on' in message
    assert len(stored(tmp_path / 'ots_lq.lmdb')) == 5 and not (tmp_path / 'ots_lq.lmdb/meta_info.txt').exists()
    with pytest.raises(InputError, match='has no meta_info.txt.*not written to the end'):
        find_pairs('x', {**source(ots), 'dataroot_lq': str(tmp_path / 'ots_lq.lmdb'), 'io_backend': {'type': 'lmdb'}})

    monkeypatch.setattr(lmdb_files, '_checked_bytes', lambda path: read.append(path) or original(path))
    status, out, _ = prepare(*command)
    assert status == 0 and '4 images written, 5 were there already' in out
    assert len(read) == len(set(read)) == 12
    assert len(forget_set(in_lmdbs(tmp_path))) == 9

    read.clear()
    status, out, _ = prepare(*command)
    assert status == 0 and out.count('complete already') == 2 and not read


def test_a_file_that_was_replaced_meanwhile_is_not_passed_over(prepare, ots, tmp_path, monkeypatch):
    original = lmdb_files._meta_info
    monkeypatch.setattr(lmdb_files, '_meta_info', lambda store: (_ for _ in ()).throw(KeyboardInterrupt))
    command = ('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    assert prepare(*command)[0] == 4
    monkeypatch.setattr(lmdb_files, '_meta_info', original)
    first = sorted((tmp_path / 'data').glob('Train/Dehaze/synthetic/*/*.jpg'))[0]
    Image.new('RGB', (64, 64), 'red').save(first)
    status, _, message = prepare(*command)
    assert status == 2 and str(first) in message and 'start anew' in message


def test_a_killed_run_is_continued(prepare, tmp_path):
    write_rain100l(tmp_path / 'Train/Derain', 40, **SIZE)
    code = (
        'import sys, runpy, basicsr_unlearn.data.lmdb_files as f; f.BATCH = 1; read = f._checked_bytes\n'
        'f._checked_bytes = lambda path: print("read", flush=True) or sys.stdin.readline() and read(path)\n'
        f'sys.argv = ["x", "lmdb", {str(tmp_path)!r}, "--set", "rain100l", "--out", {str(tmp_path)!r}]\n'
        f'runpy.run_path({SCRIPT!r}, run_name="__main__")'
    )
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True, 'env': environment}
    with subprocess.Popen([sys.executable, '-c', code], **pipes) as process:
        for _ in range(20):  # it waits for our line before each image
            assert process.stdout.readline() == 'read\n'
            process.stdin.write('go on\n')
            process.stdin.flush()
        process.stdout.readline()
        process.kill()
    kept = len(stored(tmp_path / 'rain100l_lq.lmdb'))
    assert kept == 20
    status, out, _ = prepare('lmdb', tmp_path, '--set', 'rain100l', '--out', tmp_path)
    assert status == 0 and f'{40 - kept} images written, {kept} were there already' in out
    assert len(find_pairs('x', in_lmdbs(tmp_path, 'rain100l'))) == 40


def test_nothing_is_overwritten(prepare, ots, tmp_path):
    command = ('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    (tmp_path / 'ots_lq.lmdb').mkdir()
    (tmp_path / 'ots_lq.lmdb/notes.txt').write_text('mine')
    status, _, error = prepare(*command)
    assert status == 2 and 'holds something else' in error
    (tmp_path / 'ots_lq.lmdb/notes.txt').unlink()
    assert prepare(*command)[0] == 0
    before = stored(tmp_path / 'ots_lq.lmdb')
    write_image(ots / 'synthetic/part1/0025_1_0.2.jpg', 99, height=64, width=48)
    status, _, error = prepare(*command)
    assert status == 2 and '0025_1_0-2 differs' in error and stored(tmp_path / 'ots_lq.lmdb') == before


def test_a_store_of_other_files_is_not_continued(prepare, ots, tmp_path):
    with lmdb.open(str(tmp_path / 'ots_lq.lmdb')) as store, store.begin(write=True) as transaction:
        transaction.put(b'another', b'x')
    status, _, error = prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    assert status == 2 and 'another' in error


def test_unreadable_and_colliding_files(prepare, ots, tmp_path):
    broken = ots / 'synthetic/part2/3068_1_0.2.jpg'
    broken.write_bytes(broken.read_bytes()[:400])
    status, _, error = prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path)
    assert status == 2 and '3068_1_0.2.jpg' in error and 'cannot be read' in error
    os.remove(broken)
    write_image(ots / 'synthetic/part2/3068_1_0-2.jpg', 1, **SIZE)
    write_image(broken, 1, **SIZE)
    status, _, error = prepare('lmdb', tmp_path / 'data', '--set', 'ots', '--out', tmp_path / 'other')
    assert status == 2 and 'Rename one' in error


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['check', '/nowhere'], 'none of the data sets'),
        (['check', '--lq', '/nowhere'], '--gt'),
        (['lmdb', '/nowhere', '--out', 'x'], '--set'),
        (['lmdb', '/nowhere', '--set', 'ots', '--out', 'x'], '/nowhere/Train/Dehaze/synthetic: no such folder'),
        (['list', '--lq', 'x', '--out', 'x'], '--gt'),
        (['list', '/nowhere', '--set', 'ots', '--gt', 'x', '--out', 'x'], 'either'),
    ],
)
def test_bad_input_is_one_line(arguments, words, prepare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = prepare(*arguments)
    assert status == 2 and words in error and os.listdir(tmp_path) == []


@pytest.mark.parametrize('arguments', [['--help'], ['lmdb', '--help']])
def test_help(arguments, script, capsys):
    with pytest.raises(SystemExit) as end:
        script.main(arguments)
    assert end.value.code == 0 and 'DATA_ROOT' in capsys.readouterr().out
