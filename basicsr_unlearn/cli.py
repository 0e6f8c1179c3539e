"""The `basicsr` command: `train`, `test`, `check`, `restore`, `convert`, `init`. Thin: others do the work."""

import argparse
import os
import shutil
import sys
from contextlib import contextmanager
from importlib.metadata import entry_points
from os import path as osp

import torch

from basicsr_unlearn import __version__, check_run, checkpoint, compat, recipes, restore_folder
from basicsr_unlearn.bench import add_command as add_bench
from basicsr_unlearn.errors import Diverged, InputError

OK, BAD_INPUT, DIVERGED = 0, 2, 3
REQUIRED = (('name', str), ('model_type', str), ('num_gpu', (int, str)), ('datasets', dict), ('path', dict))
STATUS = """exit status:
  0  finished, or stopped by a rule of the option file
  2  bad input: one line says which option and what to do; nothing was created
  3  diverged: the last good weights are saved
  4  interrupted by a signal, after saving; go on with --auto_resume"""


def main(argv=None):
    """Run the command; return its exit status.

    Args:
        argv (list[str]): Arguments without the program's name. Default: those of the process.
    """
    options = _parser().parse_args(argv)
    try:
        for plugin in entry_points(group='basicsr.plugins'):
            plugin.load()
        return options.run(options)
    except InputError as error:
        return _fail(f'{_last_line(error)}', BAD_INPUT)
    except Diverged as error:
        return _fail(f'diverged: {error}', DIVERGED)


def train(options):
    """Train or unlearn: run BasicSR's train_pipeline in the current directory."""
    from basicsr.train import train_pipeline

    return _pipeline(train_pipeline, options)


def test(options):
    """Measure networks: run BasicSR's test_pipeline in the current directory."""
    from basicsr.test import test_pipeline

    return _pipeline(test_pipeline, options)


def check(options):
    """Test all that a run needs and print one table: check_run.py."""
    tree = _read_option_file(options.opt)
    _check_force_yml(options.force_yml, tree)
    with _command_line(options):
        opt = compat.parse_unchecked(os.getcwd(), is_train='train' in tree or 'train' in tree['datasets'])
    rows = check_run.run(opt, options.names)
    print(check_run.table(rows))
    return BAD_INPUT if any(result == 'error' for _, result, _ in rows) else OK


def init(options):
    """Write the option files of a recipe into the current directory, never over an existing file."""
    folder = recipes.folder(options.recipe)
    names = sorted(name for name in os.listdir(folder) if name.endswith('.yml'))
    existing = [name for name in names if osp.exists(name)]
    if existing:
        raise InputError(f'init: {existing[0]} exists already in {os.getcwd()}. Move it away or use an empty folder.')
    for name in names:
        shutil.copyfile(osp.join(folder, name), name)
        print(f'wrote {name}')
    print('next: basicsr train -opt unlearn_haze.yml')
    return OK


def restore(options):
    """Restore a folder of pictures: restore_folder.py."""
    tree = _read_option_file(options.opt, (('network_g', dict), ('path', dict)))
    number, skipped = restore_folder.run(options.input, options.output, tree, options.weights, options.compare)
    print(f'restored {number} pictures into {options.output}')
    if skipped:
        print(f'left alone {len(skipped)} files that are no pictures: {", ".join(skipped[:5])}')
    return OK


def preset(options):
    """Write an option file with another method in it: recipes.write_with_preset."""
    print(f'wrote {recipes.write_with_preset(options.opt, options.method)}')
    return OK


def bench(options):
    """Compare methods on one original: bench/."""
    from basicsr_unlearn.bench import course

    return course.run(options.opt, options.workers, options.plan, options.make_oracle)


def convert(options):
    """Write weights in another form: checkpoint.convert."""
    print(f'wrote {options.target}: {checkpoint.convert(options.source, options.target, options.param_key)}')
    return OK


def _pipeline(pipeline, options):
    shadow = compat.basicsr_is_shadowed()
    if shadow:
        print(f'basicsr: note: {shadow} is used instead of the installed BasicSR.', file=sys.stderr)
    tree = _read_option_file(options.opt)
    _check_force_yml(options.force_yml, tree)
    arguments = ['--launcher', options.launcher]
    arguments += ['--auto_resume'] * options.auto_resume + ['--debug'] * options.debug
    try:
        with _command_line(options, *arguments):
            pipeline(os.getcwd())
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return OK


@contextmanager
def _command_line(options, *arguments):
    """Put `-opt`, `--force_yml` and arguments where BasicSR looks for them, which parses the command line itself."""
    forced = ['--force_yml', *options.force_yml] if options.force_yml else []
    saved, sys.argv = sys.argv, ['basicsr', '-opt', options.opt, *arguments, *forced]
    try:
        yield
    finally:
        sys.argv = saved


def _read_option_file(path, required=REQUIRED):
    """Read an option file as far as needed to say in one line what is wrong with it."""
    tree = recipes.read_yaml(path, '-opt')
    for key, kind in required:
        if not isinstance(tree.get(key), kind):
            raise InputError(f'-opt {path}: {key}: {tree.get(key)!r} is missing or of the wrong type.')
    for key, value in tree['path'].items():
        if ('pretrain_network' in key or 'resume_state' in key) and not isinstance(value, (str, type(None))):
            raise InputError(f'-opt {path}: path: {key}: {value!r} must be the name of a file, or ~.')
    for key, section in tree['datasets'].items() if ('datasets', dict) in required else ():
        if not isinstance(section, dict):
            raise InputError(f'-opt {path}: datasets: {key}: must be a section of keys.')
    return tree


def _check_force_yml(entries, tree):
    for entry in entries or []:
        keys, equals, _ = entry.partition('=')
        section = tree
        for key in keys.split(':')[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if not equals or not isinstance(section, dict):
            raise InputError(f'--force_yml {entry}: write it as section:key=value with a section of the option file.')


def _last_line(error):
    """Return an error's own line; a data loader's worker wraps it into a traceback."""
    line = str(error).strip().splitlines()[-1]
    return line.removeprefix(f'{InputError.__module__}.{InputError.__name__}: ')


def _fail(message, status):
    print(f'basicsr: error: {message}', file=sys.stderr)
    return status


def _parser():
    parser = argparse.ArgumentParser(
        prog='basicsr',
        description=f'Train, unlearn and test image restorers with BasicSR option files. Served by basicsr-unlearn '
        f'{__version__}.',
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=_version())
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    _add_pipeline(commands, 'train', train, 'train or unlearn by an option file; writes experiments/ and tb_logger/')
    _add_pipeline(commands, 'test', test, 'measure a network by an option file; writes results/')
    check_run.add_command(commands, check)
    restore_folder.add_command(commands, restore)
    _add_convert(commands)
    recipes.add_commands(commands, init, preset)
    add_bench(commands, bench)
    return parser


def _add_pipeline(commands, name, run, text):
    command = commands.add_parser(
        name,
        help=text,
        description=text + ' in the current directory.',
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    command.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='pytorch: started by torchrun, one process per GPU (or per CPU process). Default: none',
    )
    command.add_argument(
        '--auto_resume',
        action='store_true',
        help='go on from the newest state in experiments/NAME, if there is one',
    )
    command.add_argument(
        '--debug',
        action='store_true',
        help='dry run as debug_NAME: 16 iterations, two images of each set, then an estimate of time and memory',
    )
    command.add_argument(
        '--force_yml',
        nargs='+',
        metavar='KEY=VALUE',
        help='change options, for example train:total_iter=100 datasets:train:gt_size=48',
    )
    command.add_argument('--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    command.set_defaults(run=run)


def _add_convert(commands):
    text = 'write weights in another form, bit for bit, and never over a file'
    command = commands.add_parser(
        'convert',
        help=text,
        description=f"{text}. The suffix of OUT says which: .pth (BasicSR), .ckpt (Lightning, as PromptIR's and "
        "AdaIR's test scripts read it), .safetensors. IN may be any of them.",
    )
    command.add_argument('source', metavar='IN')
    command.add_argument('target', metavar='OUT')
    command.add_argument(
        '--param_key', default='params', metavar='KEY', help='entry of IN, for example params_ema. Default: params'
    )
    command.set_defaults(run=convert)


def _version():
    import basicsr
    from basicsr.version import __version__ as basicsr_version

    return f'basicsr-unlearn {__version__} (BasicSR {basicsr_version} from {osp.dirname(basicsr.__file__)})'
