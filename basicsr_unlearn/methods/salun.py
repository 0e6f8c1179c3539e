"""A saliency mask around any other method: only the weights that the forget set speaks to may move."""

from dataclasses import dataclass, field

import torch

from basicsr.losses import build_loss
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import (
    METHOD_REGISTRY,
    UnlearnMethod,
    build_method,
    check_least,
    method_class,
    method_options,
)
from basicsr_unlearn.options import check_choice


@dataclass
class SalUnOptions:
    task: str = 'degradation'  # what is forgotten: degradation, source or instance; handed to the host
    host: dict = field(default_factory=lambda: {'type': 'IdentityTarget'})  # the method that is masked, as a section
    mask_share: float = 0.5  # share of all trainable weights that may move
    aggregate: str = 'sum'  # saliency of a weight: sum: |sum of the batches' gradients|; mean_abs: mean of their moduli
    images: int = 64  # forget images that the saliency is measured on
    forget_opt: dict = field(default_factory=lambda: {'type': 'L1Loss'})  # loss whose gradient is the saliency

    def __post_init__(self):
        check_least(self)
        check_choice('train: method: aggregate', self.aggregate, ('sum', 'mean_abs'))
        if not 0 < self.mask_share <= 1:
            raise InputError(f'train: method: mask_share: {self.mask_share} must be above 0 and at most 1.')


@METHOD_REGISTRY.register()
class SalUn(UnlearnMethod):
    """Let the host method move the weights with the largest |d l(f(x_f), y_f) / d theta| only.

    Source: Fan et al., SalUn: Empowering Machine Unlearning via Gradient-Based Weight Saliency (ICLR 2024, arXiv
    2310.12508): the mask, one threshold for the whole network, share 0.5, the sum of the batches' gradients; their host
    is relabelling. Ours: any host; `mean_abs`, since gradients of different patches cancel in a sum; the fixed weights
    are put back after every step, as weight decay and momentum move them under a masked gradient too.
    """

    Options = SalUnOptions
    holds, saves = 1.25, 0.25  # the fixed weights and the mask

    def __init__(self, options, run):
        self.options, self.run = options, run
        self.forget_loss = build_loss(options.forget_opt).to(run.device)
        self.host = build_method({'task': options.task, **options.host}, run, 'train: method: host')
        self.uses_retain, self.needs_retain = self.host.uses_retain, self.host.needs_retain
        self.repairs = self.host.repairs
        self.mask = self.fixed = None

    @classmethod
    def modules(cls, options, net):
        host = method_class(options.host)
        if host.unmaskable:
            raise InputError(f'train: method: host: type: {host.__name__} {host.unmaskable}. Choose another host.')
        return host.modules(method_options(options.host), net)

    @property
    def done(self):
        return self.host.done

    def trainable(self, net):
        return self.host.trainable(net)

    def setup(self):
        saliency = self.measure_saliency()
        self.keep_rest_fixed(self.choose(saliency))
        self.host.setup()
        self.restore()

    def movable(self):
        return {name: weight for name, weight in self.run.net.named_parameters() if weight.requires_grad}

    def measure_saliency(self):
        """Return |sum of g| or the sum of |g| over batches of forget images, by weight."""
        weights, added = self.movable(), self.options.aggregate == 'sum'
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for batch in self.run.batches(self.options.images, 'saliency', with_retain=False):
            self.run.cost += 3 * len(batch.forget_lq)
            loss = self.forget_loss(self.run.net(batch.forget_lq), batch.forget_gt)
            gradients = torch.autograd.grad(loss, weights.values(), materialize_grads=True)
            if not added:
                self.run.average(gradients)
            for name, gradient in zip(weights, gradients, strict=True):
                total[name] += gradient if added else gradient.abs()
        self.run.average(total.values() if added else ())
        return {name: value.abs() for name, value in total.items()}

    def choose(self, saliency):
        """Return masks that are true for the top share over all tensors together."""
        values = torch.cat([value.flatten() for value in saliency.values()])
        number = max(1, round(self.options.mask_share * len(values)))
        chosen = torch.zeros(len(values), dtype=torch.bool, device=values.device)
        chosen[values.topk(number).indices] = True
        self.run.logger.info(f'SalUn: {number:,} of {len(values):,} weights may move.')
        parts = chosen.split([value.numel() for value in saliency.values()])
        return {name: part.view(saliency[name].shape) for name, part in zip(saliency, parts, strict=True)}

    def keep_rest_fixed(self, mask):
        self.mask = {name: part.to(self.run.device) for name, part in mask.items()}
        self.fixed = {name: weight.detach().clone() for name, weight in self.run.net.named_parameters()}

    @torch.no_grad()
    def restore(self):
        for name, weight in self.run.net.named_parameters():
            fixed = self.fixed[name]
            weight.copy_(torch.where(self.mask[name], weight, fixed) if name in self.mask else fixed)

    def losses(self, batch):
        return self.host.losses(batch)

    def edit_gradients(self):
        self.host.edit_gradients()
        for name, weight in self.movable().items():
            if weight.grad is not None:
                weight.grad.masked_fill_(~self.mask[name], 0)

    def edit_weights(self):
        self.host.edit_weights()
        self.restore()

    def export(self, net):
        self.host.export(net)

    def state_dict(self):
        return {'mask': self.mask, 'host': self.host.state_dict()}

    def load_state_dict(self, state):
        self.keep_rest_fixed(state['mask'])  # the net has the saved weights already
        self.host.load_state_dict(state['host'])
