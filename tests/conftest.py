"""Settings of every test process."""

from __future__ import annotations

import os
import signal

# Test processes run side by side, one a core; a second thread in each would only wait for the others', and
# OpenBLAS and OpenMP wait busily.
for _library in ("MKL", "OMP", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# A shell starts jobs in the background with Ctrl-C ignored, which every process of a test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
