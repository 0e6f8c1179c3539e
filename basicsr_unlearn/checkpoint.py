"""Reading and writing weights: .pth and .ckpt without running code from them, .safetensors, the zoo's manifest."""

import hashlib
import json
import pickle
import re
from contextlib import suppress
from os import path as osp

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from basicsr_unlearn.atomic import atomic_save, atomic_write
from basicsr_unlearn.errors import InputError

ZOO = osp.join(osp.dirname(__file__), 'zoo')
WRAPPERS = ('module.', '_orig_mod.')  # DistributedDataParallel, torch.compile
MODULES = ('net.', 'net_g.')  # the network inside a Lightning module
NUMBER = (int, float)
CHUNK = 1 << 20  # bytes read at once
HISTORY = {'name': str, 'task': str, 'method': str, 'finished': str, 'forget': dict, 'cost': NUMBER, 'sets': list}
LIGHTNING = {'pytorch-lightning_version': '2.0.1'}  # the published one; readers migrate from here


def resolve(path):
    """Return the file behind a path: `zoo:NAME` is a file of this package, everything else is itself."""
    return osp.join(ZOO, path[4:]) if path.startswith('zoo:') else path


def read_weights(path, option, param_key='params', fallback=False, known=()):
    """Read the weights of one network as they are stored.

    Args:
        path (str): A .pth, .ckpt or .safetensors file, or `zoo:NAME`.
        option (str): Option that named it, for error messages.
        param_key (str): Which entry holds them. For `params`, if it is absent, `params_ema`, `state_dict` and the root
            are tried. Default: `params`.
        fallback (bool): Try these also where another `param_key` is absent. Default: False.
        known (collection): Keys of the network: prefixes are taken away only until one fits. Default: empty, take away
            those of DistributedDataParallel and torch.compile, and from a Lightning file that of its network.

    Returns:
        dict[str, Tensor]: On the CPU, in the type of the file, without the prefixes of wrappers.

    Raises:
        InputError: No such file, not a checkpoint, a file that needs code to be read, no such entry, no tensors in it.
    """
    file = resolve(path)
    if not osp.isfile(file):
        raise InputError(f'{option}: {path}: no such file.')
    content, entry = _read(file, option, path), None
    entries = [key for key, value in content.items() if isinstance(value, dict)] if isinstance(content, dict) else []
    if param_key != 'params' and param_key not in entries and not fallback:
        raise InputError(
            f'{option}: {path}: has no entry {param_key}, only {", ".join(map(str, entries)) or "weights"}.'
        )
    for entry in (param_key, 'params', 'params_ema', 'state_dict', None):
        if entry in entries:
            content = content[entry]
            break
    weights = {k: v for k, v in content.items() if _is_weight(k, v)} if isinstance(content, dict) else {}
    if not weights:
        raise InputError(f'{option}: {path}: holds no weights under {param_key}, params, params_ema or state_dict.')
    for prefix in (WRAPPERS + MODULES if known or entry == 'state_dict' else WRAPPERS) * 2:
        if not any(key in known for key in weights) and all(key.startswith(prefix) for key in weights):
            weights = {key[len(prefix) :]: value for key, value in weights.items()}
    return weights


def _is_weight(key, value):
    """Return whether an entry is a tensor with a name; sparse, quantized and complex ones are no weights."""
    plain = isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout is torch.strided
    return plain and value.device.type == 'cpu' and not value.is_quantized and not value.is_complex()


def _read(file, option, path):
    try:
        if file.endswith('.safetensors'):
            return load_file(file)
        return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the readers
        needs = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if needs is None:
            reason = (str(error).strip() or type(error).__name__).split('\n')[0][:80]
            raise InputError(f'{option}: {path}: is damaged or no checkpoint at all ({reason}).') from None
        raise InputError(
            f'{option}: {path}: holds more than weights ({needs[1]}), and reading that would run code. '
            'If you trust it, keep the weights alone: '
            'python -c "import torch, sys; c = torch.load(sys.argv[1], weights_only=False); '
            "torch.save({'state_dict': c.get('state_dict', c)}, sys.argv[2])\" IN.ckpt OUT.ckpt"
        ) from None


def read_history(path, option):
    """Return what a weight file says of earlier unlearning (history.py), oldest first; nothing where it says nothing.

    Raises:
        InputError: It cannot be read, or the history is not of the shape that is known here.
    """
    file, found = resolve(path), None
    if file.endswith('.safetensors'):
        with suppress(ValueError), safe_open(file, framework='pt') as stream:
            found = json.loads((stream.metadata() or {}).get('history', '[]'))
    else:
        content = _read(file, option, path)
        with suppress(TypeError, ValueError):  # tensors
            found = json.loads(json.dumps(content.get('history', []) if isinstance(content, dict) else []))
    if not isinstance(found, list) or not all(map(_is_request, found)):
        raise InputError(
            f'{option}: {path}: the history of earlier requests in it is damaged. basicsr convert --no-history writes '
            'the weights without it.'
        )
    return found


def _is_request(entry):
    """Return whether an entry of a history holds what is read from it (HISTORY)."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), kind) for key, kind in HISTORY.items()):
        return False
    scenes, share = entry['forget'].get('scenes'), entry.get('cost_share')
    if scenes is not None and not (isinstance(scenes, list) and [type(number) for number in scenes] == [int, int]):
        return False
    if not isinstance(share, (*NUMBER, type(None))):
        return False
    for one in entry['sets']:
        psnr = one.get('psnr') if isinstance(one, dict) else None
        if not isinstance(psnr, dict) or not all(isinstance(one.get(key), str) for key in ('name', 'role')):
            return False
        if not all(isinstance(psnr.get(state), NUMBER) for state in ('input', 'original', 'unlearned')):
            return False
    return True


def load_weights(path, option, param_key='params', fallback=False, known=()):
    """Read the weights of one network as `read_weights` does, floating point numbers as float32."""
    return _float32(read_weights(path, option, param_key, fallback, known))


def _float32(weights):
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


def load_into(net, path, option, param_key='params', strict=True, fallback=False):
    """Load weights into a network.

    Returns:
        str: What was loaded, for the log: the number of tensors and their `fingerprint`.

    Raises:
        InputError: `strict` and the keys or shapes differ (the first few are named), nothing fits at all, or loading
            changed nothing.
    """
    own = net.state_dict()
    weights = read_weights(path, option, param_key, fallback, own)
    missing = [key for key in own if key not in weights]
    extra = [key for key in weights if key not in own]
    shapes = [
        f'{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    faults = [
        f'{len(found)} {word} ({", ".join(found[:3])}{", ..." if len(found) > 3 else ""})'
        for word, found in (('missing', missing), ('unknown', extra), ('of another shape', shapes))
        if found
    ]
    if faults and (strict or len(missing) + len(shapes) == len(own)):
        raise InputError(
            f'{option}: {path} does not fit {type(net).__name__}: {"; ".join(faults)}. '
            'Make network_g that of the checkpoint.'
        )
    fitting = _float32({k: v for k, v in weights.items() if k in own and v.shape == own[k].shape})
    if all(torch.equal(value.to(own[key]), own[key]) for key, value in fitting.items()):
        raise InputError(f'{option}: {path}: loading changed nothing: the network had these weights already.')
    net.load_state_dict(fitting, strict=strict)
    return f'{len(fitting)} of {len(own)} tensors, fingerprint {fingerprint(fitting)}'


def fingerprint(weights):
    """Return twelve hexadecimal digits that tell sets of weights apart, whatever file they lie in."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(weights[key].detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def convert(source, target, param_key='params', history=True):
    """Write the weights of one file in the form that the suffix of another asks for, bit for bit.

    `.pth`: BasicSR's `{'params': ...}`. `.ckpt`: Lightning's `{'state_dict': ...}` with the prefix `net.`, as the
    published test scripts of PromptIR and AdaIR read it. `.safetensors`: bare. A history of unlearning goes along: as
    the entry `history`, in .safetensors as JSON among the metadata.

    Args:
        source (str): A file that `read_weights` reads.
        target (str): The file to write.
        param_key (str): Entry of `source` that holds the weights. Default: `params`.
        history (bool): Keep the history of unlearning. Default: True.

    Returns:
        str: What was written, for people.

    Raises:
        InputError: `source` cannot be read, `target` exists or has another suffix.
    """
    suffix = osp.splitext(target)[1]
    if suffix not in ('.pth', '.ckpt', '.safetensors'):
        raise InputError(f'convert: {target}: the suffix says the form: .pth, .ckpt or .safetensors.')
    if osp.lexists(target):
        raise InputError(f'convert: {target}: exists already. Move it away, or give another name.')
    folder = osp.dirname(target) or '.'
    if not osp.isdir(folder):
        raise InputError(f'convert: {target}: there is no folder {folder}.')
    weights = {key: value.contiguous().clone() for key, value in read_weights(source, 'convert', param_key).items()}
    entries = read_history(source, 'convert') if history else []
    beside = {'history': entries} if entries else {}
    if suffix == '.safetensors':
        save_safetensors(weights, target, entries)
    elif suffix == '.pth':
        atomic_save({'params': weights, **beside}, target)
    else:
        named = {f'net.{key}': value for key, value in weights.items()}
        atomic_save({'state_dict': named, 'epoch': 0, 'global_step': 0, **LIGHTNING, **beside}, target)
    requests = f', history of {", ".join(entry["name"] for entry in entries)}' if entries else ''
    return f'{len(weights)} tensors, fingerprint {fingerprint(weights)}{requests}'


def save_safetensors(weights, path, history=()):
    """Write tensors as .safetensors, atomically, and with them a history of unlearning."""
    atomic_write(serialize(weights, {'history': json.dumps(history)} if history else None), path)


def save_half(weights, path, history=()):
    """Write weights in half precision as .safetensors, and a history of unlearning; return the sha256 of the file."""
    halves = {key: value.detach().cpu().half().contiguous() for key, value in weights.items()}
    save_safetensors(halves, path, history)
    return sha256(path)


def sha256(path):
    """Return the sha256 of a file as a hexadecimal string."""
    digest = hashlib.sha256()  # hashlib.file_digest is not in Python 3.10
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
