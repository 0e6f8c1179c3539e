"""The ways a run ends badly, each with its exit status."""


class InputError(ValueError):
    """Bad input: one line that names the option, the value and the remedy. Exit status 2."""


class Diverged(RuntimeError):
    """A loss, gradient or weight is no longer finite. Exit status 3.

    A method that raises it says why, and the remedy, in two arguments; the last good weights are saved.
    """


class Lost(RuntimeError):
    """Another process of the run is gone, and this one cannot go on. Exit status 1."""
