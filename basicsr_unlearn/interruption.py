"""SIGTERM and SIGINT: a run ends with status 4, during training after the iteration and with everything saved."""

import functools
import multiprocessing.util
import os
import signal
import time
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
INTERRUPTED = 4  # exit status
START = 'before the first iteration: nothing new is saved, and the same command begins again.'
REPORT = 'while the result was measured: models/net_g_latest.pth is saved. --auto_resume goes on from the newest state.'
AGAIN = 3.0  # seconds; launchers send a signal more than once, people later


class Interruption:
    """What the two signals do: note the wish during training, else end at once. One more, seconds later, kills.

    Attributes:
        asked (bool): Whether one of the signals has come.
        patient (bool): Whether somebody looks at `asked`, as training does after every iteration.
        words (str): What is said where nobody does.
        epoch (int): That of the training, for what is saved.
    """

    def __init__(self):
        self.asked, self.patient, self.words, self.epoch, self.since = False, False, START, 0, 0.0

    def handle(self):
        """Handle the signals from now on."""
        self.__init__()
        for number in SIGNALS:
            signal.signal(number, self._note)

    @contextmanager
    def guard(self):
        """Leave the signals afterwards to those who handled them before."""
        before = [signal.getsignal(number) for number in SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def at_once(self, words):
        """End at once, with these words, as long as the context lasts."""
        before = self.patient, self.words
        self.patient, self.words = False, words
        try:
            if self.asked:
                self._leave()
            yield
        finally:
            self.patient, self.words = before

    def _note(self, number, frame):
        if self.asked:
            if time.monotonic() - self.since > AGAIN:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.asked, self.since = True, time.monotonic()
        if not self.patient:
            self._leave()

    def _leave(self):
        os.write(2, f'basicsr: interrupted {self.words}\n'.encode())
        raise SystemExit(INTERRUPTED)


interruption = Interruption()  # of this process


@functools.cache
def end_workers_at_exit():
    """Kill the workers of data loaders when this process ends: Python asks them with a signal that they ignore."""
    multiprocessing.util.Finalize(None, _kill_workers, exitpriority=100)


def _kill_workers():
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def leave_to_parent():
    """Ignore the signals in a worker of a data loader: they reach the whole group, and the run still needs data."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
