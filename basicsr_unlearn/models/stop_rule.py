"""When to stop, and which of the states on the way to keep."""

import math

import numpy as np
import torch

from basicsr_unlearn.attacks.targets import psnr
from basicsr_unlearn.models.inference import measuring
from basicsr_unlearn.stop_options import level_in_db


class Probes:
    """Fixed patches cut from the training pairs, on which the stop rule measures; never from a reported set.

    Args:
        run (Run): Gives the training data; each process measures its part of the patches.
        number (int): Patches of each source.
    """

    def __init__(self, run, number):
        self.run, self.number, self.pairs = run, number, {}
        dataset = run.train_set
        sources = {'forget': dataset.forget, **{f'retain/{name}': source for name, source in dataset.retain.items()}}
        for stream, (name, source) in enumerate(sources.items()):
            pairs = []
            for i in range(run.rank, number, run.world_size):
                rng = np.random.default_rng((dataset.seed, 2, stream, i))
                index = i * len(source) // number  # spread over the source
                *images, _, _, skipped = dataset.read_pair(source, index, rng)
                pairs.append(images)
                run.skipped.collect(skipped)
            self.pairs[name] = [torch.stack(images).to(run.device) for images in zip(*pairs, strict=True)]

    def input_psnr(self):
        """Return the mean PSNR (dB) of the degraded forget probes."""
        return self._mean_psnr(lambda lq: lq)['forget']

    def measure(self, net):
        """Return the mean PSNR (dB) of the restored probes: `forget`, and `retain/NAME` for each retain source."""
        self.run.cost += sum(len(images[0]) for images in self.pairs.values() if images)
        with measuring(net):
            return self._mean_psnr(net)

    def _mean_psnr(self, restore):
        sums = [psnr(restore(pair[0]).clamp(0, 1), pair[1]).sum() if pair else 0.0 for pair in self.pairs.values()]
        sums = self.run.total(torch.tensor(sums, dtype=torch.float64, device=self.run.device))
        return dict(zip(self.pairs, (sums / self.number).tolist(), strict=True))


class StopRule:
    """Judge the probes every few iterations, remember the good states, and say when to stop.

    A state is good while no retain probe has lost more than `retain_budget` dB against the original. Of the good states
    that meet the forget level the one with the best retain probes is kept.

    Args:
        options (StopOptions): The checked section `train: stop:`.
        input_psnr (float): PSNR of the degraded forget probes, dB.
        original (dict): Probes of the original, as `Probes.measure` gives them.
        repairs (bool): The method damages first and repairs then: a state beyond the budget is never kept, but ends
            nothing. Default: False.
    """

    def __init__(self, options, input_psnr, original, repairs=False):
        self.options, self.original, self.repairs = options, original, repairs
        self.level = level_in_db(options.forget_psnr_below, input_psnr)
        self.last_good = self.best = None  # {'iter', 'probes', 'weights'}
        self.waited = 0

    def judge(self, iteration, probes, weights):
        """Take note of a state; return why to stop, or None.

        Args:
            iteration (int): Iterations done.
            probes (dict): Probes of the current net.
            weights (callable): Gives a copy of the current weights.

        Returns:
            str | None: `diverged`, `retain_budget`, `forget_level`, or None to go on.
        """
        if not all(math.isfinite(value) for value in probes.values()):
            return 'diverged'
        if self.options.retain_budget is not None and self.worst_loss(probes) > self.options.retain_budget:
            return None if self.repairs else 'retain_budget'
        self.last_good = {'iter': iteration, 'probes': probes, 'weights': weights()}
        if self.level is None or probes['forget'] > self.level:
            return None if self.best is None else self._wait()
        if self.best is None or self.retained(probes) > self.retained(self.best['probes']):
            self.best = self.last_good
        return self._wait()

    def _wait(self):
        self.waited += 1
        return 'forget_level' if self.waited > self.options.patience else None

    def keep(self):
        """Return the state to leave behind: the best that meets the forget level, else the last good one."""
        return self.best or self.last_good

    def worst_loss(self, probes):
        """Return how much the worst retain probe has lost against the original, dB."""
        return max([self.original[name] - value for name, value in probes.items() if name != 'forget'], default=0.0)

    @staticmethod
    def retained(probes):
        """Return the mean of the retain probes; without any, the forget probe, so that less damage is better."""
        values = [value for name, value in probes.items() if name != 'forget'] or [probes['forget']]
        return sum(values) / len(values)

    def state_dict(self):
        return {
            'original': self.original,
            'level': self.level,
            'last_good': self.last_good,
            'best': self.best,
            'waited': self.waited,
        }

    def load_state_dict(self, state):
        for key, value in state.items():
            setattr(self, key, value)
