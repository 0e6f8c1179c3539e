"""The `basicsr` command: `train`, `test`, `check`, `restore`, `convert`, `init`. Thin: others do the work."""

import argparse
import os
import shutil
import sys
from importlib.metadata import entry_points
from os import path as osp

from basicsr_unlearn import (
    __version__,
    check_run,
    checkpoint,
    full_disk,
    option_file,
    option_tree,
    pipeline,
    purge_run,
    recipes,
    restore_folder,
)
from basicsr_unlearn.audit_run import add_command as add_audit
from basicsr_unlearn.bench import add_command as add_bench
from basicsr_unlearn.compat.reading import parse_unchecked
from basicsr_unlearn.errors import Diverged, InputError, Lost, one_line
from basicsr_unlearn.option_tables import PATH, check_values
from basicsr_unlearn.protect import add_command as add_protect
from basicsr_unlearn.report import add_commands as add_report

OK, FAILED, BAD_INPUT, DIVERGED = 0, 1, 2, 3
STATUS = """exit status:
  0  finished, or stopped by a rule of the option file
  1  failed: a full disk, another process that is gone; what was saved before is whole, go on with --auto_resume
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
        return _fail(one_line(error), BAD_INPUT)
    except Diverged as error:
        return _fail(f'diverged: {error}', DIVERGED)
    except Lost as error:
        return _fail(error, FAILED)
    except OSError as error:
        if error.errno not in full_disk.REASONS:
            raise
        return _fail(full_disk.explain(error), FAILED)


def train(options):
    """Train or unlearn: run BasicSR's train_pipeline in the current directory."""
    from basicsr.train import train_pipeline

    pipeline.run(train_pipeline, options)
    return OK


def test(options):
    """Measure networks: run BasicSR's test_pipeline in the current directory."""
    from basicsr.test import test_pipeline

    pipeline.run(test_pipeline, options)
    return OK


def check(options):
    """Test all that a run needs and print one table: check_run.py."""
    tree = option_file.read(options.opt, '-opt', options.force_yml)
    is_train = 'train' in tree or 'train' in (tree.get('datasets') or {})
    option_tree.check_file(tree, f'-opt {options.opt}', is_train)
    with pipeline.command_line('basicsr check', options):
        opt = parse_unchecked(os.getcwd(), is_train, tree)
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
    tree = option_file.read(options.opt, '-opt')
    for key in ('network_g', 'path'):
        if not isinstance(tree.get(key), dict):
            raise InputError(f'-opt {options.opt}: {key}: {tree.get(key)!r} is missing or of the wrong type.')
    check_values(f'-opt {options.opt}', tree, {'val': 'section?'})
    check_values('path', tree['path'], PATH)
    number, skipped = restore_folder.run(options.input, options.output, tree, options.weights, options.compare)
    print(f'restored {number} pictures into {options.output}')
    if skipped:
        print(f'left alone {len(skipped)} files that are no pictures: {", ".join(skipped[:5])}')
    return OK


def purge(options):
    """Remove what a finished run still holds of the data that it forgot: purge_run.py."""
    found = purge_run.find(options.name)
    if not (options.yes or sys.stdin.isatty()):
        raise InputError(f'purge {options.name}: there is no terminal to ask. Give --yes to remove without a question.')
    print(found.table())
    inside = not found.inside or _agrees(options, f'Remove what lies in the folders of {found.name}?')
    removable = [entry['path'] for entry in found.removable if options.outside]
    outside = bool(removable) and _agrees(options, f'Remove {", ".join(removable)} as well?')
    print(purge_run.remove(found, inside, outside) if inside or outside else f'{found.name}: nothing was removed')
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
    what = checkpoint.convert(options.source, options.target, options.param_key, not options.no_history)
    print(f'wrote {options.target}: {what}')
    return OK


def _agrees(options, question):
    if options.yes:
        return True
    print(f'{question} [y/N] ', end='', flush=True)
    return sys.stdin.readline().strip().lower() in ('y', 'yes')


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
    purge_run.add_command(commands, purge)
    _add_convert(commands)
    recipes.add_commands(commands, init, preset)
    add_bench(commands, bench)
    add_audit(commands)
    add_report(commands)
    add_protect(commands)
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
    command.add_argument('--no-history', action='store_true', help='leave out what was to be forgotten, and its hashes')
    command.set_defaults(run=convert)


def _version():
    import basicsr
    from basicsr.version import __version__ as basicsr_version

    return f'basicsr-unlearn {__version__} (BasicSR {basicsr_version} from {osp.dirname(basicsr.__file__)})'
