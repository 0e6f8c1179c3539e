"""What a method may touch of the run that it is part of."""

import torch

from basicsr.archs import build_network
from basicsr.utils import get_root_logger
from basicsr_unlearn.checkpoint import load_into


class Run:
    """The net, the frozen original and the device, as a method and the model see them.

    Attributes:
        net (nn.Module): network_g without the distributed wrapper. Forwards without gradient go through it.
        device (torch.device): Where the net lives.
        logger (logging.Logger): BasicSR's.
        cost (float): What this process has spent so far, in image-forward-equivalents: one training patch through a
            network = 1, a training step on it = 3.
    """

    def __init__(self, model):
        self._model = model
        self._original = None
        self.net = model.get_bare_model(model.net_g)
        self.device = model.device
        self.logger = get_root_logger()
        self.cost = 0.0

    @property
    def original(self):
        """The network before unlearning, frozen; loaded on first use."""
        if self._original is None:
            self._original = self.load('original')
        return self._original

    def ask_original(self, images):
        """Restore (N, 3, H, W) with the original, without gradient."""
        self.cost += len(images)
        with torch.no_grad(), self._model.autocast():
            return self.original(images).float()

    def load(self, which):
        """Build a frozen network with the weights of `path: pretrain_network_{which}`."""
        path = self._model.opt['path']
        net = build_network(self._model.opt['network_g']).to(self.device)
        option = f'pretrain_network_{which}'
        strict = which == 'oracle' or path.get('strict_load_g', True)
        loaded = load_into(net, path[option], f'path: {option}', path.get(f'param_key_{which}', 'params'), strict)
        self.logger.info(f'Loaded the {which} from {path[option]}: {loaded}.')
        return net.eval().requires_grad_(False)

    def forward(self, *images):
        """Send several batches through network_g as one, which is fastest and what DistributedDataParallel wants.

        Args:
            images (Tensor): Each (N_i, 3, H, W), of one H and W.

        Returns:
            tuple[Tensor]: The results, split as the images were.
        """
        self.cost += 3 * sum(map(len, images))
        return self._model.forward_for_training(torch.cat(images)).split([len(image) for image in images])
