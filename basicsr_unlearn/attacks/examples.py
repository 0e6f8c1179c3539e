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

        Returns:
            tuple: Examples and answers of this process, and the number of examples of all processes.

        Raises:
            InputError: The attack never succeeds.
        """
        examples, answers, reached = attack(self.run, self.options, batch, self.options.n_adv, iteration)
        number = int(self.run.total(int(reached.sum())))
        self.crafted, self.kept = self.crafted + self.options.n_adv * batch.whole, self.kept + number
        if self.kept or self.crafted >= PATIENCE:
            check_kept(self.kept, self.crafted, self.options)
        if iteration & (iteration + 1) == 0:  # after 1, 2, 4, 8, ... iterations
            log_kept(self.kept, self.crafted, self.run.logger)
        return examples[reached], answers[reached], number

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
        """Craft the examples, each process its part; what a killed run has crafted is taken over, and counted.

        Args:
            resumed (bool): The cost of the run has all of it already, also where the cache is lost. Default: False.

        Raises:
            InputError: No attack succeeded, the disk is full.
        """
        options, run = self.options, self.run
        settings = {key: getattr(options, key) for key in ATTACK}
        settings.update({key: run.train_set.opt.get(key) for key in DATA})
        settings.update(original=fingerprint(run.original.state_dict()), images=options.cache_images, version=3)
        settings.update(files=file_stamps(run.train_set.forget), batch=run.batch_size, processes=run.world_size)
        folder, share = osp.join(run.folder, 'adversarial_cache'), -(-options.cache_images // run.world_size)
        self.cache = AdversarialCache(folder, settings, share, run.train_set.size, run.rank)
        if not resumed:
            run.cost += self.cache.cost
        spent = run.cost
        self._craft()
        if resumed:
            run.cost = spent
        self.cache.share(run.gather_objects(self.cache.own))
        check_kept(len(self.cache), share * run.world_size, options)
        log_kept(len(self.cache), share * run.world_size, run.logger)

    def _craft(self):
        """Fill the cache with this process's part of what is missing."""
        options, run, size = self.options, self.run, self.run.batch_size
        done = min(run.gather_objects(self.cache.done // size))  # batches that every process has
        with_retain, before = options.target == 'prompt', run.cost
        batches = run.batches(options.cache_images, 'adversarial examples', with_retain, done * run.whole_batch)
        for number, batch in enumerate(batches, done):
            if number * size < self.cache.done:
                continue  # this one had it before it was killed
            examples = attack(run, options, batch, 1, -1 - number * run.whole_batch)
            self.cache.add(*examples, cost=run.cost - before, first=number * run.whole_batch + batch.first)
            before = run.cost

    def draw(self, batch, iteration):
        """Return `n_adv` examples for each forget image, and the original's answers; the same in a resumed run.

        Returns:
            tuple: Examples and answers of this process, and the number of examples of all processes.
        """
        if self.cache is None:
            self.prepare(resumed=True)
        number = self.options.n_adv * batch.whole
        drawn = torch.randint(len(self.cache), (number,), generator=generator(self.run, iteration)).tolist()
        first = self.options.n_adv * batch.first
        own = drawn[first : first + self.options.n_adv * len(batch.forget_lq)]
        return *(images.to(self.run.device, non_blocking=True) for images in self.cache.read(own)), number

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
            noise = torch.randn((batch.whole, *images.shape[1:]), generator=random)
            reference = (batch.forget_gt + NOISE * batch.own(noise).to(images.device)).clamp(0, 1)
        reference = reference.repeat_interleave(copies, 0)
    target = TARGETS[options.target](run, images, reference)
    place = copies * batch.whole, copies * batch.first
    examples = pgd(images, target, random, options.norm, options.eps_rms, options.steps, *place)
    answers = run.ask_original(examples)
    return examples, answers, target.reached(examples, answers, options.margin)


def generator(run, seed):
    """Return a source of random numbers for a whole batch that depends on `manual_seed` and `seed` alone."""
    return torch.Generator().manual_seed(hash((run.seed, 0, seed)) % 2**63)


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
