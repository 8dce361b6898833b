"""Running the command line in a process of its own."""

import subprocess
import sys

# The notice of missing kernels has a test of its own.
# Isolated: the folder that the tests are started in is not where gconv is to be found.
COMMAND = [sys.executable, "-I", "-W", "ignore:gconv runs on NumPy alone", "-c", "from gconv.cli import main; main()"]
SMALL = ["--num-filters", "4", "--hidden-dim", "20"]


def gconv(*args, cwd=None, **options):
    command = [*COMMAND, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False, **options)
