"""Measurements, each a command: python -m benchmarks.cpu, python -m benchmarks.gpu."""

import sys
from pathlib import Path

# The installed gconv is what is measured: the folder beside this one has no compiled kernels.
_ROOT = Path(__file__).resolve().parents[1]
_here = [entry for entry in sys.path if Path(entry).resolve() == _ROOT]
sys.path[:] = [entry for entry in sys.path if entry not in _here] + _here
