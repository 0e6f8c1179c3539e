"""`basicsr audit`: attacks on a finished run's network, on its original and on the oracle, and what they found."""


def add_command(commands):
    """Add `audit` to the command line."""
    text = 'try to get the forgotten data back, and say what was found'
    command = commands.add_parser(
        'audit',
        help=text,
        description=f'{text}: original, unlearned network and (where given) oracle under the same attacks. Writes '
        'audits/NAME. Killed in between? The same command goes on.',
    )
    command.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML) of the unlearning run')
    command.add_argument(
        '--weights', metavar='FILE', help='the network to audit. Default: experiments/NAME/models/net_g_latest.pth'
    )
    command.add_argument('--name', help='of the audit. Default: that of the run')
    command.add_argument('--quick', action='store_true', help='fewer pictures, steps and attacks; no shadow networks')
    command.add_argument('--plan', action='store_true', help='print what would be done and how long it takes, and end')
    command.add_argument(
        '--workers', type=int, metavar='N', help='processes. Default: one for each GPU, without a GPU for each core'
    )
    command.add_argument('--force_yml', nargs='+', metavar='KEY=VALUE', help='change options, as for train')
    command.set_defaults(run=_audit)


def _audit(options):
    from basicsr_unlearn.audit_run.course import Course
    from basicsr_unlearn.audit_run.subject import Subject
    from basicsr_unlearn.report.course import report

    subject = Subject(options.opt, options.weights, options.name, options.quick, options.force_yml)
    course = Course(subject, options.workers)
    print(course.plan())
    if options.plan:
        return 0
    for question in course.run()['questions']:
        print(f'{question["light"]:5}  {question["question"]} {question["sentence"]}')
    return report(subject.folder)
