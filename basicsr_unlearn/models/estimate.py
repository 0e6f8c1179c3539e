"""What a run will take, told before it: memory at the peak, and bytes on the disk.

Memory is counted by rehearsing a training step on tensors that have sizes and no content: no computing, no memory.
"""

import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from basicsr_unlearn.attacks.adversarial_cache import needed_bytes
from basicsr_unlearn.methods import method_class, method_options
from basicsr_unlearn.models.inference import measuring

MOMENTS = {'SGD': 0, 'RMSprop': 1, 'Adagrad': 1, 'ASGD': 1}  # of the size of the weights; two for all others
MARGIN = 1.25  # what real runs took above the tensors of a pass: workspaces, gaps between them
RULE = 2  # copies of the weights that the stop rule keeps: the last good state and the best one


class _Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and remembers the most."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known = weakref.WeakSet()

    def note(self, tensor):
        storage = tensor.untyped_storage()
        if storage not in self.known:
            self.known.add(storage)
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size):
        self.alive -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                self.note(result)
        return results


def pass_bytes(net, images, height, width, training, bf16=False):
    """Return the peak memory of the tensors of a pass, in bytes: weights, activations, in training the gradients.

    Args:
        net (nn.Module): The network.
        images (int): In the batch.
        height, width (int): Pixels.
        training (bool): Forward and backward; False: forward as for measuring.
        bf16 (bool): Under bfloat16 autocast. Default: False.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, _Peak() as peak:
        weights = {name: fake.from_tensor(value) for name, value in [*net.named_parameters(), *net.named_buffers()]}
        for value in weights.values():
            peak.note(value)
        batch = torch.zeros(images, 3, height, width)
        if not training:
            with measuring(net):
                functional_call(net, weights, (batch,))
            return peak.peak
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            result = functional_call(net, weights, (batch,)).float()
        (result - torch.zeros_like(result)).abs().mean().backward()
    return peak.peak


def weight_bytes(net):
    """Return the bytes of the weights, buffers included, and of those that train."""
    whole = sum(value.numel() * value.element_size() for value in net.state_dict().values())
    return whole, sum(weight.numel() * weight.element_size() for weight in net.parameters() if weight.requires_grad)


def images_in_step(opt):
    """Return how many images go through the network in one training step, at most."""
    section = opt['datasets']['train']
    if opt['model_type'] != 'UnlearnModel':
        return section['batch_size_per_gpu']
    method = opt['train']['method']
    retain = bool(section.get('retain')) and method_class(method).uses_retain
    return section['batch_size_per_gpu'] * (1 + retain + getattr(method_options(method), 'n_adv', 0))


def kept_bytes(opt, net):
    """Return what a training keeps in memory beside network_g: moments, original, copies of the stop rule, ..."""
    whole, trained = weight_bytes(net)
    if opt['model_type'] != 'UnlearnModel':
        return _moments(opt) * trained + whole * bool(opt['train'].get('ema_decay'))
    return _moments(opt) * trained + whole * (1 + RULE) + int(whole * _of_methods(opt, 'holds'))


def disk_bytes(opt, net, pixels):
    """Return what a run will write at most.

    Args:
        opt (dict): The option tree.
        net (nn.Module): network_g.
        pixels (dict): Pixels of all images of each reported set, by its key in `datasets`.

    Returns:
        dict: `checkpoints`, `states`, `cache`, `pictures` to bytes.
    """
    pictures = 3 * sum(pixels.values()) * bool((opt.get('val') or {}).get('save_img'))
    if not opt['is_train']:
        return {'pictures': pictures}
    whole, trained = weight_bytes(net)
    train, total = opt['train'], int(opt['train']['total_iter'])
    saved = total // int(opt['logger']['save_checkpoint_freq'])
    found = {'pictures': pictures * (total // int(opt['val']['val_freq']) + 1 if pictures else 0)}
    if opt['logger'].get('keep_last'):
        saved = min(saved, opt['logger']['keep_last'] + 1)  # the oldest goes after the newest has come
    if opt['model_type'] != 'UnlearnModel':
        checkpoint = whole * (1 + bool(train.get('ema_decay')))
        return {'checkpoints': (saved + 1) * checkpoint, 'states': saved * _moments(opt) * trained, **found}
    state = _moments(opt) * trained + RULE * whole + int(whole * _of_methods(opt, 'saves'))
    size = opt['datasets']['train']['gt_size']
    cached = [chosen.cache_images for _, chosen in _methods(opt) if getattr(chosen, 'craft', None) == 'cache']
    cache = sum(needed_bytes(images, size) for images in cached)
    return {'checkpoints': (saved + 1) * whole, 'states': saved * state, 'cache': cache, **found}


def _moments(opt):
    """Return how many numbers the optimizer keeps for each weight."""
    section = opt['train']['optim_g']
    return MOMENTS.get(section['type'], 2) + bool(section.get('momentum')) + bool(section.get('amsgrad'))


def _of_methods(opt, name):
    return sum(getattr(cls, name) for cls, _ in _methods(opt))


def _methods(opt):
    """Return class and options of the method, and of its host where it has one."""
    section, found = opt['train']['method'], []
    while section:
        found.append((method_class(section), method_options(section)))
        section = getattr(found[-1][1], 'host', None)
    return found
