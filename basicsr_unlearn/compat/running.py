"""The optimizer, and processes and devices."""

import torch

from basicsr_unlearn.compat import OPTIMIZERS
from basicsr_unlearn.compat.shims import shim


@shim('get_optimizer', 'basicsr.models.base_model:BaseModel')
def _get_optimizer(original, self, optim_type, params, lr, **kwargs):
    """The released 1.4.2 knows Adam only; the published all-in-one recipes use AdamW."""
    if optim_type not in OPTIMIZERS:
        raise NotImplementedError(f'optim_g: type: {optim_type} is unknown. Choose one of {", ".join(OPTIMIZERS)}.')
    return getattr(torch.optim, optim_type)(params, lr, **kwargs)


@shim('_init_dist_pytorch', 'basicsr.utils.dist_util')
def _init_dist_pytorch(original, backend, **kwargs):
    """BasicSR divides by the number of GPUs, also where there is none, and waits for lost processes for ever."""
    from basicsr_unlearn.processes import join_torchrun

    join_torchrun()


@shim('_init_dist_slurm', 'basicsr.utils.dist_util')
def _init_dist_slurm(original, backend, port=None):
    """The same, and BasicSR hands a list of hosts to a shell."""
    from basicsr_unlearn.processes import join_slurm

    join_slurm(port)


@shim('model_to_device', 'basicsr.models.base_model:BaseModel')
def _model_to_device(original, self, net):
    """DistributedDataParallel is handed a CUDA device also where the network is on the CPU."""
    if self.device.type == 'cuda' or not self.opt['dist']:
        return original(self, net)
    unused = self.opt.get('find_unused_parameters', False)
    return torch.nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)
