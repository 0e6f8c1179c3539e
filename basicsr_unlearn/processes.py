"""Several processes: how they find each other, and how they notice that one of them is gone."""

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta

import torch
from torch import distributed

from basicsr_unlearn.errors import InputError

BEAT = 3.0  # seconds between two signs of life
SILENCE = 40.0  # seconds after which a process without one is taken for dead
LOST = 1  # exit status of those that are left
LOSSES = ('Connection closed by peer', 'Connection reset', 'Broken pipe', 'NCCL', 'Timed out waiting', 'Socket')
_watches = []


def join_torchrun():
    """Join the processes that torchrun has started; NCCL for tensors on GPUs, gloo for those on the CPU."""
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher pytorch: {missing[0]} is not set. Start with: torchrun --nproc_per_node=N -m basicsr_unlearn '
            'train -opt FILE --launcher pytorch'
        )
    _join(int(os.environ.get('LOCAL_RANK', os.environ['RANK'])))


def join_slurm(port=None):
    """Join the tasks of a Slurm step (`srun`); the first host of the step is where they meet.

    Args:
        port (int): Of the meeting. Default: `MASTER_PORT`, else 29500.

    Raises:
        InputError: Not inside a step, or `scontrol` does not answer.
    """
    try:
        rank, size, nodes = (os.environ[name] for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'))
    except KeyError as error:
        raise InputError(
            f'--launcher slurm: {error.args[0]} is not set. Start with: srun python -m basicsr_unlearn train -opt FILE '
            '--launcher slurm'
        ) from None
    try:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f'--launcher slurm: scontrol show hostnames {nodes} failed ({error}).') from None
    os.environ.update(RANK=rank, WORLD_SIZE=size, MASTER_ADDR=hosts.stdout.split()[0])
    os.environ['MASTER_PORT'] = str(port or os.environ.get('MASTER_PORT', 29500))
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', rank)
    _join(int(os.environ['LOCAL_RANK']))


def _join(local_rank):
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(local_rank % gpus)
    try:
        distributed.init_process_group(backend='cpu:gloo,cuda:nccl' if gpus else 'gloo')
    except distributed.DistNetworkError as error:
        place = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
        reason = str(error).split('\n')[0]
        raise InputError(f'--launcher: no meeting at {place}: {reason} Set another MASTER_PORT.') from None
    _watches.append(Watch())


def leave(fine):
    """Say to the others that this process ends, and whether all is well with it."""
    while _watches:
        _watches.pop().close(fine)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def is_loss(error):
    """Return whether an error says that another process is gone."""
    return distributed.is_initialized() and (
        isinstance(error, distributed.DistError) or any(words in str(error) for words in LOSSES)
    )


class Watch:
    """A thread that gives signs of life, and ends this process where another one gives none or ends with an error.

    Waiting for a process that is gone takes half an hour or more otherwise. The signs are counters in the store in
    which the processes have met.
    """

    def __init__(self):
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        host, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        self.store = distributed.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=SILENCE))
        self.prefix = f'basicsr_unlearn/{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}'
        self.over, self.heard = threading.Event(), {}
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def close(self, fine):
        """Stop watching, and leave word."""
        self.over.set()
        self.thread.join()
        try:
            self.store.set(f'{self.prefix}/left/{self.rank}', 'fine' if fine else 'error')
        except (RuntimeError, distributed.DistError):
            pass  # the store went with the first process, which is all that others need to know

    def _watch(self):
        while not self.over.wait(BEAT):
            try:
                fault = self._look()
            except (RuntimeError, distributed.DistError):
                fault = 'the process that the others meet at is gone'
            if fault and not self.over.wait(BEAT) and self._is_still(fault):  # the main thread may know better
                print(f'basicsr: error: {lost(fault)}', file=sys.stderr, flush=True)
                os._exit(LOST)

    def _is_still(self, fault):
        """Look again: after a pause of this process itself, the others have had no time for a sign."""
        try:
            return self._look() == fault
        except (RuntimeError, distributed.DistError):
            return True

    def _look(self):
        """Give a sign of life and look for those of the others; return what is wrong, or None."""
        self.store.add(f'{self.prefix}/alive/{self.rank}', 1)
        for other in set(range(self.size)) - {self.rank}:
            if self.store.check([f'{self.prefix}/left/{other}']):
                if self.store.get(f'{self.prefix}/left/{other}') == b'error':
                    return f'process {other} of {self.size} has ended with an error'
                continue
            count = self.store.add(f'{self.prefix}/alive/{other}', 0)
            before, since = self.heard.get(other, (None, 0.0))
            if count != before:
                self.heard[other] = count, time.monotonic()
            elif time.monotonic() - since > SILENCE:
                return f'process {other} of {self.size} has given no sign of life for {SILENCE:.0f} s'
        return None


def lost(reason='another process is gone'):
    """Return the message of a process that cannot go on without the others."""
    return f'{reason}; this one ends too. See its message, and go on with --auto_resume.'
