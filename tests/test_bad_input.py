"""Bad input: one line on stderr, status 2, nothing created. Each case spoils a tree that, as it is, runs.

The messages are those of options/ERRORS.md, which WRITE_ERRORS=1 in the environment writes anew.
"""

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import NET, make_net

from basicsr_unlearn import errors
from basicsr_unlearn.cli import main
from basicsr_unlearn.data.digests import pixel_digests
from basicsr_unlearn.data.lmdb_files import write_lmdb
from basicsr_unlearn.data.sources import build_source


def at(tree, path):
    for key in path.split(':')[:-1]:
        tree = tree[key]
    return tree, path.split(':')[-1]


def put(path, value):

    def spoil(tree, tmp_path):
        section, key = at(tree, path)
        section[key] = value

    return spoil


def remove(path):

    def spoil(tree, tmp_path):
        section, key = at(tree, path)
        del section[key]

    return spoil


def own_copy(tree, tmp_path):
    """Give the forget set folders that may be spoilt."""
    for key, folder in tree['datasets']['train']['forget'].items():
        shutil.copytree(folder, tmp_path / 'own' / key)
    copied = {key: str(tmp_path / 'own' / key) for key in ('dataroot_lq', 'dataroot_gt')}
    tree['datasets']['train']['forget'] = copied
    return tmp_path / 'own'


def empty_forget_folder(tree, tmp_path):
    (tmp_path / 'empty').mkdir()
    tree['datasets']['train']['forget'] = {
        'dataroot_lq': str(tmp_path / 'empty'),
        'dataroot_gt': str(tmp_path / 'empty'),
    }


def fewer_clean_files(tree, tmp_path):
    (own_copy(tree, tmp_path) / 'dataroot_gt' / '0002.png').unlink()


def fewer_clean_files_in_validation(tree, tmp_path):
    root = own_copy(tree, tmp_path)
    (root / 'dataroot_gt' / '0002.png').unlink()
    tree['datasets']['val_haze'].update(tree['datasets']['train']['forget'])
    tree['datasets']['train']['forget'] = tree['datasets']['train']['retain']['rain']


def other_size(tree, tmp_path):
    image = np.zeros((48, 40, 3), np.uint8)
    cv2.imwrite(str(own_copy(tree, tmp_path) / 'dataroot_gt' / '0001.png'), image)


def unreadable(tree, tmp_path):
    (own_copy(tree, tmp_path) / 'dataroot_lq' / '0003.png').write_bytes(b'not an image')


def truncated(tree, tmp_path):
    path = own_copy(tree, tmp_path) / 'dataroot_lq' / '0003.png'
    path.write_bytes(path.read_bytes()[:900])


def file_list(text, **more):
    """Give the forget set a list of this text."""

    def spoil(tree, tmp_path):
        own_copy(tree, tmp_path)
        (tmp_path / 'list.txt').write_text(text)
        tree['datasets']['train']['forget'].update(file_list=str(tmp_path / 'list.txt'), **more)

    return spoil


def regions(content):
    """Give the forget set a file of regions, and the method their target."""

    def spoil(tree, tmp_path):
        (tmp_path / 'regions.txt').write_bytes(content)
        tree['datasets']['train']['forget']['regions'] = str(tmp_path / 'regions.txt')
        tree['train']['method'] = {'type': 'MirrorTarget', 'forget_target': 'region'}

    return spoil


def missing_regions(tree, tmp_path):
    regions(b'')(tree, tmp_path)
    tree['datasets']['train']['forget']['regions'] = '/nowhere/r.txt'


def regions_of_a_whole_pair(tree, tmp_path):
    regions(b'0001.png 0 0 9 9\n')(tree, tmp_path)
    tree['train']['method'] = {'type': 'NegGrad'}


def list_is_no_text(tree, tmp_path):
    tree['datasets']['val_noise']['file_list'] = f'{tree["datasets"]["val_noise"]["dataroot_gt"]}/0000.png'


def two_clean_images(tree, tmp_path):
    clean = own_copy(tree, tmp_path) / 'dataroot_gt'
    shutil.copy(clean / '0001.png', clean / '0001.jpg')


def many_to_one_in_basicsr(tree, tmp_path):
    degraded = own_copy(tree, tmp_path) / 'dataroot_lq'
    shutil.copy(degraded / '0001.png', degraded / '0001_0.8_0.2.png')
    tree['datasets']['val_haze'].update(tree['datasets']['train']['forget'])


def mispaired_files(tree, tmp_path):
    os.rename(own_copy(tree, tmp_path) / 'dataroot_lq' / '0001.png', tmp_path / 'own' / 'dataroot_lq' / 'x.png')
    tree['datasets']['val_haze'].update(tree['datasets']['train']['forget'], type='PairedFilesDataset')
    tree['datasets']['train']['forget'] = tree['datasets']['train']['retain']['rain']


def lmdbs(tree, tmp_path):
    forget = tree['datasets']['train']['forget']
    for key, root in forget.items():
        write_lmdb(root, sorted(os.listdir(root)), str(tmp_path / f'{key}.lmdb'))
        forget[key] = str(tmp_path / f'{key}.lmdb')
    forget['io_backend'] = {'type': 'lmdb'}


def half_an_lmdb(tree, tmp_path):
    lmdbs(tree, tmp_path)
    (tmp_path / 'dataroot_lq.lmdb' / 'meta_info.txt').unlink()


def lmdb_lacks_images(tree, tmp_path):
    lmdbs(tree, tmp_path)
    with open(tmp_path / 'dataroot_lq.lmdb' / 'meta_info.txt', 'a') as file:
        file.write('0009.png (48,48,3) 1\n')


def lmdb_of_small_images(tree, tmp_path):
    lmdbs(tree, tmp_path)
    tree['datasets']['train']['gt_size'] = 64


def no_lmdb(tree, tmp_path):
    tree['datasets']['train']['forget']['io_backend'] = {'type': 'lmdb'}


def checkpoint_of_another_net(tree, tmp_path):
    weights = make_net().state_dict()
    weights['surplus.weight'] = weights.pop('output.weight')
    torch.save({'params': weights}, tmp_path / 'other.pth')
    tree['path']['pretrain_network_g'] = str(tmp_path / 'other.pth')


def checkpoint_is_text(tree, tmp_path):
    (tmp_path / 'text.pth').write_text('hello')
    tree['path']['pretrain_network_oracle'] = str(tmp_path / 'text.pth')


def proxies(source, **forget):
    """Give a method that takes them these proxies, and perhaps a forget set."""

    def spoil(tree, tmp_path):
        tree['train']['method'] = {'type': 'CovarianceNavigation', 'proxies': source}
        tree['datasets']['train']['forget'] = forget or tree['datasets']['train']['forget']

    return spoil


def same_kind(tree, tmp_path):
    tree['datasets']['train'].update(
        forget={'scenes': 4, 'degradation': {'type': 'haze'}},
        retain={'more': {'scenes': 4, 'degradation': {'type': 'haze'}}},
    )


def fine_tune_without_retain(tree, folder):
    tree['train']['method'] = {'type': 'FineTune'}
    del tree['datasets']['train']['retain']


def single_pairs(heldout=None, level=None, retain=None):

    def spoil(tree, tmp_path):
        train = tree['datasets']['train']
        tree['train']['method']['task'] = 'instance'
        if level is None:
            del tree['train']['stop']['forget_psnr_below']
        else:
            tree['train']['stop']['forget_psnr_below'] = level
        if heldout:
            train['heldout'] = dict(train['retain'][heldout])
        if retain:
            train['retain']['rain'] = retain

    return spoil


def without_itself(tree, tmp_path):
    forget = tree['datasets']['train']['forget']
    tree['datasets']['train']['retain']['rain'] = {**forget, 'without': 'forget'}


def same_oracle(tree, folder):
    tree['path']['pretrain_network_oracle'] = tree['path']['pretrain_network_g']


def hostile_checkpoint(tree, tmp_path):
    torch.save({'params': make_net().state_dict(), 'hook': os.system}, tmp_path / 'hostile.pth')
    tree['path']['pretrain_network_g'] = str(tmp_path / 'hostile.pth')


def lying_safetensors(tree, tmp_path):
    (tmp_path / 'lie.safetensors').write_bytes((2**62).to_bytes(8, 'little') + b'{}')
    tree['path']['pretrain_network_g'] = str(tmp_path / 'lie.safetensors')


def hostile_state(tree, tmp_path):
    torch.save({'iter': 2, 'epoch': 0, 'optimizers': [], 'schedulers': [os.system]}, tmp_path / '2.state')
    tree['path']['resume_state'] = str(tmp_path / '2.state')


def history(task='degradation', **forget):
    """Give the weights a history: an earlier request, `fog`, which forgot what `forget` says."""

    def spoil(tree, tmp_path):
        known = {'name': 'fog', 'task': task, 'method': 'NegGrad', 'finished': '2026-11-23', 'cost': 1.0, 'sets': []}
        content = {'params': make_net().state_dict(), 'history': [{**known, 'forget': forget}]}
        torch.save(content, tmp_path / 'fog.pth')
        tree['path']['pretrain_network_g'] = str(tmp_path / 'fog.pth')
        if 'scenes' in forget or 'degradation' in forget:
            tree['datasets']['train']['retain']['rain'] = {'scenes': 9, 'degradation': {'type': 'rain'}}

    return spoil


def retained_files(tree, tmp_path):
    source = build_source('rain', tree['datasets']['train']['retain']['rain'])
    history(degraded=list(pixel_digests(source)['degraded']))(tree, tmp_path)


def damaged_history(tree, tmp_path):
    torch.save({'params': make_net().state_dict(), 'history': [{'name': 'fog'}]}, tmp_path / 'fog.pth')
    tree['path']['pretrain_network_g'] = str(tmp_path / 'fog.pth')


def a_pipe(tree, tmp_path):
    own_copy(tree, tmp_path)
    for key in ('dataroot_lq', 'dataroot_gt'):
        os.mkfifo(tmp_path / 'own' / key / '0009.png')


HAZE = {'type': 'haze'}
CASES = {
    'empty file': ('', ['holds no options']),
    'broken YAML': ('name: [a\nb: c', ['line 2', 'Not valid YAML']),
    'no section': (remove('train'), ['no section train']),
    'misspelt in train': (put('train:warmup_itr', 3), ['warmup_itr', 'Did you mean warmup_iter?']),
    'misspelt in method': (put('train:method:retain_wieght', 1.0), ['retain_wieght', 'Did you mean retain_weight?']),
    'misspelt in stop': (put('train:stop:evry', 1), ['evry', 'Did you mean every?']),
    'misspelt in datasets': (put('datasets:train:gtsize', 32), ['gtsize', 'Did you mean gt_size?']),
    'misspelt in a source': (put('datasets:train:retain:rain:targt', 'gt'), ['targt', 'Did you mean target?']),
    'misspelt in forget': (put('datasets:train:forget:dataroot_ql', 'x'), ['dataroot_ql', 'dataroot_']),
    'misspelt in logger': (put('logger:keep_lst', 1), ['Did you mean keep_last?']),
    'misspelt in path': (put('path:pretrain_network_oracel', 'x.pth'), ['Did you mean pretrain_network_oracle?']),
    'weights are a number': (put('path:pretrain_network_g', 7), ['pretrain_network_g: 7', 'name of a file']),
    'misspelt in the loss': (
        put('train:method:forget_opt', {'type': 'AscentLoss', 'bond': 'input'}),
        ['Did you mean bound?'],
    ),
    'misspelt in the network': (put('network_g:dimm', 8), ['dimm', 'Did you mean dim?']),
    'misspelt at the top': (put('model_typ', 'x'), ['Did you mean model_type?']),
    'unknown method': (put('train:method:type', 'NegGrid'), ['Did you mean NegGrad?']),
    'retain data missing': (fine_tune_without_retain, ['type: FineTune needs retain data', 'from: forget']),
    'descent called ascent': (put('train:method:forget_opt', {'type': 'L1Loss'}), ['L1Loss would draw', 'AscentLoss']),
    'reset of nothing': (put('train:method', {'type': 'DeepForget', 'reset': ['latnt']}), ['reset: latnt', 'latent']),
    'nothing in the host': (
        put('train:method', {'type': 'SalUn', 'host': {'type': 'NegGrad', 'forget_wight': 1.0}}),
        ['train: method: host: forget_wight', 'Did you mean forget_weight?'],
    ),
    'no share': (put('train:stop:max_cost_share', 0.01), ['max_cost_share', 'oracle_cost']),
    'unknown network': (put('network_g:type', 'PromptIRR'), ['Did you mean PromptIR?']),
    'unknown bound': (put('train:method:forget_opt', {'type': 'AscentLoss', 'bound': 'off'}), ['bound: off', 'Choose']),
    'number as text': (put('train:optim_g:lr', '10'), ["optim_g: lr: '10'", 'without quotes']),
    'misspelt in optim_g': (put('train:optim_g:weight_decy', 0.1), ['Did you mean weight_decay?']),
    'unknown optimizer': (put('train:optim_g:type', 'AdamV'), ['optim_g: type: AdamV', 'Did you mean Adam']),
    'unknown scheduler': (
        put('train:scheduler:type', 'Cosine'),
        ['scheduler: type: Cosine', 'CosineAnnealingRestartLR'],
    ),
    'no print_freq': (remove('logger:print_freq'), ['logger: print_freq: is missing']),
    'missing state': (put('path:resume_state', '/nowhere/3.state'), ['/nowhere/3.state: no such file']),
    'EMA': (put('train:ema_decay', 0.999), ['ema_decay: 0.999', 'not forgotten']),
    'no role': (remove('datasets:val_haze:role'), ['val_haze: role', 'forget, retain or forgotten']),
    'two sets of one name': (put('datasets:val_noise:name', 'haze'), ['haze, haze', 'different names']),
    'bad tile': (put('val:tile', 16), ['tile: 16', 'tile_overlap: 32']),
    'no weights': (put('path:pretrain_network_g', None), ['pretrain_network_g: is missing']),
    'missing weights': (put('path:pretrain_network_g', '/nowhere/a.pth'), ['/nowhere/a.pth: no such file']),
    'missing folder': (
        put('datasets:train:forget:dataroot_lq', '/nowhere/lq'),
        ['forget', '/nowhere/lq: no such folder'],
    ),
    'unset variable': (put('datasets:val_haze:dataroot_lq', '${NO_SUCH_VARIABLE}/x'), ['NO_SUCH_VARIABLE is not set']),
    'empty forget set': (put('datasets:train:forget', {}), ['forget: is empty']),
    'empty forget folder': (empty_forget_folder, ['no image file in this folder']),
    'counts differ': (fewer_clean_files, ['0002.png', '4 degraded, 3 clean']),
    'counts differ in validation': (fewer_clean_files_in_validation, ['val_haze', '0002.png']),
    'sizes differ': (other_size, ['0001.png', '48x48', '40x48']),
    'unreadable image': (unreadable, ['0003.png', 'cannot be read']),
    'truncated image': (truncated, ['0003.png', 'cannot be read']),
    'patch too large': (put('datasets:train:gt_size', 64), ['48x48', 'gt_size: 64']),
    'misspelt in a validation set': (put('datasets:val_noise:file_lst', 'x'), ['val_noise', 'Did you mean file_list?']),
    'missing list': (put('datasets:train:forget:file_list', '/nowhere/l.txt'), ['file_list: /nowhere/l.txt: no such']),
    'list of a missing file': (file_list('0001.png\n0007.png\n'), ['file_list', '0007.png: no such file']),
    'list of a missing clean file': (file_list('0001.png 0007.png\n'), ['file_list', '0007.png: no such file']),
    'list with three columns': (file_list('0001.png\t0001.png\t7\n'), ['list.txt', '3 columns']),
    'list with one and two columns': (file_list('0001.png\n0002.png 0002.png\n'), ['0002.png 0002.png', 'columns']),
    'empty list': (file_list('\n'), ['list.txt: names no file']),
    'two lists': (file_list('0001.png\n', meta_info_file='x'), ['file_list', 'meta_info_file']),
    'list is no text': (list_is_no_text, ['datasets: noise: file_list', 'is not text']),
    'missing regions': (missing_regions, ['regions: /nowhere/r.txt: no such file']),
    'no regions': (put('train:method', {'type': 'MirrorTarget', 'forget_target': 'region'}), ['regions: is missing']),
    'no regions for the host': (
        put('train:method', {'type': 'SalUn', 'host': {'type': 'MirrorTarget', 'forget_target': 'region'}}),
        ['host: forget_target: region', 'regions: is missing'],
    ),
    'regions of a whole pair': (regions_of_a_whole_pair, ['NegGrad would forget whole pairs']),
    'a region of another picture': (regions(b'0001.png 0 0 9 9\n7.png 0 0 9 9\n'), ['line 2: 7.png', '4 pairs']),
    'a region beyond its picture': (regions(b'0001.png 40 0 9 9\n'), ['line 1: 0001.png', '40 0 9 9', '48x48']),
    'a region without a size': (regions(b'0001.png 0 0 9\n'), ['line 1', 'NAME X Y WIDTH HEIGHT']),
    'a region below zero': (regions(b'0001.png -1 0 9 9\n'), ['line 1', 'NAME X Y WIDTH HEIGHT']),
    'an empty region': (regions(b'0001.png 3 3 0 9\n'), ['line 1', 'the box is empty']),
    'an empty line of regions': (regions(b'0001.png 3 3 9 9\n\n0002.png 3 3 9 9\n'), ['line 2', 'is empty']),
    'an empty file of regions': (regions(b''), ['regions.txt: names no region']),
    'regions that are no text': (regions(b'\xff\xfe\x00'), ['regions.txt: is not text']),
    'two clean images': (two_clean_images, ['0001.png has two clean images', '0001.jpg']),
    'many to one in BasicSR': (many_to_one_in_basicsr, ['val_haze', 'PairedFilesDataset']),
    'mispaired files': (mispaired_files, ['datasets: haze: x.png in dataroot_lq has no clean image']),
    'no LMDB': (no_lmdb, ['forget: dataroot_lq', 'NAME.lmdb']),
    'half an LMDB': (half_an_lmdb, ['dataroot_lq.lmdb: has no meta_info.txt', 'not written to the end']),
    'LMDB lacks images': (lmdb_lacks_images, ['holds 4 of the 5 images', 'not written to the end']),
    'LMDB of small images': (lmdb_of_small_images, ['48x48', 'gt_size: 64']),
    'checkpoint of another net': (checkpoint_of_another_net, ['output.weight', 'surplus.weight']),
    'checkpoint of another width': (
        put('network_g:dim', 16),
        ['of another shape', 'patch_embed.proj.weight (8, 3, 3, 3)'],
    ),
    'checkpoint is text': (checkpoint_is_text, ['pretrain_network_oracle', 'text.pth', 'no checkpoint']),
    'LMDB for BasicSR': (
        put('datasets:val_haze:io_backend', {'type': 'lmdb'}),
        ['val_haze', 'type: PairedFilesDataset'],
    ),
    'meta_info of clean images': (
        put('datasets:train:retain:rain', {'dataroot_gt': '.', 'meta_info_file': 'x', 'degradation': {'type': 'rain'}}),
        ['meta_info_file: x has no meaning beside degradation', 'file_list'],
    ),
    'three heads': (put('network_g:heads', [1, 1, 1]), ['network_g: PromptIR: heads: [1, 1, 1]', 'four numbers']),
    'wrong entry': (put('path:param_key_g', 'parms_ema'), ['pretrain_network_g', 'no entry parms_ema, only params']),
    'same oracle': (same_oracle, ['pretrain_network_oracle', 'changed nothing']),
    'same kind kept': (same_kind, ['retain: more', 'task: source']),
    'proxies missing': (proxies({}), ['proxies: is missing']),
    'proxies of a missing folder': (
        proxies({'dataroot_gt': '/nowhere', 'degradation': {'type': 'rain'}}),
        ['proxies: images: dataroot_gt: /nowhere'],
    ),
    'proxies of what is to go': (
        proxies({'mist': {'scenes': 8, 'degradation': HAZE}}, scenes=8, degradation=HAZE),
        ['proxies: mist: is haze too'],
    ),
    'bad weight': (put('datasets:train:retain:rain:weight', 0), ['weight', 'positive']),
    'bad target': (put('datasets:train:retain:rain:target', 'clean'), ['target: clean', 'original or gt']),
    'a tag that runs code': ('name: !!python/object/apply:os.system [ls]', ['line 1', 'os.system is not allowed']),
    'a key that stands twice': ('name: a\nscale: 1\nname: b', ['line 3: name stands twice', 'line 1']),
    'a key that is a number': ('name: a\n3: b', ["line 2: the key '3'"]),
    'not a number': ('name: a\nscale: .nan', ['line 2: .nan']),
    'a number without end': ('scale: ' + '9' * 400, ['is no number']),
    'sections without end': ('a: ' + '[' * 99 + ']' * 99, ['nested more than 40 deep']),
    'an alias of an alias of an alias': (
        'a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n'
        'd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]',
        ['more than 20000 entries'],
    ),
    'a list in place of options': ('- name: a', ['holds no options']),
    'a name with a separator': (put('name', '../elsewhere'), ["name: '../elsewhere'", 'file names']),
    'a hidden name': (put('name', '.hidden'), ["name: '.hidden'"]),
    'a name of two lines': (put('name', 'a\nb'), ["name: 'a\\nb'"]),
    'a long name': (put('name', 'x' * 101), ['at most 100']),
    'no name': (put('name', ''), ["name: ''"]),
    'a set named after a folder': (put('datasets:val_haze:name', '~/haze'), ["datasets: val_haze: name: '~/haze'"]),
    'a suffix with a separator': (put('val:suffix', 'a/b'), ["val: suffix: 'a/b'"]),
    'a folder in path': (put('path:my_results', '/tmp/results'), ['path: my_results is an unknown key']),
    'experiments_root in path': (put('path:experiments_root', '/tmp/x'), ['path: experiments_root is an unknown key']),
    'a set that is none of training': (put('datasets:test_haze', {'name': 'x'}), ['datasets: test_haze', 'val_NAME']),
    'a seed below zero': (put('manual_seed', -1), ['manual_seed: -1']),
    'half a GPU': (put('num_gpu', 'half'), ["num_gpu: 'half'"]),
    'a rate below zero': (put('train:optim_g:lr', -1), ['train: optim_g: AdamW', 'learning rate']),
    'a rate that is a list': (put('train:optim_g:lr', [1e-4]), ['train: optim_g: lr: [0.0001]', 'a number']),
    'a cosine that ends early': (
        put('train:scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [2]}),
        ['scheduler', 'total_iter: 4', 'sum of periods: [2]'],
    ),
    'no iterations': (put('train:total_iter', 0), ['total_iter: 0']),
    'print never': (put('logger:print_freq', 0), ['print_freq: 0', 'positive']),
    'flips that are text': (put('datasets:train:use_hflip', 'often'), ["use_hflip: 'often'", 'true or false']),
    'a batch of nothing': (put('datasets:train:batch_size_per_gpu', 0), ['batch_size_per_gpu: 0']),
    'workers that nobody asked for': (put('datasets:train:persistent_workers', True), ['num_worker_per_gpu above 0']),
    'prefetching of another kind': (put('datasets:train:prefetch_mode', 'gpu'), ['prefetch_mode: gpu']),
    'a backend of another kind': (put('datasets:train:forget:io_backend', {'type': 'zip'}), ['io_backend: type: zip']),
    'a template without a place': (put('datasets:train:forget:filename_tmpl', 'x'), ["filename_tmpl: 'x'"]),
    'a template with code': (put('datasets:train:forget:filename_tmpl', '{0.__class__}'), ['filename_tmpl']),
    'a weight that is text': (put('train:method:forget_weight', 'much'), ["forget_weight: 'much'", 'float']),
    'a weight below zero': (put('train:method:forget_weight', -1), ['forget_weight: -1', 'at least 0']),
    'a share beyond the whole': (
        put('train:method', {'type': 'DeepForget', 'forget_share': 1.5}),
        ['forget_share: 1.5'],
    ),
    'noise that is text': (put('datasets:val_noise:degradation:sigma', 'much'), ['sigma: much']),
    'a network beyond any': (put('network_g:dim', 10**9), ['network_g: dim: 1000000000']),
    'a network beyond this machine': (put('network_g:dim', 20000), ['network_g: PromptIR', 'GiB']),
    'a metric of another name': (
        put('val:metrics', {'a': {'type': 'calculate_pnsr'}}),
        ['Did you mean calculate_psnr'],
    ),
    'a checkpoint with code': (hostile_checkpoint, ['hostile.pth', 'system', 'run code']),
    'a state with code': (hostile_state, ['2.state', 'system', 'run code']),
    'a damaged safetensors': (lying_safetensors, ['lie.safetensors', 'no checkpoint']),
    'a pipe among the images': (a_pipe, ['0009.png', 'is no file']),
    'no held-out pairs': (single_pairs(), ['datasets: train: heldout: is missing', 'like the forget set']),
    'goal of another task': (single_pairs(level='input+0.2'), ['input+0.2 is no goal of task: instance', 'heldout']),
    'forgotten and kept': (single_pairs(heldout='rain', level=20), ['rain', 'heldout too', 'without: forget']),
    'proxies of single pairs': (
        single_pairs(retain={'from': 'forget', 'degradation': {'type': 'rain'}}, level=20),
        ['retain: rain: from: forget', 'task: instance'],
    ),
    'nothing of that name': (put('datasets:train:forget:glob', 'IMG*.png'), ['glob: IMG*.png matches none of 4']),
    'nothing left': (without_itself, ['without: forget: leaves none of 4']),
    'scenes without scenes': (
        put('datasets:train:retain:rain', {'scenes': 4, 'degradation': {'type': 'rain'}, 'without': 'forget'}),
        ['without: forget: goes with image files alone'],
    ),
    'mirror that was learnt': (
        put('train:method', {'type': 'MirrorTarget', 'task': 'degradation'}),
        ['mirror: horizontal', 'choose reference'],
    ),
    'no reference': (
        put('train:method', {'type': 'MirrorTarget', 'forget_target': 'reference'}),
        ['pretrain_network_reference: is missing'],
    ),
    'retained files that were forgotten': (retained_files, ['retain: rain', '0000.png: the earlier request fog']),
    'a retained degradation that was forgotten': (history(degradation='rain'), ['retain: rain: is rain', 'fog']),
    'retained scenes that were forgotten': (history('instance', scenes=[5, 40]), ['scenes 5 to 8', 'first_scene: 45']),
    'a damaged history': (damaged_history, ['fog.pth: the history of earlier requests', '--no-history']),
    'bad level': (put('train:stop:forget_psnr_below', 'inputs'), ['forget_psnr_below: inputs']),
}


ERRORS = Path(__file__).parents[1] / 'options' / 'ERRORS.md'
HEAD = """# What goes wrong and what it says

Every row is a test: this input ends with this line, after `basicsr: error: `, and exit status 2. Nothing is created.
Folders are left out. In `tests/test_bad_input.py` each row stands with the change of the option file that it is about.

| input | message |
| --- | --- |
"""


def written():
    """Return `{input: message}` of the table."""
    rows = [line for line in ERRORS.read_text().splitlines() if line.startswith('| ')][2:] if ERRORS.exists() else []
    return dict(re.fullmatch(r'\| (.*?) \| (.*) \|', row).groups() for row in rows)


def write(case, message):
    rows = {**written(), case: message}
    lines = [f'| {name} | {rows[name]} |\n' for name in [*CASES, *FORCED] if name in rows]
    ERRORS.write_text(HEAD + ''.join(lines))


def as_written(message, tmp_path):
    """Return a message as the table has it: without folders, and without what other packages and machines add."""
    for folder in (tmp_path, tmp_path.parent):
        message = message.replace(f'{folder}/', '')
    message = re.sub(r'(no checkpoint at all) \(.*?\)\.', r'\1 (why).', message)
    message = re.sub(r'this machine has \d+', 'this machine has fewer', message)
    return errors.one_line(message).replace('|', '\\|')


def assert_refused(status, home, capsys, words):
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2, error
    assert len(error) == 1 and error[0].startswith('basicsr: error: '), error
    for word in words:
        assert word in error[0]
    assert os.listdir(home) == []
    return error[0].removeprefix('basicsr: error: ')


def assert_in_table(case, message, tmp_path):
    message = as_written(message, tmp_path)
    if os.environ.get('WRITE_ERRORS'):
        write(case, message)
    assert written()[case] == message


@pytest.mark.parametrize('case', CASES)
def test_bad_input(case, options, run, tmp_path, capsys, monkeypatch):
    spoil, words = CASES[case]
    monkeypatch.setattr(errors, 'LONGEST', 10_000)  # as_written cuts what is too long, when the folders are gone
    tree = options
    if isinstance(spoil, str):
        tree = spoil
    else:
        options['network_g'] = dict(NET)
        options['datasets']['train']['forget'] = dict(options['datasets']['train']['forget'])
        options['datasets']['train']['retain'] = {'rain': dict(options['datasets']['train']['retain']['rain'])}
        spoil(options, tmp_path)
    message = assert_refused(*run(tree), capsys, words)
    monkeypatch.undo()
    assert_in_table(case, message, tmp_path)


def test_the_table_has_no_other_rows():
    assert list(written()) == [*CASES, *FORCED]


def test_missing_option_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(main(['train', '-opt', 'nothing.yml']), tmp_path, capsys, ['nothing.yml: no such file'])


FORCED = {
    '--force_yml without =': ['train:total_iter', 'section:key=value'],
    '--force_yml without a key': ['train:=3', 'section:key=value'],
    '--force_yml of a section that is not there': ['trian:total_iter=3', 'section:key=value'],
    '--force_yml of a key inside a key': ['train:total_iter:x=1', 'section:key=value'],
    '--force_yml with half a list': ['train:scheduler:milestones=[1', 'Not valid YAML'],
    '--force_yml with a tag': ['name=!!python/name:os.system', 'os.system is not allowed'],
    '--force_yml with two lines': ['name=a\nb', 'cannot be printed'],
    '--force_yml of a wrong kind': ['train:total_iter=many', "total_iter: 'many'"],
}


@pytest.mark.parametrize('case', FORCED)
def test_bad_force_yml(case, options, run, capsys, tmp_path):
    entry, words = FORCED[case]
    assert_in_table(case, assert_refused(*run(options, '--force_yml', entry), capsys, [words]), tmp_path)


def test_forced_values_are_checked_too(options, run, capsys):
    assert_refused(*run(options, '--force_yml', 'train:totl_iter=3'), capsys, ['Did you mean total_iter?'])


def test_a_gpu_that_is_not_there(options, run, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    options['num_gpu'] = 2
    assert_refused(*run(options), capsys, ['num_gpu: 2', 'no GPU', 'Set num_gpu: auto, or 0'])


def test_an_unknown_flag(options, run):
    status, home = run(options, '--fast')
    assert status == 2 and os.listdir(home) == []


def test_the_unspoilt_tree_runs(options, run):
    options['train']['total_iter'] = 1
    status, home = run(options)
    assert status == 0 and (home / 'experiments/tiny/models/net_g_latest.pth').exists()


def test_an_image_that_breaks_during_the_run(options, run, tmp_path, capsys, monkeypatch):
    """The folder is checked before; what breaks later ends the run with status 2, and the run folder stays."""
    from basicsr_unlearn import compat

    own_copy_of = own_copy(options, tmp_path)
    options['datasets']['train'].update(num_worker_per_gpu=1)

    def spoil_after_the_check(opt):
        for name in ('0000.png', '0001.png', '0002.png', '0003.png'):
            (own_copy_of / 'dataroot_lq' / name).write_bytes(b'')

    monkeypatch.setattr(compat, 'checks', [*compat.checks, spoil_after_the_check])
    status, home = run(options)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and error.startswith('basicsr: error: ') and 'cannot be read as an image' in error
    assert (home / 'experiments/tiny').exists()
