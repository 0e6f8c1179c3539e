"""Where a method gets its adversarial examples from: crafted from each batch, or once, into a cache."""

from os import path as osp

import torch

from basicsr_unlearn.attacks.adversarial_cache import AdversarialCache
from basicsr_unlearn.attacks.pgd import pgd
from basicsr_unlearn.attacks.targets import TARGETS
from basicsr_unlearn.checkpoint import fingerprint
from basicsr_unlearn.data.sources import file_stamps
from basicsr_unlearn.errors import InputError

NOISE = 25 / 255  # on clean forget images, for a reference where there is no retain image
PATIENCE = 64  # examples crafted online until an attack that never succeeds is an error
FEW = 0.1  # keep rate below which there is a warning
ATTACK = ('target', 'margin', 'norm', 'eps_rms', 'steps')  # options that decide an example
DATA = ('forget', 'retain', 'gt_size', 'use_hflip', 'use_rot', 'manual_seed')  # and those that decide a sample


class OnlineExamples:
    """Examples crafted from the forget images of each batch against the frozen original.

    Args:
        run (Run): Gives the original.
        options (InstanceOptions): The attack, and `n_adv`.
    """

    def __init__(self, run, options):
        self.run, self.options = run, options
        self.crafted = self.kept = 0

    def prepare(self):
        """Nothing is needed before iteration 1."""

    def draw(self, batch, iteration):
        """Return the examples that are of use, at most `n_adv` for each forget image, and the original's answers.

        Raises:
            InputError: The attack never succeeds.
        """
        examples, answers, reached = attack(self.run, self.options, batch, self.options.n_adv, iteration)
        self.crafted, self.kept = self.crafted + len(reached), self.kept + int(reached.sum())
        if self.kept or self.crafted >= PATIENCE:
            check_kept(self.kept, self.crafted, self.options)
        if iteration & (iteration + 1) == 0:  # after 1, 2, 4, 8, ... iterations
            log_kept(self.kept, self.crafted, self.run.logger)
        return examples[reached], answers[reached]

    def close(self):
        """Log the keep rate of the whole run."""
        if self.crafted:
            log_kept(self.kept, self.crafted, self.run.logger)


class CachedExamples:
    """Examples crafted once, from `cache_images` forget patches, and drawn from at random.

    Args:
        run (Run): Gives the original and the patches.
        options (InstanceOptions): The attack, `n_adv`, `cache_images` and `keep_cache`.
    """

    def __init__(self, run, options):
        self.run, self.options, self.cache = run, options, None

    def prepare(self, resumed=False):
        """Craft the examples, each process its share; what a killed run has crafted is taken over, and counted.

        Args:
            resumed (bool): The cost of the run has all of it already, also where the cache is lost. Default: False.

        Raises:
            InputError: No attack succeeded, the disk is full.
        """
        options, run = self.options, self.run
        share = -(-options.cache_images // run.world_size)
        settings = {key: getattr(options, key) for key in ATTACK}
        settings.update({key: run.train_set.opt.get(key) for key in DATA})
        settings.update(original=fingerprint(run.original.state_dict()), images=share, version=2)
        settings['files'] = file_stamps(run.train_set.forget)
        self.cache = AdversarialCache(
            osp.join(run.folder, 'adversarial_cache'), settings, share, run.train_set.size, run.rank
        )
        if not resumed:
            run.cost += self.cache.cost
        spent = before = run.cost
        first, with_retain = run.rank * share, options.target == 'prompt'
        for batch in run.batches(first + share, 'adversarial examples', with_retain, first + self.cache.done):
            examples = attack(run, options, batch, 1, -1 - self.cache.done)
            self.cache.add(*examples, cost=run.cost - before)
            before = run.cost
        if resumed:
            run.cost = spent
        check_kept(len(self.cache), share, options)
        log_kept(len(self.cache), share, run.logger)

    def draw(self, batch, iteration):
        """Return `n_adv` examples for each forget image, and the original's answers; the same in a resumed run."""
        if self.cache is None:
            self.prepare(resumed=True)
        number = self.options.n_adv * len(batch.forget_lq)
        drawn = torch.randint(len(self.cache), (number,), generator=generator(self.run, iteration))
        return [images.to(self.run.device, non_blocking=True) for images in self.cache.read(drawn.tolist())]

    def close(self):
        """Remove the cache, which holds forget images, or keep it if the option says so."""
        if self.cache is not None and not self.options.keep_cache:
            self.cache.remove()


EXAMPLES = {'online': OnlineExamples, 'cache': CachedExamples}


def attack(run, options, batch, copies, seed):
    """Attack the original from `copies` random starts around each forget image of a batch.

    Returns:
        tuple[Tensor]: The examples and the original's answers, (N, 3, H, W) each, and a mask (N,): which are of use.
    """
    random = generator(run, seed)
    images, reference = batch.forget_lq.repeat_interleave(copies, 0), None
    if options.target == 'prompt':
        reference = batch.retain_lq
        if reference is None:
            noise = torch.randn(batch.forget_gt.shape, generator=random).to(images.device)
            reference = (batch.forget_gt + NOISE * noise).clamp(0, 1)
        reference = reference.repeat_interleave(copies, 0)
    target = TARGETS[options.target](run, images, reference)
    examples = pgd(images, target, random, options.norm, options.eps_rms, options.steps)
    answers = run.ask_original(examples)
    return examples, answers, target.reached(examples, answers, options.margin)


def generator(run, seed):
    """Return a source of random numbers that depends on `manual_seed`, the process and `seed` alone."""
    return torch.Generator().manual_seed(hash((run.seed, run.rank, seed)) % 2**63)


def check_kept(kept, crafted, options):
    """Raise InputError where no attack succeeded."""
    if not kept:
        raise InputError(
            f'train: method: target: {options.target}: none of {crafted} adversarial examples reached it. Raise '
            f'eps_rms ({options.eps_rms:.4g}) or steps ({options.steps}), lower margin ({options.margin:g}), or set '
            'target: untargeted.'
        )


def log_kept(kept, crafted, logger):
    """Log the keep rate; warn where hardly any example holds the network."""
    text = f'Adversarial examples: {kept} of {crafted} kept ({kept / crafted:.0%}).'
    if kept < FEW * crafted:
        logger.warning(f'{text} So few hardly hold what is to stay.')
    else:
        logger.info(text)
