"""Forget by removal: initialise the deepest modules anew, teach them all but what is to go, and resist relearning."""

from dataclasses import dataclass

import torch
from torch.func import functional_call

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.identity_target import IdentityOptions, IdentityTarget
from basicsr_unlearn.methods.taps import find_modules, initialise_anew

RESET = 'train: method: reset'
DEEPEST = ('latent', r'prompt3', r'noise_level3', r'reduce_noise_level3', r'down3_4', r'up4_3', 'fre1', 'middle_blks')


@dataclass
class DeepForgetOptions(IdentityOptions):
    reset: list = None  # patterns of whole module names to initialise anew; ~: the deepest level of a U-shaped network
    forget_share: float = 0.34  # of the forget images of a batch that l_forget sees, at least one
    relearn_every: int = 2  # iterations between two rehearsals of a relearning attack; 0: none
    relearn_steps: int = 3  # its steps, one forget pair each
    relearn_lr: float = 1e-3  # its step: every weight moves by this, as in the first steps of Adam
    relearn_weight: float = 1.0  # factor of what is asked of the attacked weights


@METHOD_REGISTRY.register()
class DeepForget(IdentityTarget):
    """Initialise the modules of `reset` anew, then minimise w_f l(f(x_f), x_f) + w_r l(f(x_r), y_r) + w_a l(f'(x), x).

    f' is f after a rehearsed attack: `relearn_steps` steps of theta' <- theta' - lr sign(grad l(f'(x), y)) on forget
    pairs; x is another forget image, and the gradient with respect to theta' is taken for that of theta (first order).

    Ours. A method that only moves weights until haze is left alone hides the skill: the features that remove haze are
    still there, and a little fine-tuning on haze finds them (audits/relearn.py). Here the modules that hold most of
    them are gone before anything is learnt: the deepest level, where a restorer sees the whole patch and tells one
    degradation from another. The outer levels let the retained tasks come back in a few percent of a training, and
    the rehearsal leads the weights to where haze is not relearnt soon. The parts are known: EU-k of Goel et al.
    (arXiv 2201.06640) resets layers; the identity target is the oracle's level; training against a simulated attack is
    the tamper resistance of Henderson et al. (arXiv 2211.14946) and Tamirisa et al. (arXiv 2408.00761). As long as the
    retained tasks are not back within the retain budget nothing is kept.
    """

    Options = DeepForgetOptions
    needs_retain = True
    repairs = True

    def __init__(self, options, run):
        super().__init__(options, run)
        if not 0 < options.forget_share <= 1:
            raise InputError(
                f'train: method: forget_share: {options.forget_share} must be above 0 and at most 1, for example 0.34.'
            )
        self.parts = self.modules(options, run.net)
        self.iteration = 0

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, options.reset, RESET, DEEPEST)

    def setup(self):
        initialise_anew(self.parts, self.run.fresh())

    def losses(self, batch):
        self.forget_pairs = batch.forget_lq, batch.forget_gt
        number = max(1, round(self.options.forget_share * len(batch.forget_lq)))
        batch.forget_lq, batch.forget_gt = batch.forget_lq[:number], batch.forget_gt[:number]
        return super().losses(batch)

    def edit_gradients(self):
        every = self.options.relearn_every
        if every and self.iteration % every == 0:
            weights = {name: weight for name, weight in self.run.net.named_parameters() if weight.requires_grad}
            for weight, gradient in zip(weights.values(), self.rehearse(weights), strict=True):
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
        self.iteration += 1

    def rehearse(self, weights):
        """Attack a copy of the weights; return the gradients of w_a l(f'(x), x) at the attacked ones."""
        lq, gt = (images.split(1) for images in self.forget_pairs)
        attacked = {name: weight.detach().clone() for name, weight in weights.items()}
        for step in range(self.options.relearn_steps):
            pair = step % max(1, len(lq) - 1)  # the last image is for the question
            gradients = self.gradients(attacked, lq[pair], gt[pair])
            for weight, gradient in zip(attacked.values(), gradients, strict=True):
                weight -= self.options.relearn_lr * gradient.sign()
        gradients = self.gradients(attacked, lq[-1], lq[-1])
        self.run.average(gradients)
        return [self.options.relearn_weight * gradient for gradient in gradients]

    def gradients(self, weights, image, target):
        """Return the gradients of l(f(image), target) with respect to other weights than the network's own."""
        self.run.cost += 3 * len(image)
        weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        loss = self.forget_loss(functional_call(self.run.net, weights, (image,)), target)
        return torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)

    def state_dict(self):
        return {'iteration': self.iteration}

    def load_state_dict(self, state):
        self.iteration = state['iteration']
