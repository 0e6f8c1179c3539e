"""`basicsr check`: everything that can be known before a run, in one table; nothing is trained or created."""

import textwrap
from os import path as osp

import torch

from basicsr_unlearn import check_duplicates, check_images, check_machine, options
from basicsr_unlearn.data.lists import IMAGE_SUFFIXES
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.dry_run import peak_memory
from basicsr_unlearn.models.summary import markdown_table
from basicsr_unlearn.network import build_network_g
from basicsr_unlearn.preflight import option_tests
from basicsr_unlearn.preflight_data import check_parts
from basicsr_unlearn.preflight_history import check_retain
from basicsr_unlearn.preflight_network import weight_tests

HEADER = ('test', 'result', 'details')
WIDTH = 80  # of the details, in characters
EXAMPLES = 3  # names in one row
HIDDEN = 'has a fault that names files: see it with --names.'
LATER = 'not looked at: put right the errors above first.'
ABOUT = """Test all that a run will read and need, and print one table: options, every image in full, sizes, images that
are there twice, weights, disk space, memory. Nothing is trained, and nothing is created. Exit status 2 if a row says
error."""


def add_command(commands, run_command):
    """Add `check` to the subcommands of the command line."""
    command = commands.add_parser('check', help='test options, data and machine for a run', description=ABOUT)
    command.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML) of a training or a test')
    command.add_argument('--force_yml', nargs='+', metavar='KEY=VALUE', help='change options, as for train')
    command.add_argument(
        '--names', action='store_true', help='show file names where the option file is private, instead of hashes'
    )
    command.set_defaults(run=run_command)


class Report:
    """The rows of the table: (test, ok | warning | error, details).

    Args:
        hide (bool): Hashes instead of file names.
    """

    def __init__(self, hide=False):
        self.hide, self.rows, self.texts = hide, [], set()  # texts: of the errors so far

    def add(self, test, result, details=''):
        self.rows.append((test, result, details.removeprefix(f'{test}: ')))

    def attempt(self, test, function, *arguments, say=None, lists=False):
        """Call a function; what it raises becomes a row.

        Args:
            test (str): Name of the row.
            say (callable): Details of a row `ok`, made of the result. Default: None, no row.
            lists (bool): An error may name a file that nothing shows to be one. Default: False.

        Returns:
            What the function returns; None where it fails.
        """
        try:
            result = function(*arguments)
        except Exception as error:  # half an option tree makes the tests of its other half fail in any way
            known = isinstance(error, InputError)
            text = str(error) if known else f'{type(error).__name__}: {error}'
            if text in self.texts or (self.failed and not known):
                self.add(test, 'warning', LATER)
                return None
            self.texts.add(text)
            names = lists or any(suffix in text.lower() for suffix in IMAGE_SUFFIXES)
            self.add(test, 'error', HIDDEN if self.hide and names else text)
            return None
        if say:
            self.add(test, 'ok', say(result))
        return result

    @property
    def failed(self):
        return any(result == 'error' for _, result, _ in self.rows)

    def shown(self, path):
        """Return what stands for a file in the table."""
        return options.hashed(osp.basename(path)) if self.hide else path

    def faults(self, test, faults, total, details='all readable'):
        """Add the row of many files: `[(paths, error)]` with their number and the first few names."""
        if not faults:
            self.add(test, 'ok', f'{total}, {details}')
            return
        names = ', '.join(osp.basename(self.shown(paths[0])) for paths, _ in faults[:EXAMPLES])
        paths, error = faults[0]
        text = str(error)
        for path in sorted(paths, key=len, reverse=True):
            text = text.replace(path, self.shown(path))
        self.add(test, 'error', f'{len(faults)} of {total}: {names}. {text}')

    def found(self, test, lines, remedy, none, strict=False):
        """Add the row of copies that should not be there: one line for each place, or `none` where there is none.

        Args:
            lines (list[tuple]): A text, and how many copies are the same to the pixel.
            strict (bool): Such are an error. Default: False.
        """
        result = 'error' if strict and any(same for _, same in lines) else 'warning' if lines else 'ok'
        self.add(test, result, ' '.join([*(text for text, _ in lines), remedy]) if lines else none)


def run(opt, names=False):
    """Do every test that does not depend on one that failed.

    Args:
        opt (dict): The option tree as `parse_unchecked` returns it; changed in place (paths are expanded).
        names (bool): Show file names also where the option file is private. Default: False.

    Returns:
        list[tuple]: Rows `(test, ok | warning | error, details)`.

    Raises:
        InputError: Another `model_type` than ours.
    """
    options.check_choice('model_type', opt.get('model_type'), options.OUR_MODELS)
    baseline = peak_memory(torch.device('cpu'))
    report = Report(options.is_private(opt) and not names)
    unusable = _expand(opt, report)
    for test, function in option_tests(opt).items():
        report.attempt(test, function, say=_say)
    sets = check_images.find(opt, report, unusable)
    if options.task_of(opt) == 'instance' and not report.failed:
        report.attempt('datasets: train: split', check_parts, opt, say=_say, lists=True)
    check_images.read(sets, report)
    check_duplicates.report(sets, options.task_of(opt), report)
    net = report.attempt('network_g', build_network_g, opt.get('network_g'), say=_count)
    if net is not None:
        for test, function in (report.attempt('path', weight_tests, opt, net) or {}).items():
            report.attempt(test, function, say=_say)
        if opt['is_train'] and opt['model_type'] == 'UnlearnModel' and not report.failed:
            report.attempt('earlier requests', check_retain, opt, say=_say, lists=True)
        report.attempt('disk space', check_machine.check_disk, opt, net, sets, report)
        report.attempt('memory', check_machine.check_memory, opt, net, sets, baseline, report)
    return report.rows


def table(rows):
    """Return the table as text, long details in several lines."""
    lines = [HEADER]
    for test, result, details in rows:
        parts = textwrap.wrap(details, WIDTH, break_long_words=False, break_on_hyphens=False) or ['']
        lines += [(test, result, parts[0]), *(('', '', part) for part in parts[1:])]
    return '\n'.join(markdown_table(lines))


def _expand(opt, report):
    """Expand the paths; return the sections whose paths cannot be, and leave such entries of `path` empty."""

    def expand(option, tree):
        options.expand_paths(option, tree)
        return tree

    for key, value in opt['path'].items():
        opt['path'][key] = (report.attempt(f'path: {key}', expand, 'path', {key: value}) or {key: None})[key]
    sections = {f'datasets: {key}': section for key, section in opt['datasets'].items()}
    sections['train: method'] = options.method_of(opt)
    unusable = {option for option, tree in sections.items() if report.attempt(option, expand, option, tree) is None}
    usable = {key: section for key, section in opt['datasets'].items() if f'datasets: {key}' not in unusable}
    options.prepare({**opt, 'datasets': usable, 'train': {}})
    return unusable


def _say(result):
    """Return the details of a test that found no fault."""
    return f'{len(result)} modules' if result and isinstance(result, dict) else result or 'no fault'


def _count(net):
    return f'{type(net).__name__}, {sum(map(torch.numel, net.parameters())):,} parameters'
