"""Settings for every test process."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has a core of its own; torch would take all

os.environ["LANGUAGE"] = "en"  # tests compare English texts; tests of other languages set it themselves
