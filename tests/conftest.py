"""Settings of every test process."""

from __future__ import annotations

import os

# Test processes run side by side, one a core; a second thread in each would only wait for the others'.
os.environ.setdefault("MKL_NUM_THREADS", "1")
