"""One of several processes, started by a test: runs option files one after the other, each in a folder of its own.

Arguments: the port of the first run, then option files; the process and their number come from RANK and WORLD_SIZE.
"""

import logging
import os
import sys
from pathlib import Path

import torch

import basicsr_unlearn  # noqa: F401
from basicsr.utils import logger as basicsr_logger
from basicsr_unlearn.cli import main

if __name__ == '__main__':
    torch.set_num_threads(1)
    for number, file in enumerate(sys.argv[2:]):
        os.environ['MASTER_PORT'] = str(int(sys.argv[1]) + number)
        basicsr_logger.initialized_logger.clear()  # BasicSR sets its logger up once per process
        logging.getLogger('basicsr').handlers.clear()
        os.chdir(Path(file).parent)
        try:
            status = main(['train', '-opt', file, '--launcher', 'pytorch'])
        except SystemExit as end:
            status = end.code
        if status:
            sys.exit(status)
