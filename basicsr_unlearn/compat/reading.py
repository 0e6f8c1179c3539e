"""Option files and images: read without running code, in an order that a resumed run can go on with."""

import contextlib
import functools
import io
import sys

import torch

from basicsr_unlearn import compat
from basicsr_unlearn.compat.shims import shim

_checked = []  # what the option file holds, `--force_yml` included, while BasicSR asks for it


@shim('ordered_yaml', 'basicsr.utils.options')
def _ordered_yaml(original):
    """PyYAML's full loader runs code that an option file names, and takes 1e-4 for text."""
    from basicsr_unlearn.option_file import Loader

    return functools.partial(Loader, known=_checked[-1] if _checked else None), original()[1]


@shim('parse_options', 'basicsr.utils.options', 'basicsr.train', 'basicsr.test')
def _parse_options(original, root_path, is_train=True):
    """BasicSR hands the values of `--force_yml` to eval and exec, after it has seeded: here they are part of the file.

    Then expand `~` and `${NAME}` in every path, and check the input before `train_pipeline` creates anything.
    """
    from basicsr_unlearn import option_file, option_tree
    from basicsr_unlearn.interruption import interruption
    from basicsr_unlearn.options import check_outside, prepare

    found = option_file.arguments()
    if found is None:
        return original(root_path, is_train=is_train)  # ends with a word about the command line
    tree = option_file.read(found.opt, '-opt', found.force_yml)
    option_tree.check_file(tree, f'-opt {found.opt}', is_train)
    interruption.handle()
    opt, args = _parse(original, root_path, is_train, found, tree)
    check_outside('-opt', found.opt, opt['path'].get('experiments_root'))
    prepare(opt, args.debug)
    for check in compat.checks:
        check(opt)
    return opt, args


def _parse(original, root_path, is_train, found, tree):
    """Let BasicSR parse the command line without `--force_yml`, and take what the file holds from `tree`."""
    from basicsr_unlearn import option_file
    from basicsr_unlearn.options import OUR_MODELS

    saved, sys.argv, _checked[:] = sys.argv, option_file.without_force(found), [tree]
    try:
        opt, args = original(root_path, is_train=is_train)
    finally:
        sys.argv, _checked[:] = saved, []
    if tree['num_gpu'] == 'auto' and opt.get('model_type') in OUR_MODELS and not opt['dist']:
        opt['num_gpu'] = min(opt['num_gpu'], 1)  # DataParallel's threads know neither our batches nor bfloat16
    return opt, args


def parse_unchecked(root_path, is_train, tree):
    """Return BasicSR's option tree by sys.argv and what the file holds: nothing checked, expanded or printed."""
    from basicsr.utils import options
    from basicsr_unlearn import option_file

    with contextlib.redirect_stdout(io.StringIO()):
        return _parse(options.parse_options.__wrapped__, root_path, is_train, option_file.arguments(), tree)[0]


@shim('EnlargedSampler', 'basicsr.data.data_sampler', 'basicsr.train')
def _sampler(original, dataset, num_replicas, rank, ratio=1):
    """Data sets that count their samples (sampler.py) get the counting sampler, all others BasicSR's own."""
    from basicsr_unlearn.data.sampler import CountingSampler
    from basicsr_unlearn.interruption import interruption

    made = (CountingSampler if getattr(dataset, 'counts_samples', False) else original)(
        dataset, num_replicas, rank, ratio
    )
    set_epoch = made.set_epoch

    def remember(epoch):
        interruption.epoch = epoch  # an interrupted run saves it
        set_epoch(epoch)

    made.set_epoch = remember
    return made


@shim('build_dataloader', 'basicsr.data', 'basicsr.train', 'basicsr.test')
def _build_dataloader(original, dataset, dataset_opt, num_gpu=1, dist=False, sampler=None, seed=None):
    """A loader draws the seeds of its workers from torch's own generator: a resumed run would draw other numbers."""
    from basicsr_unlearn.interruption import end_workers_at_exit

    end_workers_at_exit()
    loader = original(dataset, dataset_opt, num_gpu, dist, sampler, seed)
    loader.generator = torch.Generator().manual_seed(seed or 0)
    return loader


@shim('worker_init_fn', 'basicsr.data')
def _worker_init_fn(original, worker_id, num_workers, rank, seed):
    """Ctrl-C and batch systems send their signals to workers too, which then die before the run has saved."""
    from basicsr_unlearn.interruption import leave_to_parent

    leave_to_parent()
    original(worker_id, num_workers, rank, seed)


@shim('run', 'basicsr.data.prefetch_dataloader:PrefetchGenerator')
def _prefetch(original, self):
    """With `prefetch_mode: cpu` an error in the thread that reads ahead left the run waiting for ever."""
    try:
        original(self)
    except BaseException as error:
        self.error = error
        self.queue.put(None)


@shim('__next__', 'basicsr.data.prefetch_dataloader:PrefetchGenerator')
def _next_prefetched(original, self):
    """Raise that error where the data are wanted."""
    try:
        return original(self)
    except StopIteration:
        raise getattr(self, 'error', None) or StopIteration from None
