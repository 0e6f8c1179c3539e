"""Convolutions and linear layers as products: the rows of a weight times the patches of an input."""

from collections import Counter

import torch
from torch import nn
from torch.nn import functional as F

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def layers_of(net):
    """Return `{name: layer}` of the convolutions and linear layers, less those whose weight is not theirs alone."""
    found = {name: layer for name, layer in net.named_modules() if type(layer) in LAYERS}
    users = Counter(id(layer.weight) for layer in found.values())
    return {name: layer for name, layer in found.items() if users[id(layer.weight)] == 1}


def to_rows(layer, weight):
    """Return the weight of a layer as (groups, outputs of a group, d): its answer is rows times patches."""
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        return weight.flatten(2)
    return weight.flatten(1).unflatten(0, (getattr(layer, 'groups', 1), -1))


def to_weight(layer, rows):
    """Turn `to_rows` back."""
    if isinstance(layer, nn.ConvTranspose2d):
        return rows.unflatten(2, (-1, *layer.kernel_size)).transpose(1, 2).flatten(0, 1)
    return rows.flatten(0, 1).reshape(layer.weight.shape)


def patches_of(layer, image, size):
    """Return what the weights of a layer are multiplied with.

    Args:
        layer (nn.Module): One of LAYERS.
        image (Tensor): An input of it: (1, C, H, W), for a linear layer (..., C).
        size (tuple[int]): Height and width of its output; a linear layer asks for none.

    Returns:
        Tensor: (groups, d, patches), d in the order of `to_rows`.
    """
    if isinstance(layer, nn.Linear):
        return image.reshape(1, -1, image.shape[-1]).transpose(1, 2)
    if isinstance(layer, nn.ConvTranspose2d):
        columns = _unfold_transposed(layer, image, size)
    else:
        mode = 'constant' if layer.padding_mode == 'zeros' else layer.padding_mode
        padded = F.pad(image, layer._reversed_padding_repeated_twice, mode)
        columns = F.unfold(padded, layer.kernel_size, layer.dilation, stride=layer.stride)
    return columns[0].unflatten(0, (layer.groups, -1))


def _unfold_transposed(layer, image, size):
    """Unfold for a transposed convolution: that of an image with zeros between its pixels, the kernel turned round."""
    before = [d * (k - 1) - p for d, k, p in zip(layer.dilation, layer.kernel_size, layer.padding, strict=True)]
    spread = [(n - 1) * s + 1 for n, s in zip(image.shape[-2:], layer.stride, strict=True)]
    reach = [n + d * (k - 1) for n, d, k in zip(size, layer.dilation, layer.kernel_size, strict=True)]
    wide = image.new_zeros(*image.shape[:2], *spread)
    wide[..., :: layer.stride[0], :: layer.stride[1]] = image
    (top, left), (bottom, right) = before, (r - s - b for r, s, b in zip(reach, spread, before, strict=True))
    columns = F.unfold(F.pad(wide, (left, right, top, bottom)), layer.kernel_size, layer.dilation)
    return columns.unflatten(1, (image.shape[1], -1)).flip(2).flatten(1, 2)


@torch.no_grad()
def measure_covariances(net, batches):
    """Sum p p^T over the patches p that each layer meets, not centred, in float64.

    Args:
        net (nn.Module): Never changed.
        batches (Iterable[Tensor]): Images (N, 3, H, W).

    Returns:
        dict[str, Tensor]: (groups, d, d) by the layer's name; layers that meet nothing are left out.
    """
    found, handles = {}, []
    for name, layer in layers_of(net).items():

        def add(layer, inputs, output, name=name):
            for image in inputs[0].split(1):
                patches = patches_of(layer, image.float(), output.shape[-2:]).double()
                found[name] = found.get(name, 0) + patches @ patches.transpose(1, 2)

        handles.append(layer.register_forward_hook(add))
    try:
        for images in batches:
            net(images)
    finally:
        for handle in handles:
            handle.remove()
    return found
