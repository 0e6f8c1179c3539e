"""Unlearning for image restoration, as a plugin of BasicSR. Importing this package registers everything it has."""

__version__ = '0.1.0'

from basicsr_unlearn import compat

compat.apply()

from basicsr_unlearn import archs, data, losses, methods, metrics, models, preflight  # noqa: E402,F401

compat.checks[:] = [preflight.check]
