"""The ways a run ends badly, each with its exit status."""

LONGEST = 400  # characters of a message


class InputError(ValueError):
    """Bad input: one line that names the option, the value and the remedy. Exit status 2."""


class Diverged(RuntimeError):
    """A loss, gradient or weight is no longer finite. Exit status 3.

    A method that raises it says why, and the remedy, in two arguments; the last good weights are saved.
    """


class Lost(RuntimeError):
    """Another process of the run is gone, and this one cannot go on. Exit status 1."""


def one_line(error):
    """Return an error's own line without what a data loader's worker adds, its middle left out where it is long."""
    text = str(error).split(f'{type(error).__module__}.{type(error).__qualname__}: ')[-1]
    text = ' '.join(''.join(sign if sign.isprintable() else ' ' for sign in text).split())
    return text if len(text) <= LONGEST else f'{text[: LONGEST - 155]} ... {text[-150:]}'
