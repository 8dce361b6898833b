"""What ``gconv bench`` and the benchmarks in the repository share: processes that take turns, and what they time."""

__all__: list[str] = []
