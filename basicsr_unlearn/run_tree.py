"""The option tree of a run for those who look at runs from outside: as BasicSR would hand it to a model."""

import os
from copy import deepcopy
from os import path as osp

import torch

from basicsr_unlearn.options import prepare

PATHS = ('dataroot_', 'pretrain_network_', 'file_list', 'meta_info_file', 'without', 'regions')  # keys of paths


def complete(tree):
    """Return an option tree as BasicSR's `parse_options` would hand it to a model in this process."""
    opt = deepcopy(tree)
    opt.update(dist=False, rank=0, world_size=1, is_train=True, auto_resume=False)
    opt['num_gpu'] = 1 if torch.cuda.is_available() else 0
    for key, section in opt['datasets'].items():
        section.update(phase=key.split('_')[0], scale=opt['scale'])
    return prepare(opt)


def absolute(tree, key=''):
    """Return the tree with every path that exists made absolute: runs have a folder of their own."""
    if isinstance(tree, dict):
        return {name: absolute(value, str(name)) for name, value in tree.items()}
    if isinstance(tree, str) and ('/' in tree or key.startswith(PATHS)) and (key, tree) != ('without', 'forget'):
        path = os.path.expandvars(osp.expanduser(tree))
        return osp.abspath(path) if osp.exists(path) else tree
    return tree
