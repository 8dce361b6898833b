"""The commands that measure: `gconv bench` and `python -m benchmarks.cpu`, on rows that take no time."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gconv
from gconv.backends.cpu import kernels
from gconv.benchmarking.rows import MANY, copy, equal_parts, gpu_rows, normal, rows, training_step
from gconv.benchmarking.turns import peers_of, summary
from gconv.cli.bench import bench

PROJECT = Path(__file__).parents[2]


def test_bench_compares_what_is_installed(tmp_path):
    options = ["--images", "1", "--rounds", "1", "--samples", "2", "--output", str(tmp_path)]
    done = CliRunner().invoke(bench, [*options, "--rows", "^(seed conv float32 forward|softmax)"])
    assert done.exit_code == 0, done.output
    measured = json.loads((tmp_path / "bench.json").read_text())
    assert set(measured["rows"]) == {"seed conv float32 forward", "softmax loss 200x10"}
    convolution = measured["rows"]["seed conv float32 forward"]
    assert {"naive", "cpu", "cpu [im2col]"} <= set(convolution)
    assert convolution["naive"]["median_ms"] > convolution["cpu"]["median_ms"] > 0
    assert "naive" not in measured["rows"]["softmax loss 200x10"]
    assert f"({convolution['naive']['median_ms'] / convolution['cpu']['median_ms']:.1f}x)" in done.output
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_bench_says_when_no_row_is_meant():
    done = CliRunner().invoke(bench, ["--images", "1", "--rows", "no such row"])
    assert done.exit_code == 2
    assert "--rows must find a row; got 'no such row'" in done.output


@pytest.mark.skipif(not (PROJECT / "benchmarks").is_dir(), reason="needs the repository")
def test_the_cpu_benchmark_writes_table_json_and_chart(tmp_path):
    command = [sys.executable, "-m", "benchmarks.cpu", "--out", str(tmp_path), "--rounds", "1", "--samples", "1"]
    done = subprocess.run([*command, "--rows", "softmax"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if kernels is not None:
        assert "RuntimeWarning" not in done.stderr, "the source folder was measured, not the installed package"
    measured = json.loads((tmp_path / "cpu.json").read_text())
    assert list(measured["rows"]) == ["softmax loss 200x10"]
    assert measured["rows"]["softmax loss 200x10"]["gconv"]["median_ms"] > 0
    assert measured["memory_mb"]["rise"] > 0
    assert "| softmax loss 200x10 |" in (tmp_path / "cpu.txt").read_text()
    assert (tmp_path / "cpu.png").exists()


def test_rows_have_the_names_that_the_documentation_prints():
    text = (PROJECT / "docs" / "performance.md").read_text()
    table = text[text.index("| row | gconv, ms |") :]
    printed = re.findall(r"^\| (.+?) \| [\d.]+ \|", table[: table.index("\n\n")], re.MULTILINE)
    assert len(printed) > 30
    assert set(printed) == {name for name in rows() if "[" not in name and "CIFAR" not in name}


def test_every_row_of_pytorch_has_one_to_be_compared_with():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = list(importlib.import_module("gconv.benchmarking.torch_rows").rows())
    assert set(theirs) == {name for row in rows() for name in peers_of(row, theirs)}


@pytest.mark.parametrize("name", [name for name in gpu_rows() if not re.search(r", (graph|gpu)$", name)])
def test_rows_of_a_gpu_are_rows_of_the_cpu_too(name):
    with gconv.use_backend("cpu"):
        work, size, flops = gpu_rows(4000)[name]()
        work()
        work()
    assert size >= 0
    assert flops >= 0


def test_a_training_step_has_a_graph_where_the_backend_has_one():
    with gconv.use_backend("cpu"), pytest.raises(ValueError, match="graph must be False where the backend has none"):
        training_step(2, 8, graph=True)


def test_the_parts_of_a_copy_leave_nothing_out():
    assert equal_parts(10, 3) == [(0, 3), (3, 6), (6, 10)]
    with gconv.use_backend("cpu"):
        work, size, _ = copy(1000)
        work()
    assert size == 8000


def test_values_repeat_beyond_those_that_are_drawn():
    with gconv.use_backend("cpu"):
        values = normal(2, MANY // 2 + 3)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.ravel()[-6:], values.ravel()[:6])


def test_variants_of_a_row_are_its_peers():
    names = ["step, batch 50 [Adam]", "step, batch 50 [fused Adam]", "step, batch 500", "step, batch 50"]
    assert peers_of("step, batch 50", names) == [names[0], names[1], names[3]]


def test_a_summary_has_median_and_middle_half():
    blocks = [{"ms": [4.0, 1.0, 2.0, 3.0], "bytes": 8, "flops": 0}, {"ms": [9.0], "bytes": 8, "flops": 0}]
    assert summary(blocks) == {"median_ms": 3.0, "quarter_ms": [2.0, 4.0], "samples": 5, "bytes": 8, "flops": 0}
    assert summary([{"error": "no memory"}, *blocks]) == {"error": "no memory"}
