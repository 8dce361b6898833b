"""Breaks every CUDA kernel, and every piece that kernels share, in five ways and sees whether the tests notice.

    python -m tests.mutate_kernels [FILE ...] [--only NAME] [--jobs 2] [--seed 0]

For each definition (kernel, device function, structure, macro that makes kernels) of each file: an off-by-one, a
missing barrier, a wrong stride, a swapped index and a dropped term. Where it has no place for one (no barrier, say),
another of a kind that it has is taken; a mutant that does not compile is drawn again. The tests of the .cu file, for
a .cuh of one that includes it (tests/gpu/test_<file>.py), run with --gpu-on-cpu on the broken sources. Ends with a
table, and with exit code 1 if a mutant survived that is not listed in EQUIVALENT.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SOURCES = PROJECT / "kernels" / "cuda"

# (kind, what is looked for, what takes its place)
OPERATORS = [
    ("off-by-one", re.compile(r" < "), " <= "),
    ("off-by-one", re.compile(r" <= "), " < "),
    ("off-by-one", re.compile(r" >= "), " > "),
    ("off-by-one", re.compile(r" \+ 1\b"), ""),
    ("off-by-one", re.compile(r" - 1\b"), ""),
    ("off-by-one", re.compile(r"(?<=, )0(?=, )"), "1"),
    ("off-by-one", re.compile(r" != 0"), " != 1"),
    ("missing barrier", re.compile(r"__syncthreads\(\);"), ";"),
    ("wrong stride", re.compile(r"\* (g\.|pixels\.g\.)?(w|h|plane|columns|c|stride|p|words|m|d)\b"), "* 1"),
    ("wrong stride", re.compile(r"\b(stride_x|window_w|out_w|hh)\b(?!,)"), {
        "stride_x": "stride_y", "window_w": "window_h", "out_w": "out_h", "hh": "ww"}),
    ("swapped index", re.compile(r"\[(\w+)\]\[(\w+)\]"), r"[\2][\1]"),
    ("swapped index", re.compile(r"\b(row|column|y|x|rows|columns|first|second|image|channel)\b(?=[\s;\])*+-])"), {
        "row": "column", "column": "row", "y": "x", "x": "y", "rows": "columns", "columns": "rows",
        "first": "second", "second": "first", "image": "channel", "channel": "image"}),
    ("swapped index", re.compile(r"\b(\w+), (\w+)(?=[,)}])"), r"\2, \1"),
    ("dropped term", re.compile(r" / [\w.]+(\[[\w.]+\])?(?=[;\s)\]])"), ""),
    ("dropped term", re.compile(r" [+-] [\w.]+(\[[\w.]+\])?(?=[;\s)\]])"), ""),
    ("dropped term", re.compile(r" \* [\w.]+(\[[\w.]+\])?(?=[;\s)\]])"), ""),
    ("dropped term", re.compile(r"\+= "), "= "),
]  # fmt: skip
KINDS = ("off-by-one", "missing barrier", "wrong stride", "swapped index", "dropped term")


# Mutants that change nothing: (file, line as it stands, line as it would be, why).
EQUIVALENT = [
    ("gemm.cuh", "const bool more = k + T::BK < k_end;", "const bool more = k + T::BK <= k_end;",
     "one panel of zeros more is loaded, and never multiplied"),
    ("conv.cu", "if (tap.offset == ONES) return window.row == NOWHERE ? real(0) : real(1);",
     "if (tap.offset == ONES) return window.column == NOWHERE ? real(0) : real(1);",
     "outside() sets both to NOWHERE"),
    ("geometry.cuh", "if (k >= g.taps()) return outside();", "if (k > g.taps()) return outside();",
     "taps() itself is the column of ones, which WindowTaps does not ask for"),
    ("tensors.cuh", "const long long end = begin + CHUNK < sizes.size[item] ? begin + CHUNK : sizes.size[item];",
     "const long long end = begin + CHUNK <= sizes.size[item] ? begin + CHUNK : sizes.size[item];",
     "the smaller of two equal numbers"),
    ("optim.cu", "extern \"C\" __global__ void __launch_bounds__(THREADS, BLOCKS)",
     "extern \"C\" __global__ void __launch_bounds__(BLOCKS, THREADS)", "says how many registers there are, on a device"),
    ("max_pool.cu", "const index_t top = row < g.window_h ? 0 : (row - g.window_h) / g.stride_y + 1;",
     "const index_t top = row <= g.window_h ? 0 : (row - g.window_h) / g.stride_y + 1;",
     "a window that ends above the pixel is looked at, and has no place for it"),
    ("max_pool.cu", "const index_t top = row < g.window_h ? 0 : (row - g.window_h) / g.stride_y + 1;",
     "const index_t top = row < g.window_h ? 0 : (row - g.window_h) / g.stride_y;",
     "a window that ends above the pixel is looked at, and has no place for it"),
    ("max_pool.cu", "const index_t bottom = smaller(row / g.stride_y + 1, g.out_h);",
     "const index_t bottom = smaller(row + 1, g.out_h);",
     "a window that begins below the pixel is looked at, and has no place for it"),
    ("conv.cu", "__device__ Point place(index_t k) const { return k == g.taps() ? Point{0, 0, ONES} : tap_of(g, k); }",
     "__device__ Point place(index_t k) const { return k == g.taps() ? Point{0, 1, ONES} : tap_of(g, k); }",
     "of a column of ones only the mark is looked at"),
]  # fmt: skip

# Whose tests are run for what .cu files share.
TESTED_BY = {"common": ["max_pool", "im2col"], "gemm": ["affine", "conv"], "geometry": ["im2col", "conv", "max_pool"],
             "reduce": ["losses", "batchnorm"], "channels": ["batchnorm", "groupnorm"], "tensors": ["optim"]}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One place of a source file changed."""

    kind: str
    file: str
    line: int
    column: int
    before: str
    after: str


@dataclass(frozen=True)
class Definition:
    """A top-level piece of a source: lines first to last, counted from 1."""

    file: str
    name: str
    first: int
    last: int


def definitions(path):
    """Return the definitions of a source file in which something could be broken."""
    found, start, lines = [], None, path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if start is None and re.match(r"template|struct|__device__|extern|#define \w+\(", line):
            start = number
        if start is None:
            continue
        macro = lines[start - 1].startswith("#define")
        one_line = number == start and line.endswith(("}", "};"))
        if not line.endswith("\\") if macro else line in ("}", "};") or one_line:
            text = "\n".join(lines[start - 1 : number])
            name = re.search(r"KERNEL\((\w+)\)|struct (\w+) |define (\w+)|(\w+)\s*\(", text)
            found.append(Definition(path.name, next(group for group in name.groups() if group), start, number))
            start = None
    return [definition for definition in found if candidates(path, definition)]


def candidates(path, definition):
    """Return all mutants of a definition."""
    found, lines = [], path.read_text().splitlines()
    for number in range(definition.first, definition.last + 1):
        line = lines[number - 1].split("//")[0]
        if re.match(r"\s*(template|#)", line) or "constexpr" in line or "static_assert" in line:
            continue
        for kind, pattern, replacement in OPERATORS:
            for match in pattern.finditer(line):
                if isinstance(replacement, dict):
                    start, before, after = match.start(1), match[1], replacement[match[1]]
                else:
                    start, before, after = match.start(), match[0], match.expand(replacement)
                if before != after:
                    found.append(Mutant(kind, path.name, number, start, before, after))
    return found


def draw(definition, generator):
    """Return a definition's mutants in the order to try: one of each kind first, then more of any kind."""
    by_kind = {kind: [] for kind in KINDS}
    for mutant in candidates(SOURCES / definition.file, definition):
        by_kind[mutant.kind].append(mutant)
    for mutants in by_kind.values():
        generator.shuffle(mutants)
    first = [mutants.pop() for mutants in by_kind.values() if mutants]
    rest = [mutant for mutants in by_kind.values() for mutant in mutants]
    generator.shuffle(rest)
    return first + rest


def mutated(mutant):
    """Return (the line as it stands, the line as it would be)."""
    line = (SOURCES / mutant.file).read_text().splitlines()[mutant.line - 1]
    end = mutant.column + len(mutant.before)
    return line.strip(" \\"), (line[: mutant.column] + mutant.after + line[end:]).strip(" \\")


def tests_of(file):
    """Return the test files for a source file."""
    stem = file.split(".")[0]
    return [f"tests/gpu/test_{name}.py" for name in TESTED_BY.get(stem, [stem])]


def run(tests, mutant, folder):
    """Return "killed", "survived" or "does not compile"."""
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
    if mutant is not None:
        path = folder / mutant.file
        lines = path.read_text().splitlines()
        line, end = lines[mutant.line - 1], mutant.column + len(mutant.before)
        lines[mutant.line - 1] = line[: mutant.column] + mutant.after + line[end:]
        path.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--gpu-on-cpu", "--kernel-sources", str(folder),
               "-p", "no:cacheprovider", *tests]  # fmt: skip
    environment = {**os.environ, "GCONV_BACKEND": "gpu"}
    try:
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=180
        )
    except subprocess.TimeoutExpired:  # a kernel that never ends
        return "killed"
    if "compile error" in done.stdout:
        return "does not compile"
    return "survived" if done.returncode == 0 else "killed"


def break_definition(definition, seed):
    """Return [(mutant, outcome)] of five mutants that compile, or of as many as there are."""
    known = {(file, before, after) for file, before, after, _ in EQUIVALENT}
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for mutant in draw(definition, random.Random(f"{seed} {definition.file} {definition.name}")):
            if (mutant.file, *mutated(mutant)) in known:
                continue
            outcome = run(tests_of(definition.file), mutant, Path(folder, "cuda"))
            if outcome != "does not compile":
                outcomes.append((mutant, outcome))
            if len(outcomes) == 5:
                break
    return definition, outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    files = sorted(path.name for path in SOURCES.glob("*.cu*"))
    parser.add_argument("files", nargs="*", default=files, help="as conv.cu or gemm.cuh")
    parser.add_argument("--only", default="", help="a regular expression: only definitions whose name it finds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tests = sorted({test for file in options.files for test in tests_of(file)})
    with tempfile.TemporaryDirectory() as folder:
        if run(tests, None, Path(folder, "cuda")) != "survived":
            sys.exit(f"the tests fail on the unbroken sources: {' '.join(tests)}")
    found = [definition for file in options.files for definition in definitions(SOURCES / file)]
    work = [definition for definition in found if re.search(options.only, definition.name)]
    totals, survivors = Counter(), []
    print("| file | broken | mutants | noticed |\n|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for definition, outcomes in pool.map(lambda d: break_definition(d, options.seed), work):
            killed = sum(outcome == "killed" for _, outcome in outcomes)
            totals.update({"mutants": len(outcomes), "killed": killed})
            totals.update(f"{mutant.kind}: {outcome}" for mutant, outcome in outcomes)
            survivors += [mutant for mutant, outcome in outcomes if outcome == "survived"]
            print(f"| {definition.file} | `{definition.name}` | {len(outcomes)} | {killed} |", flush=True)
            for mutant, outcome in outcomes:
                if outcome == "survived":
                    before, after = mutated(mutant)
                    print(f"  survived: {mutant.kind}, line {mutant.line}\n    - {before}\n    + {after}", flush=True)
    print(f"{totals['killed']} of {totals['mutants']} mutants of {len(work)} definitions were noticed")
    for kind in KINDS:
        print(f"  {kind}: {totals[kind + ': killed']} of {totals[kind + ': killed'] + totals[kind + ': survived']}")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
