"""Forget in low-rank adapters whose share of every feature is to be zero on the retain set; then merge them."""

import re
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.forget_target import TargetOptions, forget_target
from basicsr_unlearn.methods.identity_target import IdentityTarget
from basicsr_unlearn.methods.taps import find_modules, tapped

LAYERS = 'train: method: layers'
ADAPTER = 'default'  # peft's name of an only adapter


@dataclass
class ResidualOptions(TargetOptions):
    layers: list = None  # patterns of whole module names, to adapt them or all inside; ~: 1x1 convolutions and Linear
    rank: int = 8  # of the adapters
    alpha: float = 8.0  # Delta is multiplied by alpha / rank
    residual_weight: float = 1.0  # factor of l_residual, a sum over the layers
    shift_weight: float = 0.0  # factor of l_shift, likewise

    def __post_init__(self):
        super().__post_init__()
        if self.rank < 1:
            raise InputError(f'train: method: rank: {self.rank} must be at least 1.')
        if not self.alpha > 0:
            raise InputError(f'train: method: alpha: {self.alpha} must be above 0.')


@METHOD_REGISTRY.register()
class ResidualAlignmentLoRA(IdentityTarget):
    """Minimise w_f l(f(x_f), t) + w_d sum |D_l(x_r)|^2 / |P_l(x_r)|^2 + w_r l(f(x_r), y_r) over adapters alone.

    Source: Qin et al., Residual Feature Alignment Using LoRA (arXiv 2411.08443), of which only the abstract was at
    hand. Theirs: a layer's feature is P_l + D_l, what it was trained to give and what its adapter adds, D_l = B_l A_l
    h_l; D_l is to be zero on the retain set and shifted on the forget set, inside and at the output. Not known: rank,
    layers, shift, weights. Ours: all these; at the output t of `forget_target`; inside, on request, w_s sum |P_l(x_f)
    + D_l(x_f) - s_l|^2 / |P_l(x_r)|^2, where s_l, the mean of P_l over retain images and places by channel, knows
    nothing of forget images. P_l is that of the same forward; |P_l(x_r)|^2 and s_l are constants to the gradient.

    The library peft has the adapters; B_l is zero at first. Base and adapter together would still know what is to be
    forgotten, so what is saved as weights is always the merged network.
    """

    Options = ResidualOptions
    unmaskable = 'trains adapters, and no weight of the network that could be masked'
    saves = 1.0  # the base and the adapters

    def __init__(self, options, run):
        super().__init__(options, run)
        names = list(self.modules(options, run.net))
        grouped = sum(isinstance(module, nn.Conv2d) and module.groups > 1 for module in run.net.modules())
        self.tuner = self.adapt(options, run.net)
        self.layers = {name: run.net.get_submodule(name) for name in names}
        self.taps = {}
        for name, layer in self.layers.items():
            self.taps.update({f'{name} trained': layer.base_layer, f'{name} added': layer.lora_B[ADAPTER]})
        weights = sum(weight.numel() for weight in self.trainable(run.net))
        run.logger.info(
            f'ResidualAlignmentLoRA: {weights:,} weights in adapters of {len(names)} layers; '
            f'{grouped} depthwise or grouped convolutions have none.'
        )

    @classmethod
    def modules(cls, options, net):
        _import_peft()
        known = {name: module for name, module in net.named_modules() if _can_be_adapted(module)}
        if options.layers is None:
            chosen = {name: module for name, module in known.items() if _is_projection(module)}
        else:
            named = find_modules(net, options.layers, LAYERS)
            chosen = {name: known[name] for name in known if any(f'{name}.'.startswith(f'{part}.') for part in named)}
        if not chosen:
            raise InputError(
                f'{LAYERS}: {options.layers or "~"}: names no layer of {type(net).__name__} that can have an adapter: '
                'Linear, or a convolution that is not depthwise (~: 1x1). Give others; .* stands for all.'
            )
        return chosen

    @classmethod
    def adapt(cls, options, net):
        peft = _import_peft()
        names = '|'.join(map(re.escape, cls.modules(options, net)))  # a list would match ends of names, too
        config = peft.LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=names)
        return peft.LoraModel(net, config, ADAPTER)  # freezes all but the adapters

    def losses(self, batch):
        target = forget_target(self.run, self.options, batch)
        with tapped(self.taps, LAYERS) as seen:
            forget, retain = self.restore_both(batch)
        found = {'l_forget': self.options.forget_weight * self.forget_loss(forget, target)}
        if retain is not None:
            found.update(self.alignment(seen, len(forget) / (len(forget) + len(retain))))
        return {**found, **self.retain_term(retain, batch)}

    def alignment(self, seen, share):
        """Return `l_residual`, and `l_shift` where it has a weight; this share of every feature is of forget images."""
        parts = {name: self.split(seen, name, share) for name in self.layers}
        trained = [part[2].detach() for part in parts.values()]
        sizes = torch.stack([feature.square().mean() for feature in trained])
        self.run.average([sizes])
        sizes = sizes.clamp_min(torch.finfo(sizes.dtype).tiny)
        residual = torch.stack([added.square().mean() for _, _, _, added in parts.values()]) / sizes
        found = {'l_residual': self.options.residual_weight * residual.sum()}
        if self.options.shift_weight:
            centres = [
                mean_by_channel(feature, layer) for feature, layer in zip(trained, self.layers.values(), strict=True)
            ]
            self.run.average(centres)
            pairs = zip(parts.values(), centres, strict=True)
            shift = torch.stack([(part[0] + part[1] - centre).square().mean() for part, centre in pairs]) / sizes
            found['l_shift'] = self.options.shift_weight * shift.sum()
        return found

    def split(self, seen, name, share):
        """Return P and D of the forget images, P and D of the retain images."""
        trained = seen[f'{name} trained']
        added = self.layers[name].scaling[ADAPTER] * seen[f'{name} added']
        first = round(share * len(trained))
        return trained[:first], added[:first], trained[first:], added[first:]

    @torch.no_grad()
    def export(self, net):
        self.tuner.merge_and_unload()  # in place

    @torch.no_grad()
    def plain(self, net):
        return deepcopy(self.tuner).merge_and_unload()

    def state_dict(self):
        return {'net': self.run.net.state_dict()}  # the saved network is merged, and cannot be parted again

    def load_state_dict(self, state):
        self.run.net.load_state_dict(state['net'])


def mean_by_channel(feature, layer):
    """Return the mean of what an adapted layer gives over images and places, broadcastable to it."""
    channel = feature.dim() - 1 if isinstance(layer.base_layer, nn.Linear) else 1
    return feature.mean([axis for axis in range(feature.dim()) if axis != channel], keepdim=True)


def _is_projection(module):
    return isinstance(module, nn.Linear) or module.kernel_size == (1, 1)


def _can_be_adapted(module):
    """Return whether peft can adapt a layer and merge the adapter; layers that stand still are never used."""
    if type(module) not in (nn.Linear, nn.Conv2d) or not module.weight.requires_grad:
        return False
    return type(module) is nn.Linear or (
        module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == 'zeros'
    )


def _import_peft():
    try:
        import peft  # with all that it brings it takes seconds, and no other method needs it
    except ImportError as error:
        raise InputError(
            f'train: method: type: ResidualAlignmentLoRA needs the library peft ({error}): pip install peft'
        ) from None
    return peft
