"""Files that are old or new under their names, never half; and the removal of those that are not needed any more."""

import os
import re
from contextlib import suppress
from os import path as osp

import torch


def atomic_save(content, path):
    """Write with torch.save: `path` is old or new, never half."""

    def write(temporary):
        with open(temporary, 'wb') as file:  # torch, handed a name, hides the reason of a failure
            torch.save(content, file)

    atomic(path, write)


def atomic_write(content, path):
    """Write text or bytes as `atomic_save` does."""
    content = content.encode() if isinstance(content, str) else content

    def write(temporary):
        with open(temporary, 'wb') as file:
            file.write(content)

    atomic(path, write)


def atomic(path, write):
    """Let `write` make a temporary file beside `path`, flush it to disk and rename it: `path` is old or new.

    Raises:
        OSError: It cannot be written; `filename` is `path`, which is as it was before.
    """
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # some network disks cannot
            _flush(osp.dirname(path) or '.')  # the new name
    except Exception as error:
        reason = error
        while reason and not isinstance(reason, OSError):  # torch.save's own complaint follows that of the file
            reason = reason.__context__
        if reason is None:
            raise
        raise OSError(reason.errno, reason.strerror or str(reason), path) from error
    finally:
        with suppress(OSError):
            os.remove(temporary)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_half_written(folder):
    """Remove the temporary files of `atomic` that a killed process has left in a folder."""
    for name in os.listdir(folder):
        if re.fullmatch(r'.+\.\d+\.tmp', name):
            os.remove(osp.join(folder, name))


def remove_old(models, states, keep):
    """Remove all but the last written `keep` states of a training, and the weights that belong to none of those.

    Args:
        models (str): Folder of `net_g_ITERATION.pth`.
        states (str): Folder of `ITERATION.state`.
        keep (int): How many; None or 0 removes none.
    """
    if not keep:
        return
    found = [osp.join(states, name) for name in os.listdir(states) if re.fullmatch(r'\d+\.state', name)]
    found.sort(key=osp.getmtime)  # a run that has gone back to an earlier one writes smaller numbers
    for path in found[:-keep]:
        os.remove(path)
    kept = {f'net_g_{osp.basename(path)[:-6]}.pth' for path in found[-keep:]}
    for name in os.listdir(models):
        if re.fullmatch(r'net_g_\d+\.pth', name) and name not in kept:
            os.remove(osp.join(models, name))
