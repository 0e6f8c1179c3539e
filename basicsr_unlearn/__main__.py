"""`python -m basicsr_unlearn` is the `basicsr` command."""

import sys

from basicsr_unlearn.cli import main

sys.exit(main())
