"""`basicsr bench`: many methods on one original, attacked alike, and the leaderboard."""


def add_command(commands, run):
    """Add `bench` to the command line; `run` runs it."""
    text = 'compare unlearning methods on one original: tuning, relearning attacks, a leaderboard'
    command = commands.add_parser(
        'bench',
        help=text,
        description=f'{text}, in bench/NAME. The plan with its estimated hours is printed first. Killed in between? '
        'The same command goes on.',
    )
    command.add_argument('-opt', required=True, metavar='FILE', help='option file of the benchmark (YAML)')
    command.add_argument(
        '--workers', type=int, metavar='N', help='processes. Default: one for each GPU, without a GPU for each core'
    )
    command.add_argument('--plan', action='store_true', help='print the plan and its estimated hours, and end')
    command.add_argument(
        '--make-oracle',
        type=float,
        metavar='SHARE',
        help="train a short oracle first: from scratch on the retain data, for SHARE of the original's training cost",
    )
    command.set_defaults(run=run)
