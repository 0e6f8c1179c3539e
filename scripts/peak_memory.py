"""Peak memory for the benchmarks: of this process, and of one that does nothing but one thing."""

import subprocess
import sys

import torch


def peak_alone(script, *what):
    """Return the peak memory in MiB that a benchmark, started anew with `--alone WHAT...`, prints last."""
    command = [sys.executable, script, *sys.argv[1:], '--alone', *what]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak_of_this_process():
    """Return the peak memory in MiB so far: CUDA's, or the resident memory of the process (Linux)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    with open('/proc/self/status') as file:  # getrusage would count the parent's memory at the fork
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith('VmHWM'))
