"""What is known of small weight files: the `manifest.json` beside them."""

import json
from os import path as osp

from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.checkpoint import resolve, sha256
from basicsr_unlearn.errors import InputError


def read_entry(path):
    """Return what `manifest.json` beside a weight file says of it, or None.

    Raises:
        InputError: The file is not the one that the manifest describes.
    """
    file = resolve(path)
    manifest = osp.join(osp.dirname(file), 'manifest.json')
    if not osp.isfile(manifest) or not osp.isfile(file):
        return None
    with open(manifest, encoding='utf-8') as stream:
        entry = json.load(stream).get(osp.basename(file))
    if entry and entry['sha256'] != sha256(file):
        raise InputError(f'{path}: its sha256 is not the one in {manifest}. Restore the file.')
    return entry


def oracle_cost(opt):
    """Return the oracle's training cost from `train: oracle_cost` or the manifest beside its weights, or None."""
    path = opt['path'].get('pretrain_network_oracle')
    entry = (read_entry(path) if path else None) or {}
    return opt['train'].get('oracle_cost') or entry.get('cost')


def write_entry(path, entry):
    """Add what is known of a weight file to the `manifest.json` beside it."""
    manifest = osp.join(osp.dirname(path), 'manifest.json')
    known = {}
    if osp.isfile(manifest):
        with open(manifest, encoding='utf-8') as file:
            known = json.load(file)
    known[osp.basename(path)] = entry
    atomic_write(json.dumps(known, indent=2, sort_keys=True) + '\n', manifest)
