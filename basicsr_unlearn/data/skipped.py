"""What `on_error: skip` leaves out: the files, counted over the whole run, and the limit on them."""

import torch.distributed

from basicsr.utils import get_root_logger
from basicsr_unlearn.data import found
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import hashed, is_private, skipped_share

NAMED = 3  # files in an error


def check_share(option, paths, number, share):
    """Raise InputError if these paths are more than that share of so many files; `option` is their source."""
    if len(paths) > share * number:
        names = ', '.join(sorted(paths)[:NAMED]) + (', ...' if len(paths) > NAMED else '')
        raise InputError(
            f'{option}: {len(paths)} of {number} files cannot be used, more than max_skipped: {share:g}: {names}. '
            'Replace them, take them out of the data set, or raise datasets: train: max_skipped.'
        )


class Skipped:
    """The files that a run leaves out; each is a warning in the log, once.

    Args:
        opt (dict): The whole option tree.

    Attributes:
        entries (list[tuple]): Source, number of its files, path, and what is wrong with it in a line; each file of a
            source once. It is what a resumed run must be given.
    """

    def __init__(self, opt):
        self.share = skipped_share(opt['datasets'].get('train') or {})
        self.private = is_private(opt)
        self.entries = []
        if self.share is not None:
            self.collect(found.skipped)

    def collect(self, entries):
        """Take note of files that were left out, given as `entries` holds them.

        Raises:
            InputError: They are more than `max_skipped` of their source.
        """
        for source, number, path, text in entries:
            known = [entry[2] for entry in self.entries if entry[0] == source]
            if path not in known:
                self.entries.append((source, number, path, text))
                line = f'{hashed(path)} of {source}.' if self.private else f'({source}) {text}'
                get_root_logger().warning(f'Skipped {_printable(line)}')
                if self.share is not None:  # else what a run skipped that is now resumed without `skip`
                    check_share(source, [*known, path], number, self.share)

    def gather(self):
        """Join what the processes left out; all of them must call it."""
        if torch.distributed.is_initialized():
            gathered = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, self.entries)
            self.collect(sum(gathered, []))

    def names(self):
        """Return the names of all files, or their hashes where the run is private."""
        paths = sorted({entry[2] for entry in self.entries})
        return [hashed(path) if self.private else _printable(path) for path in paths]


def _printable(text):
    """Return text of which names need not be UTF-8."""
    return text.encode('utf-8', 'backslashreplace').decode()
