"""One of BasicSR's pipelines, run to its end: signals, other processes, and what is left in memory afterwards."""

import os
import sys
from contextlib import contextmanager

from basicsr_unlearn import compat, processes
from basicsr_unlearn.data import found
from basicsr_unlearn.errors import Diverged, Lost
from basicsr_unlearn.interruption import interruption


def run(pipeline, options):
    """Run train_pipeline or test_pipeline in the current directory.

    Args:
        pipeline (callable): BasicSR's.
        options (argparse.Namespace): `opt`, `launcher`, `auto_resume`, `debug`, `force_yml`.

    Raises:
        Lost: Another process is gone.
        SystemExit: A rule or a signal has ended the run, on all processes.
        InputError, Diverged: The run says so.
    """
    shadow = compat.basicsr_is_shadowed()
    if shadow:
        print(f'basicsr: note: {shadow} is used instead of the installed BasicSR.', file=sys.stderr)
    arguments = ['--launcher', options.launcher]
    arguments += ['--auto_resume'] * options.auto_resume + ['--debug'] * options.debug
    command = f'basicsr {pipeline.__name__.removesuffix("_pipeline")}'
    fine = False
    try:
        with command_line(command, options, *arguments), interruption.guard():
            pipeline(os.getcwd())
        fine = True
    except Diverged:  # on all processes
        fine = True
        raise
    except SystemExit:  # so is what ends a training, but for a signal before its first iteration
        fine = interruption.patient
        raise
    except RuntimeError as error:
        if processes.is_loss(error):
            raise Lost(processes.lost()) from error
        raise
    finally:
        found.drop()
        processes.leave(fine)


@contextmanager
def command_line(command, options, *arguments):
    """Put `-opt`, arguments and `--force_yml` where BasicSR looks for them; it writes the command line down, too."""
    forced = ['--force_yml', *options.force_yml] if options.force_yml else []
    saved, sys.argv = sys.argv, [command, '-opt', options.opt, *arguments, *forced]
    try:
        yield
    finally:
        sys.argv = saved
