"""`python -m virtceph.cli`."""

import sys

from virtceph.cli.main import main

sys.exit(main())
