"""What BasicSR 1.4.2 lacks on today's torch and on machines without a GPU.

Each shim says what is wrong and when it does nothing. `apply()` runs on import of `basicsr_unlearn`, may run twice, and
is the only code of this package that changes BasicSR.
"""

import functools
import importlib
import importlib.util
import os
import sys
import types
import warnings

import torch

checks = []  # called with every parsed option tree before anything is created; preflight.py adds itself
_tb_writers = []
_shims = []
_checked = []  # what the option file holds, `--force_yml` included, while BasicSR asks for it
OPTIMIZERS = ('Adadelta', 'Adagrad', 'Adam', 'AdamW', 'Adamax', 'NAdam', 'RAdam', 'RMSprop', 'Rprop', 'SGD', 'ASGD')


def apply():
    """Put every shim in its place, once."""
    _functional_tensor()
    for name, owners, replacement in _shims:
        owners = [_find(owner) for owner in owners]
        original = getattr(owners[0], name)
        if getattr(original, 'is_shim', False):
            continue
        shim = _around(original, replacement)
        for owner in owners:
            if hasattr(owner, name):
                setattr(owner, name, shim)


def _shim(name, *owners):
    """Replace `name` in every owner (`module` or `module:Class`) by a function that is handed the original."""

    def decorate(replacement):
        _shims.append((name, owners, replacement))
        return replacement

    return decorate


def _find(owner):
    module, _, cls = owner.partition(':')
    module = importlib.import_module(module)
    return getattr(module, cls) if cls else module


def _around(original, replacement):
    @functools.wraps(original, updated=())
    def shim(*args, **kwargs):
        return replacement(original, *args, **kwargs)

    shim.is_shim = True
    return shim


def register_unless_taken(registry):
    """Register a class under its own name, unless another package did: theirs stays, with a warning.

    BasicSR asserts instead (https://github.com/sczhou/CodeFormer/issues/227), and several forks register networks of
    the same names as ours.
    """

    def decorate(cls):
        if cls.__name__ in registry:
            owner = getattr(registry.get(cls.__name__), '__module__', 'another package')
            text = f'{cls.__name__} is already registered by {owner}; {cls.__module__} leaves it alone.'
            warnings.warn(text, stacklevel=2)
            return cls
        registry.register(cls)
        return cls

    return decorate


def tb_writer():
    """Return the TensorBoard writer of the running training, or None."""
    return _tb_writers[-1] if _tb_writers else None


def basicsr_is_shadowed():
    """Return the `basicsr/` folder of the current directory if Python took it instead of the installed package."""
    import basicsr

    here = os.path.join(os.getcwd(), 'basicsr')
    return here if os.path.dirname(os.path.abspath(basicsr.__file__)) == here else None


def _functional_tensor():
    """torchvision 0.17 removed a module that BasicSR imports (https://github.com/XPixelGroup/BasicSR/issues/663)."""
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name)
    module.rgb_to_grayscale = rgb_to_grayscale
    sys.modules[name] = module


@_shim('get_optimizer', 'basicsr.models.base_model:BaseModel')
def _get_optimizer(original, self, optim_type, params, lr, **kwargs):
    """The released 1.4.2 knows Adam only; the published all-in-one recipes use AdamW."""
    if optim_type not in OPTIMIZERS:
        raise NotImplementedError(f'optim_g: type: {optim_type} is unknown. Choose one of {", ".join(OPTIMIZERS)}.')
    return getattr(torch.optim, optim_type)(params, lr, **kwargs)


class _TorchWithAtomicSave:
    """Everything of torch, except that `save` is atomic and remembers whether it failed."""

    def __init__(self):
        from basicsr_unlearn.checkpoint import atomic_save

        self._save, self.error = atomic_save, None

    def __getattr__(self, name):
        return getattr(torch, name)

    def save(self, content, path):
        try:
            self._save(content, path)
            self.error = None
        except Exception as error:
            self.error = error
            raise


@_shim('save_network', 'basicsr.models.base_model:BaseModel')
@_shim('save_training_state', 'basicsr.models.base_model:BaseModel')
def _save(original, *args, **kwargs):
    """A failed save was a warning, "Just ignore it.", and exit status 0; a killed save left half a file.

    BasicSR still tries three times; the error of the last attempt is raised where it would go on.
    """
    from basicsr.models import base_model

    base_model.torch = _TorchWithAtomicSave() if base_model.torch is torch else base_model.torch
    base_model.torch.error = None
    original(*args, **kwargs)
    error = base_model.torch.error
    if error is not None:
        raise OSError(f'Saving failed three times: {error}') from error


@_shim('load_resume_state', 'basicsr.train')
def _load_resume_state(original, opt):
    """BasicSR asks for a CUDA device even where there is none, and reads a state without asking what is in it."""
    from basicsr_unlearn import resume
    from basicsr_unlearn.data.sampler import CountingSampler

    CountingSampler.start_iter = 0
    resume.check_names(opt)
    current_device, load = torch.cuda.current_device, torch.load
    if not torch.cuda.is_available():
        torch.cuda.current_device = lambda: 'cpu'
    torch.load = functools.partial(resume.read_state, load)
    try:
        state = original(opt)
    finally:
        torch.cuda.current_device, torch.load = current_device, load
    if state:
        resume.check(opt, state)
    return state


@_shim('resume_training', 'basicsr.models.base_model:BaseModel')
def _resume_training(original, self, resume_state):
    """A resumed run starts its epoch again: tell the counting sampler where to go on."""
    from basicsr_unlearn.data.sampler import CountingSampler
    from basicsr_unlearn.errors import InputError

    try:
        original(self, resume_state)
    except (AssertionError, KeyError, ValueError) as error:
        raise InputError(f'path: resume_state: is of a run with other options: {error}') from error
    CountingSampler.start_iter = resume_state['iter']


@_shim('EnlargedSampler', 'basicsr.data.data_sampler', 'basicsr.train')
def _sampler(original, dataset, num_replicas, rank, ratio=1):
    """Data sets that count their samples (sampler.py) get the counting sampler, all others BasicSR's own."""
    from basicsr_unlearn.data.sampler import CountingSampler

    sampler = CountingSampler if getattr(dataset, 'counts_samples', False) else original
    return sampler(dataset, num_replicas, rank, ratio)


@_shim('_init_dist_pytorch', 'basicsr.utils.dist_util')
def _init_dist_pytorch(original, backend, **kwargs):
    """`--launcher pytorch` divides by the number of GPUs, also where there is none: gloo there."""
    if torch.cuda.is_available():
        return original(backend, **kwargs)
    return torch.distributed.init_process_group(backend='gloo', **kwargs)


@_shim('model_to_device', 'basicsr.models.base_model:BaseModel')
def _model_to_device(original, self, net):
    """DistributedDataParallel is handed a CUDA device also where there is none."""
    if torch.cuda.is_available() or not self.opt['dist']:
        return original(self, net)
    unused = self.opt.get('find_unused_parameters', False)
    return torch.nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)


@_shim('ordered_yaml', 'basicsr.utils.options')
def _ordered_yaml(original):
    """PyYAML's full loader runs code that an option file names, and takes 1e-4 for text."""
    from basicsr_unlearn.option_file import Loader

    return functools.partial(Loader, known=_checked[-1] if _checked else None), original()[1]


@_shim('parse_options', 'basicsr.utils.options', 'basicsr.train', 'basicsr.test')
def _parse_options(original, root_path, is_train=True):
    """BasicSR hands the values of `--force_yml` to eval and exec, after it has seeded: here they are part of the file.

    Then expand `~` and `${NAME}` in every path, and check the input before `train_pipeline` creates anything.
    """
    from basicsr_unlearn import option_file, option_tree
    from basicsr_unlearn.options import check_outside, prepare

    found = option_file.arguments()
    if found is None:
        return original(root_path, is_train=is_train)  # ends with a word about the command line
    tree = option_file.read(found.opt, '-opt', found.force_yml)
    option_tree.check_file(tree, f'-opt {found.opt}', is_train)
    saved, sys.argv, _checked[:] = sys.argv, option_file.without_force(found), [tree]
    try:
        opt, args = original(root_path, is_train=is_train)
    finally:
        sys.argv, _checked[:] = saved, []
    check_outside('-opt', found.opt, opt['path'].get('experiments_root'))
    prepare(opt, args.debug)
    for check in checks:
        check(opt)
    return opt, args


@_shim('init_tb_logger', 'basicsr.utils.logger', 'basicsr.utils', 'basicsr.train')
def _init_tb_logger(original, log_dir):
    """Only `validation` is handed the writer; a second writer on one folder makes the live page drop events."""
    _tb_writers.append(original(log_dir))
    return _tb_writers[-1]
