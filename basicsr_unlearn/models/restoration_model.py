"""A BasicSR model for restorers: SRModel that takes images of any size and reads any checkpoint safely."""

import torch

from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.models.inference import restore
from basicsr_unlearn.options import tile_options


@MODEL_REGISTRY.register()
class RestorationModel(SRModel):
    """SRModel for training and testing all-in-one restorers.

    It differs in two methods: `test` takes images of any size (padding, and the tiles of `val: tile`), and
    `load_network` reads .pth, .ckpt, .safetensors and `zoo:` files without running code from them.
    """

    def test(self):
        net = self.get_bare_model(getattr(self, 'net_g_ema', self.net_g))
        training = net.training
        net.eval()
        with torch.no_grad():
            self.output = restore(net, self.lq, **tile_options(self.opt))
        net.train(training)

    def load_network(self, net, load_path, strict=True, param_key='params'):
        load_into(self.get_bare_model(net), load_path, 'path: pretrain_network', param_key, strict)
        get_root_logger().info(f'Loaded {load_path}.')
