"""What an attack on the original aims at, and when it has got there. An example: (N, 3, H, W), float32 in [0, 1].

A target is made for the images of one batch. Called, it gives the objective of `pgd`; `reached` says which examples
are of use. All of them ask the original only, through the run, which counts what that costs.
"""

from contextlib import contextmanager

import torch

from basicsr_unlearn.errors import InputError

LATENTS = ('latent', 'middle_blks', 'conv_after_body', 'body')  # of PromptIR, AdaIR, Restormer; NAFNet; SwinIR; EDSR


class Identity:
    """Points that the original leaves as they are: f_0(x_a) = x_a, as a net that never saw x would leave x.

    Args:
        run (Run): Gives the original.
        images (Tensor): The images to attack.
        reference (Tensor): As many images whose like is to stay; `Prompt` alone needs them.
    """

    def __init__(self, run, images, reference=None):
        self.run, self.before = run, psnr(run.ask_original(images), images)

    def __call__(self, attacked, images):
        return -error(self.run.differentiable_original(attacked), attacked)

    def reached(self, attacked, answers, margin):
        """Return a mask (N,) of the examples that are `margin` dB nearer to being left alone than their image was."""
        return psnr(answers, attacked) > self.before + margin


class Untargeted:
    """Points where the original says something else: the largest change of its answer."""

    def __init__(self, run, images, reference=None):
        self.run, self.before = run, run.ask_original(images)

    def __call__(self, attacked, images):
        return error(self.run.differentiable_original(attacked), self.before)

    def reached(self, attacked, answers, margin):
        """Return a mask (N,): all of them."""
        return torch.ones(len(attacked), dtype=torch.bool, device=attacked.device)


class Prompt:
    """Points that the original takes for what is to stay: its degradation code moves to that of the reference images.

    The code is the softmax of the prompt weights where the net has prompts, else mean and standard deviation of each
    channel of its latent features.
    """

    def __init__(self, run, images, reference):
        self.run = run
        with torch.no_grad():
            self.goal = self._code(reference, run.ask_original)
            self.before = error(self._code(images, run.ask_original), self.goal)

    def __call__(self, attacked, images):
        return -error(self._code(attacked, self.run.differentiable_original), self.goal)

    def reached(self, attacked, answers, margin):
        """Return a mask (N,) of the examples whose code is nearer to the goal than that of their image was."""
        with torch.no_grad():
            return error(self._code(attacked, self.run.ask_original), self.goal) < self.before

    def _code(self, images, ask):
        with degradation_code(self.run.original) as code:
            ask(images)
        return torch.cat(code, 1)


TARGETS = {'identity': Identity, 'prompt': Prompt, 'untargeted': Untargeted}


@contextmanager
def degradation_code(net):
    """Collect what a network says of the degradation during its forwards; the net is as before afterwards.

    Yields:
        list[Tensor]: (N, K) each: the prompt weights of every prompt block, or one latent embedding.

    Raises:
        InputError: The network has neither prompts nor a latent that is known.
    """
    code, modules = [], dict(net.named_modules())
    taps = [module.linear_layer for module in modules.values() if type(module).__name__ == 'PromptGenBlock']
    read = lambda features: features.softmax(1)  # noqa: E731
    if not taps:
        taps, read = [modules[name] for name in LATENTS if name in modules][:1], mean_and_std
    if not taps:
        raise InputError(
            f'train: method: target: prompt: {type(net).__name__} has no prompts and none of {", ".join(LATENTS)}. '
            'Choose identity or untargeted.'
        )
    hooks = [tap.register_forward_hook(lambda _, __, features: code.append(read(features.float()))) for tap in taps]
    try:
        yield code
    finally:
        for hook in hooks:
            hook.remove()


def error(a, b):
    """Return the mean square difference of each pair, (N,)."""
    return (a - b).square().flatten(1).mean(1)


def psnr(a, b, region=None):
    """Return the PSNR (dB) of each pair of images in [0, 1], (N,); with `region` (N, 1, H, W) of the pixels in it."""
    wrong = error(a, b) if region is None else error(a * region, b * region) / region.flatten(1).mean(1)
    return -10 * torch.log10(wrong + 1e-10)


def mean_and_std(features):
    """Return mean and standard deviation over space of each channel, (N, 2 C), of features (N, C, H, W)."""
    flat = features.flatten(2)
    return torch.cat([flat.mean(2), (flat.var(2, correction=0) + 1e-8).sqrt()], 1)
