"""`basicsr report` and `basicsr compare`: one page of what an audit found, and one of several runs."""


def add_commands(commands):
    """Add `report` and `compare` to the command line."""
    text = 'write one page of what an audit found'
    command = commands.add_parser(
        'report',
        help=text,
        description=f'{text}: report.html, report.md and report.json in audits/NAME. A finished run without an audit '
        'has its page in experiments/NAME, and the page says what only an audit can answer.',
    )
    command.add_argument('subject', metavar='RUN_OR_AUDIT', help='NAME, audits/NAME or experiments/NAME')
    command.set_defaults(run=_report)
    text = 'put several runs on one page'
    command = commands.add_parser('compare', help=f'{text}: what their audits found', description=f'{text}.')
    command.add_argument('subjects', nargs='+', metavar='RUN', help='NAME, audits/NAME or experiments/NAME')
    command.add_argument(
        '-o', '--output', metavar='STEM', default='audits/compare', help='of the three files. Default: audits/compare'
    )
    command.set_defaults(run=_compare)


def _report(options):
    from basicsr_unlearn.report import course

    return course.report(options.subject)


def _compare(options):
    from basicsr_unlearn.report import course

    return course.compare(options.subjects, options.output)
