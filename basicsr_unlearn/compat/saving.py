"""Saving and going on: a failed save is an error, states are read without running code, logs may fail."""

import functools

import torch

from basicsr_unlearn import full_disk
from basicsr_unlearn.compat.shims import shim

tb_writers = []


class _TorchWithAtomicSave:
    """Everything of torch, except that `save` is atomic, adds what stands beside, and remembers whether it failed."""

    def __init__(self):
        from basicsr_unlearn.atomic import atomic_save

        self._save, self.error, self.beside = atomic_save, None, {}

    def __getattr__(self, name):
        return getattr(torch, name)

    def save(self, content, path):
        try:
            self._save({**content, **self.beside}, path)
            self.error = None
        except Exception as error:
            self.error = error
            raise


@shim('save_network', 'basicsr.models.base_model:BaseModel')
@shim('save_training_state', 'basicsr.models.base_model:BaseModel')
def _save(original, self, *args, **kwargs):
    """A failed save was a warning, "Just ignore it.", and exit status 0; a killed save left half a file.

    BasicSR still tries three times; the error of the last attempt is raised where it would go on. It knows nothing to
    save with the weights: what a model has as `beside_weights`, a dictionary, goes into the file as well.
    """
    from basicsr.models import base_model

    base_model.torch = _TorchWithAtomicSave() if base_model.torch is torch else base_model.torch
    base_model.torch.error, base_model.torch.beside = None, getattr(self, 'beside_weights', {})
    original(self, *args, **kwargs)
    if base_model.torch.error is not None:
        raise base_model.torch.error


@shim('load_resume_state', 'basicsr.train')
def _load_resume_state(original, opt):
    """BasicSR asks for a CUDA device even where there is none, and reads a state without asking what is in it."""
    from basicsr_unlearn import resume
    from basicsr_unlearn.data.sampler import CountingSampler

    CountingSampler.start_iter = 0
    resume.check_names(opt)
    current_device, load = torch.cuda.current_device, torch.load
    if not torch.cuda.is_available():
        torch.cuda.current_device = lambda: 'cpu'
    torch.load = functools.partial(resume.read_state, load)
    try:
        state = original(opt)
    finally:
        torch.cuda.current_device, torch.load = current_device, load
    if state:
        resume.check(opt, state)
    return state


@shim('resume_training', 'basicsr.models.base_model:BaseModel')
def _resume_training(original, self, resume_state):
    """A resumed run starts its epoch again: tell the counting sampler where to go on."""
    from basicsr_unlearn.data.sampler import CountingSampler
    from basicsr_unlearn.errors import InputError

    try:
        original(self, resume_state)
    except (AssertionError, KeyError, ValueError) as error:
        raise InputError(f'path: resume_state: is of a run with other options: {error}') from error
    CountingSampler.start_iter = resume_state['iter']


@shim('get_root_logger', 'basicsr.train', 'basicsr.test')
def _get_root_logger(original, **kwargs):
    """A log file that cannot be written prints a traceback for every line."""
    logger = original(**kwargs)
    full_disk.quieten(logger)
    return logger


@shim('init_tb_logger', 'basicsr.utils.logger', 'basicsr.utils', 'basicsr.train')
def _init_tb_logger(original, log_dir):
    """Only `validation` is handed the writer; a second writer on one folder makes the live page drop events.

    Its thread ends on a full disk, and with it the run at the next value.
    """
    writer = original(log_dir)
    tb_writers.append(writer and full_disk.TensorBoard(writer))
    return tb_writers[-1]
