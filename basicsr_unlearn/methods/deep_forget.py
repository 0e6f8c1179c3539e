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
    relearn_steps: int = 40  # of the rehearsed attack, one in each iteration; then it begins anew. 0: none
    relearn_lr: float = 3e-4  # its learning rate, Adam
    relearn_weight: float = 1.0  # w_a, factor of what is asked of the attacked weights
    relearn_outer: float = 0.5  # share of that which reaches the modules that are not in `reset`

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.forget_share <= 1:
            raise InputError(
                f'train: method: forget_share: {self.forget_share} must be above 0 and at most 1, for example 0.34.'
            )


@METHOD_REGISTRY.register()
class DeepForget(IdentityTarget):
    """Initialise the modules of `reset` anew, then minimise w_f l(f(x_f), x_f) + w_r l(f(x_r), y_r) + w_a l(f'(x), x).

    f' is f under a rehearsed attack: a copy of the weights that is fine-tuned on forget pairs (x', y'), one Adam step
    on l(f'(x'), y') in each iteration, and replaced by the current weights after `relearn_steps` of them. The gradient
    of the last term with respect to the copy is taken for that of theta (first order); of the outer modules, which the
    retained tasks come back through, only a share of it (`relearn_outer`).

    Ours. A method that only moves weights until haze is left alone hides the skill: the features that remove haze are
    still there, and a little fine-tuning on haze finds them (audits/relearn.py). Here the modules that hold most of
    them are gone before anything is learnt: the deepest level, where a restorer sees the whole patch and tells one
    degradation from another. The outer levels let the retained tasks come back in a few percent of a training, and
    the rehearsal leads the weights to where haze is not relearnt soon. The parts are known: EU-k of Goel et al.
    (arXiv 2201.06640) resets layers; the identity target is the oracle's level; training against a simulated attack is
    the tamper resistance of Henderson et al. (arXiv 2211.14946) and Tamirisa et al. (arXiv 2408.00761). As long as the
    retained tasks are not back within the retain budget nothing is kept. `training_states/` hold the attacked copy as
    well, which has relearnt a little: they are not for publishing.
    """

    Options = DeepForgetOptions
    needs_retain = True
    holds, saves = 4.0, 3.0  # the attacked weights, their gradients, two moments of Adam; all but the gradients
    repairs = True

    def __init__(self, options, run):
        super().__init__(options, run)
        self.parts = self.modules(options, run.net)
        self.inner = tuple(f'{name}.' for name in self.parts)
        self.iteration, self.attacked = 0, None

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, options.reset, RESET, DEEPEST)

    def setup(self):
        initialise_anew(self.parts, self.run.fresh())

    def losses(self, batch):
        (own, number), *spare = self.divide(batch)
        self.attack, self.question = ((batch.forget_lq[part], batch.forget_gt[part], n) for part, n in spare)
        batch.forget_lq = batch.forget_lq[own]
        forget, retain = self.restore_both(batch)
        loss = self.mean_of_all(forget, batch.forget_lq, number)
        return {'l_forget': self.options.forget_weight * loss, **self.retain_term(retain, batch)}

    def divide(self, batch):
        """Divide the forget images of the whole batch between l_forget, the attack and the question that follows it.

        Returns:
            list[tuple(slice, int)]: For each the images of this process, and how many all processes have.
        """
        shown = max(1, round(self.options.forget_share * batch.whole))
        spare = shown if shown < batch.whole else 0
        half = spare + (batch.whole - spare + 1) // 2
        parts = (0, shown), (spare, half), (half if half < batch.whole else spare, batch.whole)
        return [(slice(max(low - batch.first, 0), max(high - batch.first, 0)), high - low) for low, high in parts]

    def mean_of_all(self, pred, target, number):
        """Return the part of this process in the loss of `number` images; the mean of the parts is that loss."""
        if not len(pred):
            return pred.sum()
        return self.forget_loss(pred, target) * (len(pred) * self.run.world_size / number)

    def edit_gradients(self):
        if self.options.relearn_steps:
            if self.iteration % self.options.relearn_steps == 0:
                self.begin_attack({name: weight.detach().clone() for name, weight in self.moving().items()})
            self.rehearse()
        self.iteration += 1

    def moving(self):
        """Return the weights that are attacked: those that train."""
        return {name: weight for name, weight in self.run.net.named_parameters() if weight.requires_grad}

    def begin_attack(self, weights):
        self.attacked = {name: weight.requires_grad_() for name, weight in weights.items()}
        self.attacker = torch.optim.Adam(self.attacked.values(), self.options.relearn_lr)

    def rehearse(self):
        """Let the attack make a step, and add the gradients of w_a l(f'(x), x) to those of the network."""
        lq, gt, number = self.attack
        self.differentiate(lq, gt, number)
        self.attacker.step()
        lq, _, number = self.question
        self.differentiate(lq, lq, number)
        for name, weight in self.moving().items():
            gradient = self.attacked[name].grad
            if gradient is not None:
                share = 1.0 if name.startswith(self.inner) else self.options.relearn_outer
                gradient = self.options.relearn_weight * share * gradient
                weight.grad = gradient if weight.grad is None else weight.grad + gradient

    def differentiate(self, images, target, number):
        """Fill in the gradients of l(f'(images), target) with respect to the attacked weights, over all processes."""
        self.run.cost += 3 * len(images)
        self.attacker.zero_grad()
        if len(images):
            pred = functional_call(self.run.net, self.attacked, (images,))
            self.mean_of_all(pred, target, number).backward()
        if self.run.world_size > 1:  # one may have no image
            for weight in self.attacked.values():
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            self.run.average([weight.grad for weight in self.attacked.values()])

    def state_dict(self):
        if self.attacked is None:
            return {'iteration': self.iteration}
        weights = {name: weight.detach() for name, weight in self.attacked.items()}
        return {'iteration': self.iteration, 'attacked': weights, 'attacker': self.attacker.state_dict()}

    def load_state_dict(self, state):
        self.iteration = state['iteration']
        if 'attacked' in state:
            self.begin_attack({name: weight.to(self.run.device) for name, weight in state['attacked'].items()})
            self.attacker.load_state_dict(state['attacker'])
