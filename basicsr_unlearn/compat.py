"""What BasicSR 1.4.2 lacks on today's torch and on machines without a GPU.

Each shim says what is wrong, where it is reported, and when it does nothing. `apply()` runs on import of
`basicsr_unlearn`, may run twice, and is the only code of this package that touches BasicSR.
"""
import functools
import importlib.util
import os
import sys
import types
import warnings


checks = []  # called with every parsed option tree before anything is created; preflight.py adds itself
_tb_writers = []


def tb_writer():
    """Return the TensorBoard writer of the running training, or None."""
    return _tb_writers[-1] if _tb_writers else None


def apply():
    """Apply every shim once."""
    _functional_tensor()
    import basicsr  # noqa: F401  (needs the shim above)
    _optimizers()
    _saving()
    _resume()
    _distributed_on_cpu()
    _sampler()
    _options()
    _tensorboard()


def register_unless_taken(registry):
    """Register a class under its own name, unless another package did: theirs stays, with a warning.

    BasicSR asserts instead (https://github.com/sczhou/CodeFormer/issues/227), and several forks register networks of
    the same names as ours.
    """

    def decorate(cls):
        if cls.__name__ in registry:
            owner = getattr(registry.get(cls.__name__), '__module__', 'another package')
            warnings.warn(f'{cls.__name__} is already registered by {owner}; {cls.__module__} leaves it alone.')
            return cls
        registry.register(cls)
        return cls

    return decorate


def _patch_everywhere(module_names, name, value):
    """Set an attribute in each of these modules that is loaded and has it."""
    for module_name in module_names:
        module = sys.modules.get(module_name)
        if module is not None and hasattr(module, name):
            setattr(module, name, value)


def _functional_tensor():
    """torchvision 0.17 removed a module that BasicSR imports (https://github.com/XPixelGroup/BasicSR/issues/663)."""
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale
    module = types.ModuleType(name)
    module.rgb_to_grayscale = rgb_to_grayscale
    sys.modules[name] = module


def _optimizers():
    """The released 1.4.2 knows Adam only; the published all-in-one recipes use AdamW. Unknown names list the known."""
    import torch

    from basicsr.models.base_model import BaseModel
    original = BaseModel.get_optimizer
    if getattr(original, 'extended', False):
        return
    names = ('Adadelta', 'Adagrad', 'Adam', 'AdamW', 'Adamax', 'NAdam', 'RAdam', 'RMSprop', 'Rprop', 'SGD', 'ASGD')

    @functools.wraps(original)
    def get_optimizer(self, optim_type, params, lr, **kwargs):
        if optim_type not in names:
            raise NotImplementedError(f'optim_g: type: {optim_type} is unknown. Choose one of {", ".join(names)}.')
        return getattr(torch.optim, optim_type)(params, lr, **kwargs)

    get_optimizer.extended = True
    BaseModel.get_optimizer = get_optimizer


def _saving():
    """A failed save was a warning, "Just ignore it.", and exit status 0; a killed save left half a file.

    torch.save inside base_model.py is replaced by one that writes a temporary file, then renames it, and keeps the error of
    the last of BasicSR's three attempts, which is raised where BasicSR would go on.
    """
    from basicsr.models import base_model
    from basicsr_unlearn.checkpoint import atomic_save
    if isinstance(base_model.torch, _TorchWithAtomicSave):
        return
    base_model.torch = _TorchWithAtomicSave(base_model.torch, atomic_save)
    for name in ('save_network', 'save_training_state'):
        setattr(base_model.BaseModel, name, _raise_last_error(getattr(base_model.BaseModel, name), base_model.torch))


class _TorchWithAtomicSave:
    """Everything of torch, except that `save` is atomic and remembers whether it failed."""

    def __init__(self, torch_module, save):
        self._torch, self._save, self.error = torch_module, save, None

    def __getattr__(self, name):
        return getattr(self._torch, name)

    def save(self, content, path):
        try:
            self._save(content, path)
            self.error = None
        except Exception as error:
            self.error = error
            raise


def _raise_last_error(function, torch_with_save):

    @functools.wraps(function)
    def save(*args, **kwargs):
        torch_with_save.error = None
        function(*args, **kwargs)
        if torch_with_save.error is not None:
            raise OSError(f'Saving failed three times: {torch_with_save.error}') from torch_with_save.error

    return save


def _resume():
    """`load_resume_state` asks for a CUDA device even on a machine without one.

    Also, a resumed run started its epoch again: `resume_training` now tells the counting sampler where to go on.
    """
    import torch

    import basicsr.train
    from basicsr.models.base_model import BaseModel
    from basicsr_unlearn.data.sampler import CountingSampler
    original = basicsr.train.load_resume_state
    if getattr(original, 'extended', False):
        return

    @functools.wraps(original)
    def load_resume_state(opt):
        CountingSampler.start_iter = 0
        if torch.cuda.is_available():
            return original(opt)
        current_device, load = torch.cuda.current_device, torch.load
        torch.cuda.current_device = lambda: 'cpu'
        torch.load = lambda path, map_location=None, **kwargs: load(path, map_location='cpu', **kwargs)
        try:
            return original(opt)
        finally:
            torch.cuda.current_device, torch.load = current_device, load

    load_resume_state.extended = True
    _patch_everywhere(('basicsr.train', ), 'load_resume_state', load_resume_state)
    resume_training = BaseModel.resume_training

    @functools.wraps(resume_training)
    def resume_at(self, resume_state):
        resume_training(self, resume_state)
        CountingSampler.start_iter = resume_state['iter']

    BaseModel.resume_training = resume_at


def _distributed_on_cpu():
    """`--launcher pytorch` divides by the number of GPUs and DDP gets a CUDA device, also where there is none."""
    import torch

    from basicsr.models import base_model
    from basicsr.utils import dist_util
    original = dist_util._init_dist_pytorch
    if getattr(original, 'extended', False):
        return

    @functools.wraps(original)
    def init_dist_pytorch(backend, **kwargs):
        if torch.cuda.is_available():
            return original(backend, **kwargs)
        torch.distributed.init_process_group(backend='gloo', **kwargs)

    init_dist_pytorch.extended = True
    dist_util._init_dist_pytorch = init_dist_pytorch
    model_to_device = base_model.BaseModel.model_to_device

    @functools.wraps(model_to_device)
    def to_device(self, net):
        if torch.cuda.is_available() or not self.opt['dist']:
            return model_to_device(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return base_model.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    base_model.BaseModel.model_to_device = to_device


def _sampler():
    """Data sets that count their samples (sampler.py) get the counting sampler, all others BasicSR's own."""
    import basicsr.train
    from basicsr.data import data_sampler
    from basicsr_unlearn.data.sampler import CountingSampler
    original = data_sampler.EnlargedSampler
    if getattr(original, 'extended', False):
        return

    @functools.wraps(original, updated=())
    def enlarged_sampler(dataset, num_replicas, rank, ratio=1):
        sampler = CountingSampler if getattr(dataset, 'counts_samples', False) else original
        return sampler(dataset, num_replicas, rank, ratio)

    enlarged_sampler.extended = True
    _patch_everywhere(('basicsr.data.data_sampler', 'basicsr.train'), 'EnlargedSampler', enlarged_sampler)


def _options():
    """Expand `~` and `${NAME}` in every path, and check the input before `train_pipeline` creates anything."""
    import basicsr.test
    import basicsr.train
    from basicsr.utils import options
    from basicsr_unlearn.options import prepare
    original = options.parse_options
    if getattr(original, 'extended', False):
        return

    @functools.wraps(original)
    def parse_options(root_path, is_train=True):
        opt, args = original(root_path, is_train=is_train)
        opt = prepare(opt)
        for check in checks:
            check(opt)
        return opt, args

    parse_options.extended = True
    _patch_everywhere(('basicsr.utils.options', 'basicsr.train', 'basicsr.test'), 'parse_options', parse_options)


def _tensorboard():
    """Only `validation` is handed the writer; two writers on one folder make the live page drop events."""
    import basicsr.train  # noqa: F401
    from basicsr.utils import logger
    original = logger.init_tb_logger
    if getattr(original, 'extended', False):
        return

    @functools.wraps(original)
    def init_tb_logger(log_dir):
        _tb_writers.append(original(log_dir))
        return _tb_writers[-1]

    init_tb_logger.extended = True
    _patch_everywhere(('basicsr.utils.logger', 'basicsr.utils', 'basicsr.train'), 'init_tb_logger', init_tb_logger)


def basicsr_is_shadowed():
    """Return the `basicsr/` folder of the current directory if Python took that one instead of the installed package."""
    import basicsr
    here = os.path.join(os.getcwd(), 'basicsr')
    return here if os.path.dirname(os.path.abspath(basicsr.__file__)) == here else None
