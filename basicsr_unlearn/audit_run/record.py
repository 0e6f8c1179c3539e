"""The record of a removal: what was to be forgotten, by what, when, and what is left; hashes and counts, no names."""

import platform
from os import path as osp

import torch
import yaml

from basicsr.version import __version__ as basicsr_version
from basicsr_unlearn import __version__, checkpoint, leftovers, option_file
from basicsr_unlearn.data.digests import forgotten

PLACES = ('dataroot_', 'file_list', 'meta_info_file', 'regions')  # keys that say where the forget set is,
SECRET = (*PLACES, 'glob')  # and one that says which of the files there


def collect(subject, nets):
    """Return `record` of audit.json.

    Args:
        subject (Subject): The audit.
        nets (dict): Its networks.
    """
    summary, options = subject.summary or {}, subject.run_options()
    tree = option_file.read(options, 'the run') if options else None
    return {
        'forgotten': forgotten(subject.forget),
        'finished': summary.get('finished'),
        'versions': {
            'basicsr-unlearn': summary.get('version', __version__),
            'basicsr': basicsr_version,
            'torch': torch.__version__,
            'python': platform.python_version(),
        },
        'options': {'sha256': checkpoint.sha256(options), 'text': options_text(tree)} if tree else None,
        'seeds': [*([f'run {tree.get("manual_seed")}'] if tree else []), f'audit {subject.options.seed}'],
        'weights': {'before': nets['original']['sha256'], 'after': nets['unlearned']['sha256']},
        **{key: summary.get(key) for key in ('cost', 'cost_share', 'iterations', 'kept_iteration', 'stopped_by')},
        'leftovers': _leftovers(subject),
    }


def options_text(opt):
    """Return the option tree as YAML, less where the forget set is."""
    forget = {key: '<forget set>' if key.startswith(SECRET) else value for key, value in _forget(opt).items()}
    places = {str(value) for key, value in _forget(opt).items() if key.startswith(PLACES) and value}
    datasets = {**opt['datasets'], 'train': {**opt['datasets']['train'], 'forget': forget}}
    text = yaml.safe_dump({**opt, 'datasets': datasets}, sort_keys=False)
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, '<forget set>')
    return text


def _forget(opt):
    return opt['datasets']['train']['forget']


def _leftovers(subject):
    """Return what still holds the forgotten data, but for this audit's own pages; of places outside only the names."""
    sets = leftovers.forgotten_sets(subject.opt)
    folder, outside = subject.run_folder, leftovers.outside(subject.opt)
    inside = leftovers.inside(osp.dirname(osp.dirname(folder)), osp.basename(folder), sets) if folder else []
    inside = [entry for entry in inside if entry['kind'] != 'audit']
    return inside + [{**entry, 'path': osp.basename(entry['path'])} for entry in outside]
