"""The two ways a run ends badly, each with its exit status."""


class InputError(ValueError):
    """Bad input: one line that names the option, the value and the remedy. Exit status 2."""


class Diverged(RuntimeError):
    """A loss, gradient or weight is no longer finite. Exit status 3."""
