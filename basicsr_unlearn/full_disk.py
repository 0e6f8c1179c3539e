"""A full or read-only disk: found before a run, one line where it ends one, and no end of what a run can do without."""

import errno
import functools
import logging
import os
import shutil
import sys
import threading
from os import path as osp

from basicsr_unlearn.errors import InputError

REASONS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
SAVED = 6  # times the weights: a checkpoint, in its state Adam's two means and two states to go back to, the result


def check_room(folder, net):
    """Raise InputError unless the weights of a network and a training state fit where a run will write."""
    while not osp.exists(folder):
        folder = osp.dirname(folder)
    if not os.access(folder, os.W_OK):
        raise InputError(f'{folder}: cannot be written. Make it writable, or run in another folder.')
    needed = SAVED * sum(weight.nbytes for weight in net.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f'{folder}: {free / 2**20:.1f} MiB are free; a checkpoint and its state need {needed / 2**20:.1f}. Make '
            'room, or run in another folder.'
        )


def explain(error):
    """Return the line for an OSError of `REASONS`."""
    return (
        f'{error.filename or os.getcwd()}: cannot be read or written: {error.strerror}. What was saved before is '
        'whole. Make room, or mend its rights; then the same command goes on (train: with --auto_resume).'
    )


def quieten(logger):
    """Let the file handlers of a logger warn once instead of printing a traceback for every line."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = functools.partial(_log_failed, logger, handler)


def _log_failed(logger, handler, record):
    if not getattr(handler, 'failed', False):
        handler.failed = True  # first, as the warning comes here as well
        logger.warning(f'{handler.baseFilename}: cannot be written: {sys.exc_info()[1]}. The run goes on.')


class TensorBoard:
    """A writer that falls silent when its thread has ended because the file cannot be written.

    Args:
        writer (SummaryWriter): The writer itself.
    """

    def __init__(self, writer):
        self._writer = writer
        threading.excepthook = _thread_failed

    def __getattr__(self, name):
        method = getattr(self._writer, name)

        def call(*args, **kwargs):
            try:
                return method(*args, **kwargs)
            except OSError:  # again that of the thread, which has been told
                return None

        return call


def _thread_failed(failure):
    if isinstance(failure.exc_value, OSError) and 'AsyncWriter' in type(failure.thread).__name__:
        text = f'TensorBoard: cannot be written: {failure.exc_value}. The run goes on without it.'
        logging.getLogger('basicsr').warning(text)
    else:
        threading.__excepthook__(failure)
