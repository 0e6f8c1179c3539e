"""When to stop, and which of the states on the way to keep."""

import math
from functools import partial

import numpy as np
import torch

from basicsr_unlearn.attacks.targets import psnr
from basicsr_unlearn.methods.forget_target import ask_mirrored
from basicsr_unlearn.models.inference import measuring
from basicsr_unlearn.stop_options import goal_of, level_in_db

AT_ONCE = 32  # probes in one forward


class Probes:
    """Fixed patches cut from the training pairs, on which the stop rule measures; never from a reported set.

    Of forget patches with regions the pixels inside of them are measured.

    Args:
        run (Run): Gives the training data; each process measures its part of the patches.
        options (StopOptions): How many of each source; whether `heldout` is the goal.
    """

    def __init__(self, run, options):
        self.run, self.pairs = run, {}
        dataset, self.compares = run.train_set, goal_of(options) == 'heldout'
        sources = {'forget': dataset.forget, **{f'retain/{name}': source for name, source in dataset.retain.items()}}
        if self.compares:
            sources['heldout'] = dataset.heldout
        many = ('forget', 'heldout') if self.compares else ()
        self.numbers = {name: options.heldout_probes if name in many else options.probes for name in sources}
        self.price = sum(self.numbers.values())  # of one look, by all processes together
        for stream, (name, source) in enumerate(sources.items()):
            pairs, number = [], self.numbers[name]
            for i in range(run.rank, number, run.world_size):
                rng = np.random.default_rng((dataset.seed, 2, stream, i))
                index = i * len(source) // number  # spread over the source
                *images, _, _, skipped = dataset.read_pair(source, index, rng)
                pairs.append(images)
                run.skipped.collect(skipped)
            self.pairs[name] = [torch.stack(images).to(run.device) for images in zip(*pairs, strict=True)]

    def points(self):
        """Return what a forget level is counted from, as `level_in_db` takes it.

        How difficult pairs are is what a network says of them that saw neither these nor those: the reference; without
        one the original, of their mirror images; where it was trained on all turns, the PSNR of the degraded images.
        """
        found = {'input': self._mean_psnr(lambda lq: lq)['forget']}
        if self.compares:
            turned, reference = self.run.train_set.opt.get('use_rot'), self.run.has_reference
            words, ask = 'the degraded images', lambda lq: lq
            if reference:
                words, ask = 'path: pretrain_network_reference', self.run.ask_reference
            elif not turned:
                words, ask = 'the original, of mirror images', partial(ask_mirrored, self.run, mirror='vertical')
            said = self._mean_psnr(ask, ('forget', 'heldout'))
            found['heldout'] = said['forget'] - said['heldout']
            self.run.logger.info(
                f'Held-out pairs are {found["heldout"]:+.2f} dB harder than the forget set, by {words}.'
            )
        return found

    def measure(self, net):
        """Return the mean PSNR (dB) of restored probes: `forget`, `heldout`, `retain/NAME` for each retain source."""
        self.run.cost += sum(len(images[0]) for images in self.pairs.values() if images)
        with measuring(net):
            return self._mean_psnr(net)

    def _mean_psnr(self, restore, names=None):
        chosen = {name: self.pairs[name] for name in names or self.pairs}
        sums = [self._sum_psnr(restore, pair) for pair in chosen.values()]
        sums = self.run.total(torch.tensor(sums, dtype=torch.float64, device=self.run.device)).tolist()
        return {name: total / self.numbers[name] for name, total in zip(chosen, sums, strict=True)}

    @staticmethod
    def _sum_psnr(restore, pair):
        parts = zip(*(images.split(AT_ONCE) for images in pair), strict=True)
        return sum((float(psnr(restore(lq).clamp(0, 1), *rest).double().sum()) for lq, *rest in parts), 0.0)


class StopRule:
    """Judge the probes every few iterations, remember the good states, and say when to stop.

    A state is good while no retain probe, nor the held-out ones, has lost more than `retain_budget` dB against the
    original. Of the good states that meet the forget level the one with the best retain probes is kept. Where held-out
    pairs are the goal, their current PSNR is, moved by how much easier the forget set is; pairs that are restored worse
    than that give themselves away as well, so the state nearest to the level is kept.

    Args:
        options (StopOptions): The checked section `train: stop:`.
        points (dict): What a level is counted from, as `Probes.points` gives it.
        original (dict): Probes of the original, as `Probes.measure` gives them.
        repairs (bool): The method damages first and repairs then: a state beyond the budget is never kept, but ends
            nothing. Default: False.
    """

    def __init__(self, options, points, original, repairs=False):
        self.options, self.original, self.repairs = options, original, repairs
        self.level = level_in_db(options.forget_psnr_below, points)
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
        met = self.level is not None and self.gap(probes) <= 0
        if 'heldout' in probes:
            if self.best is None or abs(self.gap(probes)) < abs(self.gap(self.best['probes'])):
                self.best = self.last_good
            return self._wait() if met or self.waited else None
        if not met:
            return None if self.best is None else self._wait()
        if self.best is None or self.retained(probes) > self.retained(self.best['probes']):
            self.best = self.last_good
        return self._wait()

    def gap(self, probes):
        """Return how far the forget probes are above the level, dB; None without a level."""
        return None if self.level is None else probes['forget'] - self.level - probes.get('heldout', 0.0)

    def words(self, probes):
        """Return for the log what the probes say: the forget level and its goal, and what each other one gained."""
        gap = self.gap(probes)
        goal = '' if gap is None else f' (goal {probes["forget"] - gap:.2f})'
        kept = ', '.join(
            f'{name} {value - self.original[name]:+.2f}' for name, value in probes.items() if name != 'forget'
        )
        return f'forget {probes["forget"]:.2f} dB{goal}; {kept or "no retain"}'

    def _wait(self):
        self.waited += 1
        return 'forget_level' if self.waited > self.options.patience else None

    def keep(self):
        """Return the state to leave behind: the best at the forget level, else the last good one."""
        return self.best or self.last_good

    def worst_loss(self, probes):
        """Return how much the worst retain probe has lost against the original, dB."""
        return max([self.original[name] - value for name, value in probes.items() if name != 'forget'], default=0.0)

    @staticmethod
    def retained(probes):
        """Return the mean of the retain probes; without any, the forget probe, so that less damage is better."""
        values = [value for name, value in probes.items() if name.startswith('retain/')] or [probes['forget']]
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
