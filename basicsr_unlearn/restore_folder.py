"""`basicsr restore`: a folder of pictures through a trained network, and sheets that compare two networks."""

import dataclasses
import os
from os import path as osp

import torch
from tqdm import tqdm

from basicsr_unlearn import checkpoint, manifest, options
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.inference import measuring, restore
from basicsr_unlearn.models.pictures import SUFFIXES, Picture, read_picture, write_png
from basicsr_unlearn.models.tensorboard import sheet
from basicsr_unlearn.preflight import ALL_PIXELS
from basicsr_unlearn.preflight_network import build_network_g

SHEETS = 'comparison'  # folder inside the output folder
OPTION = 'path: pretrain_network_g'
ABOUT = """Restore pictures with a trained network; writes PNG files, and never over a file. Of the option file,
network_g, path: pretrain_network_g, val: tile, tile_overlap, size_multiple and num_gpu are used. JPEG, PNG, BMP, TIFF
and WebP of 8 or 16 bits; depth, grey, alpha and colour profiles stay."""


@dataclasses.dataclass
class Job:
    """One picture: what is read, what is written, and the sheet to write (None: no sheet)."""

    source: str
    target: str
    sheet: str | None


def add_command(commands, run_command):
    """Add `restore` to the subcommands of the command line."""
    command = commands.add_parser('restore', help='restore pictures with a trained network', description=ABOUT)
    command.add_argument('-i', '--input', required=True, metavar='FOLDER', help='pictures, or one picture')
    command.add_argument('-o', '--output', required=True, metavar='FOLDER', help='folder of the results')
    command.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML) of a training, test or run')
    command.add_argument(
        '--weights',
        metavar='FILE',
        help='weights of the network, for example experiments/NAME/models/net_g_latest.pth. Default: ' + OPTION,
    )
    command.add_argument(
        '--compare',
        nargs='?',
        const='',
        metavar='FILE',
        help=f'also write {SHEETS}/NAME.png: input, network of FILE, restoring network. Without FILE: {OPTION}, the '
        'original of an unlearning run',
    )
    command.set_defaults(run=run_command)


def run(source, target, opt, weights=None, other=None):
    """Restore a picture or a folder of pictures, subfolders included.

    Everything is looked at before the first file is written: options, weights, headers (and all pixels where there are
    at most 1,000 pictures), and whether a result would take the place of another file.

    Args:
        source (str): Picture or folder.
        target (str): Folder of the results: `NAME.png` for `NAME.jpg`, in the same subfolders.
        opt (dict): An option tree of which `network_g`, `path`, `val: tile`, `tile_overlap`, `size_multiple` and
            `num_gpu` are used; never changed.
        weights (str): Weights of the network. Default: `path: pretrain_network_g`.
        other (str): Weights to compare with, or '' for `path: pretrain_network_g`: `comparison/NAME.png` shows input,
            other and restored side by side (8 bits, no alpha). Default: None, no sheets.

    Returns:
        tuple(int, list): Number of pictures restored, and names of the files that are no pictures.

    Raises:
        InputError: Bad options, weights or pictures, or a file in the way.
    """
    files, labels = _choose_weights(opt, weights, other)
    tiles = options.tile_options(opt)
    jobs, skipped = plan(source, target, other is not None)
    for job in tqdm(jobs, 'checking pictures', unit='picture', leave=False, disable=None):
        read_picture(job.source, pixels=len(jobs) <= ALL_PIXELS)
    use_gpu = opt.get('num_gpu', 'auto') != 0 and torch.cuda.is_available()
    device = torch.device('cuda' if use_gpu else 'cpu')
    nets = [_load(opt, option, path, device) for option, path in files]
    _try_out(nets[0], device, tiles['multiple'])
    for job in tqdm(jobs, 'restoring', unit='picture', disable=None):  # None: only on a terminal
        _restore(job, nets, labels, device, tiles)
    return len(jobs), skipped


def plan(source, target, compare):
    """Find the pictures and the files to write; return the Jobs and the names of files that are no pictures.

    Raises:
        InputError: No picture, a result that exists already, or two pictures with one result.
    """
    if osp.exists(target) and not osp.isdir(target):
        raise InputError(f'-o {target}: is a file. Give a folder.')
    found, skipped = _find(source, target)
    jobs, writers = [], {}
    for path, stem in found:
        outputs = [osp.join(target, f'{stem}.png')]
        if compare:
            outputs.append(osp.join(target, SHEETS, f'{stem}.png'))
        for output in outputs:
            if output in writers:
                raise InputError(f'-i {source}: {writers[output]} and {path} would both become {output}. Rename one.')
            if osp.lexists(output):
                raise InputError(f'-o {target}: {output} exists already. Give another folder, or move it away.')
            writers[output] = path
        jobs.append(Job(path, outputs[0], outputs[1] if compare else None))
    return jobs, skipped


def _find(source, target):
    """Return [(picture, its name inside `source` without suffix)] and the other files; `target` inside is left out."""
    if osp.isfile(source):
        names, root = [osp.basename(source)], osp.dirname(source)
    elif osp.isdir(source):
        names, root = [], source
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(name for name in folders if not _is_same(osp.join(folder, name), target))
            names += [osp.relpath(osp.join(folder, name), source) for name in sorted(files)]
    else:
        raise InputError(f'-i {source}: no such file or folder.')
    names = [name for name in names if not osp.basename(name).startswith('.')]
    pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not pictures:
        raise InputError(f'-i {source}: no picture ({", ".join(SUFFIXES)}).')
    found = [(osp.join(root, name), osp.splitext(name)[0]) for name in pictures]
    return found, [name for name in names if name not in set(pictures)]


def _is_same(first, second):
    return osp.realpath(first) == osp.realpath(second)


def _choose_weights(opt, weights, other):
    """Return [(option, file)] of the network and of the one to compare with, and their labels."""
    paths = {key: opt['path'].get(key) for key in ('pretrain_network_g',) if opt['path'].get(key)}
    options.expand_paths('path', paths)
    own, unlearning = paths.get('pretrain_network_g'), opt.get('model_type') == 'UnlearnModel'
    if not weights and unlearning:
        result = f'experiments/{opt.get("name")}/models/net_g_latest.pth'
        raise InputError(
            f'--weights: is missing: pretrain_network_g of this option file is the network before unlearning; '
            f'the result of its run is {result}'
        )
    files = [('--weights', weights) if weights else (OPTION, own)]
    if other is not None:
        files.append(('--compare', other) if other else (OPTION, own))
    for option, path in files:
        if not path:
            raise InputError(f'{option}: is missing from the option file. Name the weights there, or with --weights.')
    places = [osp.abspath(checkpoint.resolve(path)) for _, path in files]
    if len(set(places)) < len(places):
        raise InputError(f'--compare: {files[1][1]} is the restoring network itself. Name another file.')
    if unlearning and own and places[-1] == osp.abspath(checkpoint.resolve(own)):
        return files, ('unlearned', 'original')
    return files, _labels(*places)


def _labels(*places):
    """Return the names that tell two files apart: their own, or those of the nearest folders that differ."""
    if len(places) < 2:
        return places
    parts = [osp.splitext(place)[0].split(os.sep)[::-1] for place in places]
    pairs = [pair for pair in zip(*parts, strict=False) if len({'', 'input', *pair}) == 4]
    return pairs[0] if pairs else ('restored', 'other')


def _load(opt, option, path, device):
    net = build_network_g(opt['network_g'])
    own = opt['path']
    checkpoint.load_into(net, path, option, own.get('param_key_g', 'params'), own.get('strict_load_g', True))
    manifest.read_entry(path)
    return net.to(device).eval().requires_grad_(False)


def _try_out(net, device, multiple):
    """Raise InputError for a network that takes no RGB pictures, or changes their size."""
    image = torch.zeros(1, 3, 64, 64, device=device)
    try:
        with measuring(net):
            restore(net, image, multiple=multiple)
    except InputError:
        raise
    except Exception as error:  # networks of other packages complain in their own ways
        reason = ' '.join(str(error).split())
        raise InputError(f'network_g: {type(net).__name__} does not take RGB pictures: {reason}') from None


def _restore(job, nets, labels, device, tiles):
    picture = read_picture(job.source)
    image, results = picture.to_tensor().to(device), []
    for net in nets:
        try:
            with measuring(net):
                result = restore(net, image, **tiles)
        except RuntimeError as error:
            if 'memory' not in str(error):
                raise
            raise InputError(
                f'{job.source}: {image.shape[3]}x{image.shape[2]} pixels do not fit into memory. Set val: tile.'
            ) from None
        if not result.isfinite().all():
            raise InputError(f'{job.source}: the network gives values that are not finite. Use other weights.')
        results.append(picture.with_colour(result))
    if job.sheet:
        panels = {'input': picture, labels[1]: results[1], labels[0]: results[0]}
        panels = {name: panel.to_8_bits() for name, panel in panels.items()}
        write_png(job.sheet, Picture(sheet(panels, list(panels))))
    write_png(job.target, results[0])
