"""`basicsr train --debug`: a few iterations and a few images, and what the whole run would take."""

import resource
import statistics
import sys
import time

import torch

from basicsr.utils import get_root_logger

WARM_UP = 2  # iterations that are not representative: compilation, caches, the original's first answers


class DryRun:
    """Times the iterations of a debug run and logs an estimate for all of `planned_iter`.

    Args:
        opt (dict): The whole option tree.
        device (torch.device): Where the network is.
    """

    def __init__(self, opt, device):
        self.planned = int(opt['train']['planned_iter'])
        self.device, self.ends = device, []

    def tick(self):
        """Note the end of an iteration."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def log(self):
        """Log time and memory; the median leaves out the iterations after which the run validated and saved."""
        times = [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)][WARM_UP - 1 :]
        if not times:
            get_root_logger().warning('Dry run: too few iterations for an estimate.')
            return
        second = statistics.median(times)
        get_root_logger().info(
            f'Dry run: {second:.3f} s for an iteration, data included (median of {len(times)}): '
            f'{self.planned} iterations take about {_duration(second * self.planned)}, measuring and saving not '
            f'counted. Peak memory {peak_memory(self.device) / 2**30:.2f} GiB. The full run: the same command without '
            '--debug.'
        )


def peak_memory(device):
    """Return the peak memory in bytes: the GPU's, or that of this process."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _duration(seconds):
    if seconds < 120:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} minutes' if seconds < 7200 else f'{seconds / 3600:.1f} hours'
