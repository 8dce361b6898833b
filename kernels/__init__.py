"""Kernel sources and, where they were compiled, the modules built from them. No Python policy lives here."""
