"""Check the public data sets, write list files, splits and LMDBs. Nothing that exists is overwritten.

    python scripts/prepare_data.py check data
    python scripts/prepare_data.py split data --set ots --share 0.1 --seed 0 --out lists
    python scripts/prepare_data.py lmdb  data --set ots --out data/lmdb
    python scripts/prepare_data.py list  --lq my/hazy --gt my/clear --out my/pairs.txt
    python scripts/prepare_data.py check --set ots --lq OTS/hazy --gt OTS/clear

DATA_ROOT is the folder with Train/ and test/ as the READMEs of PromptIR (there test/ may lie beside it) and AdaIR
prescribe. An interrupted lmdb goes on where it was when the same command is given again.
"""

import argparse
import hashlib
import os
import re
import sys
from os import path as osp
from typing import NamedTuple

from PIL import Image

import basicsr_unlearn  # noqa: F401
from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.data.lmdb_files import write_lmdb
from basicsr_unlearn.data.pairing import find_images, find_pairs, list_images, match_names, stem_of
from basicsr_unlearn.errors import InputError

STATUS = """exit status:
  0  done, or done already
  2  bad input, or a data set that is not complete; one line says which
  4  interrupted; the same command goes on"""


class Known(NamedTuple):
    """A public data set: folders below DATA_ROOT, published numbers of files (None: not checked), names of its own."""

    lq: str | None
    gt: str
    degraded: int | None
    clean: int | None
    names: str = ''


SETS = {
    'ots': Known('Train/Dehaze/synthetic', 'Train/Dehaze/original', 72135, 2061),
    'rain100l': Known('Train/Derain/rainy', 'Train/Derain/gt', 200, 200),
    'bsd400': Known(None, 'Train/Denoise', None, 400, r'(?!0\d{4}\.)'),
    'wed': Known(None, 'Train/Denoise', None, 4744, r'0\d{4}\.'),
    'gopro': Known('Train/Deblur/blur', 'Train/Deblur/sharp', 2103, 2103),
    'lol': Known('Train/Enhance/low', 'Train/Enhance/gt', 485, 485),
    'sots_test': Known('test/dehaze/input', 'test/dehaze/target', 500, None),
    'rain100l_test': Known('test/derain/Rain100L/input', 'test/derain/Rain100L/target', 100, 100),
    'cbsd68_test': Known(None, 'test/denoise/bsd68', None, 68),
    'gopro_test': Known('test/deblur/gopro/input', 'test/deblur/gopro/target', 1111, 1111),
    'lol_test': Known('test/enhance/lol/input', 'test/enhance/lol/target', 15, 15),
}


def check(args):
    """Prints one table; status 2 if a set that is there, or that --set asks for, is not complete."""
    rows, bad = [('set', 'degraded', 'clean', 'published', 'finding')], []
    for name in [args.set or args.name] if args.set or args.gt else SETS:
        known, *roots = _known(args, name)
        if not args.set and not any(osp.isdir(root or '') for root in roots):
            rows.append((name, '-', '-', _published(known), f'absent ({roots[1]})'))
            continue
        counts, findings = _examine(known, *roots)
        rows.append((name, *counts, _published(known), '; '.join(findings) or 'complete'))
        bad += [name] * bool(findings)
    widths = [max(len(str(row[i])) for row in rows) for i in range(4)]
    for row in rows:
        print('  '.join(f'{cell!s:<{width}}' for cell, width in zip(row, [*widths, 0], strict=True)))
    if bad:
        raise InputError(f'not complete: {", ".join(bad)}. The table says what is missing.')
    if all(row[1] == row[2] == '-' for row in rows[1:]):
        raise InputError(f'{args.data_root}: none of the data sets is here. DATA_ROOT is the folder that holds Train/.')


def _known(args, name):
    """Return what is known of a set, and its folders: those of the command line, or those below DATA_ROOT."""
    if bool(args.data_root) == bool(args.gt) or (args.lq and not args.gt):
        raise InputError('give either DATA_ROOT, or the folders --gt and --lq.')
    known = SETS.get(name, Known(None, '', None, None))
    if args.gt:
        return known, args.lq, args.gt
    return known, *(path and _folder(args.data_root, path) for path in (known.lq, known.gt))


def _examine(known, lq_root, gt_root):
    """Return the numbers of degraded and clean files, and what is wrong with them."""
    names, findings = [], []
    for root, published in ((lq_root, known.degraded), (gt_root, known.clean)):
        found = []
        try:
            found = [name for name in list_images(root, 'missing') if re.match(known.names, osp.basename(name))]
            if published and len(found) != published:
                findings.append(f'{len(found)} of {published} files in {root}')
        except InputError as error:
            findings += [str(error).rstrip('.')] if root else []
        names.append(found)
    if all(names):
        matched = match_names(*names)
        twice = [f'{name} ({", ".join(clean)})' for name, clean in matched if len(clean) > 1]
        findings += _some('degraded without a clean image', [name for name, clean in matched if not clean])
        findings += _some('degraded with two clean images', twice)
        used = {name for _, clean in matched for name in clean}
        findings += _some('clean without a degraded image', [name for name in names[1] if name not in used])
    return [len(names[0]) if lq_root else '-', len(names[1])], findings


def _some(what, names):
    return [f'{len(names)} {what}, such as {names[0]}'] if names else []


def _published(known):
    return ' / '.join(str(number) for number in (known.degraded, known.clean) if number)


def _folder(data_root, path):
    """Return a folder below DATA_ROOT; the test folders may lie beside it, as PromptIR has them."""
    beside = osp.join(data_root, os.pardir, path)
    inside = osp.join(data_root, path)
    return beside if path.startswith('test/') and not osp.isdir(inside) and osp.isdir(beside) else inside


def _selected(args, every_clean=True):
    """Return name, folders and pairs of names (the degraded one None for clean sets) that the arguments select."""
    known, lq, gt = _known(args, args.set)
    if not args.gt and not args.set:
        raise InputError('DATA_ROOT needs --set.')
    name = args.set or args.name
    section = {'dataroot_lq': lq, 'dataroot_gt': gt, 'file_list': args.file_list}
    if lq:
        pairs = [(osp.relpath(a, lq), osp.relpath(b, gt)) for a, b in find_pairs(name, section, every_clean)]
    else:
        pairs = [(None, osp.relpath(path, gt)) for path in find_images(name, section)]
    pairs = [pair for pair in pairs if re.match(known.names, osp.basename(pair[1]))]
    return name, lq, gt, pairs


def write_list(args):
    """Clean images without a degraded one are left out."""
    _, _, gt_root, pairs = _selected(args, every_clean=False)
    if not args.meta_info:
        return _write_new({args.out: _as_list(pairs)})
    lines = []
    for lq, gt in pairs:
        if osp.dirname(gt) or (lq or gt) != gt:
            raise InputError(f"{lq or gt}, {gt}: BasicSR's meta_info_file needs equal names. Write a file_list.")
        with Image.open(osp.join(gt_root, gt)) as image:
            lines.append(f'{gt} ({image.height},{image.width},{len(image.getbands())})\n')
    return _write_new({args.out: ''.join(lines)})


def split(args):
    """All degraded versions of a clean image come to one side, which its name and the seed decide."""
    name, _, _, pairs = _selected(args)
    sides = {'train': [], 'val': []}
    for pair in pairs:
        digest = hashlib.sha256(f'{args.seed}/{stem_of(pair[1])}'.encode()).digest()
        held_out = int.from_bytes(digest[:8], 'big') < args.share * 2**64
        sides['val' if held_out else 'train'].append(pair)
    for side, chosen in sides.items():
        if not chosen:
            raise InputError(f'--share {args.share}: no clean image came to {side}. Take another share or --seed.')
        print(f'{side}: {len(chosen)} files of {len({gt for _, gt in chosen})} clean images')
    _write_new({osp.join(args.out, f'{name}_{side}.txt'): _as_list(chosen) for side, chosen in sides.items()})


def write_lmdbs(args):
    """Each clean image is stored once. PNG and JPEG files are stored as they are, others as PNG."""
    name, lq_root, gt_root, pairs = _selected(args)
    images = {'lq': (lq_root, [lq for lq, _ in pairs]), 'gt': (gt_root, list(dict.fromkeys(gt for _, gt in pairs)))}
    for side, (root, names) in images.items():
        if root:
            folder = osp.join(args.out, f'{name}_{side}.lmdb')
            print(f'{folder}: {write_lmdb(root, names, folder)}')


def _as_list(pairs):
    return ''.join('\t'.join(filter(None, pair)) + '\n' for pair in pairs)


def _write_new(texts):
    """Write text files; one that exists must hold the same."""
    for path, text in texts.items():
        if osp.exists(path):
            with open(path, encoding='utf-8', errors='replace') as file:
                if file.read() != text:
                    raise InputError(f'{path}: exists and holds something else. Move it away or choose another --out.')
    for path, text in texts.items():
        done = osp.exists(path)
        if not done:
            os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
            atomic_write(text, path)
        print(f'{path}: {text.count(chr(10))} lines, {"complete already" if done else "written"}')


def main(argv=None):
    """Run the script; return its exit status."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        return 0
    except InputError as error:
        print(f'prepare_data: error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'prepare_data: error: {error}.', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('prepare_data: interrupted; what is finished is kept, and the same command goes on.', file=sys.stderr)
        return 4


def _parser():
    layout = {'formatter_class': argparse.RawDescriptionHelpFormatter, 'epilog': STATUS}
    parser = argparse.ArgumentParser(prog='prepare_data.py', description=__doc__, **layout)
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name, run, out, text in (
        ('check', check, None, 'compare folders with the published numbers of files, and degraded with clean names'),
        ('list', write_list, 'the file to write', 'write a file_list of all pairs of a data set'),
        ('split', split, 'folder for NAME_train.txt and NAME_val.txt', 'split a data set by its clean images'),
        ('lmdb', write_lmdbs, 'folder for NAME_lq.lmdb and NAME_gt.lmdb', 'write a data set into LMDBs'),
    ):
        command = commands.add_parser(name, help=text, description=f'{text}. {run.__doc__}', **layout)
        command.add_argument('data_root', nargs='?', metavar='DATA_ROOT', help='the folder that holds Train/ and test/')
        command.add_argument('--set', choices=SETS, metavar='NAME', help=f'one of {", ".join(SETS)}')
        command.add_argument('--lq', metavar='FOLDER', help='degraded images elsewhere; none: a set of clean images')
        command.add_argument('--gt', metavar='FOLDER', help='clean images elsewhere')
        command.add_argument('--name', default='pairs', help='name in place of --set. Default: pairs')
        command.set_defaults(run=run)
        if out:
            command.add_argument('--file-list', metavar='FILE', help='take only the degraded files named in it')
            command.add_argument('--out', required=True, metavar='PATH', help=out)
        if name == 'list':
            command.add_argument('--meta-info', action='store_true', help="BasicSR's meta_info_file, not a file_list")
        if name == 'split':
            command.add_argument('--share', type=float, default=0.1, help='of clean images for val. Default: 0.1')
            command.add_argument('--seed', type=int, default=0, help='another seed, another split. Default: 0')
    return parser


if __name__ == '__main__':
    sys.exit(main())
