"""Random cases of every layer, on every backend and instruction set at hand, against the loops: see __main__.py."""
