"""``gconv sweep``: every combination once, interrupted and gone on with, and what is written at the end."""

import csv
import json
import signal
import subprocess
import time

import pytest
from command_line import COMMAND, SMALL, gconv

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'gconv[demo]'")

GRID = ["--learning-rate", "1e-2,1e-3", "--update-rule", "sgd,adam", "--epochs", "2", *SMALL]


def table(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_runs_every_combination_and_sorts_them(tmp_path):
    done = gconv("sweep", *GRID, "--out", tmp_path / "sweep")
    assert done.returncode == 0, done.stderr
    assert "4 runs, 8 epochs" in done.stdout
    rows = table(tmp_path / "sweep")
    assert {(row["learning_rate"], row["update_rule"]) for row in rows} == {
        (rate, rule) for rate in ("0.01", "0.001") for rule in ("sgd", "adam")
    }
    accuracies = [float(row["val_acc"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > accuracies[-1]
    assert (tmp_path / "sweep" / "sweep.png").stat().st_size > 10_000
    lines = done.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("update_rule"))
    assert lines[header].split() == ["update_rule", "learning_rate", "val_acc", "seconds"]
    assert lines[header + 1].split()[:3] == [rows[0]["update_rule"], rows[0]["learning_rate"], f"{accuracies[0]:.4f}"]
    for number in range(1, 5):
        names = {p.name for p in (tmp_path / "sweep" / f"run-{number:03}").iterdir()}
        assert names == {"metrics.jsonl", "result.json", "best.safetensors"}
    evaluated = gconv("eval", tmp_path / "sweep" / "run-001" / "best.safetensors", "--data", "digits")
    assert evaluated.returncode == 0, evaluated.stderr


def test_an_interrupted_sweep_goes_on_to_the_same_results(tmp_path):
    grid = ["--reg", "0,1e-3,1e-2", "--epochs", "40"]
    alone = gconv("sweep", *grid, "--out", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    folder = tmp_path / "cut"
    process = subprocess.Popen(
        [*COMMAND, "sweep", *grid, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job of a background shell would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 60
    while not (folder / "run-002" / "last.safetensors").exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"Go on with: gconv sweep --resume --out {folder}" in output
    assert not (folder / "sweep.csv").exists()
    first = (folder / "run-001" / "result.json").read_bytes()
    done = gconv("sweep", "--resume", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "run-001" / "result.json").read_bytes() == first
    assert done.stdout.count("going on after epoch") == 1
    for one, two in zip(table(tmp_path / "alone"), table(folder), strict=True):
        assert {**one, "seconds": ""} == {**two, "seconds": ""}
    logs = [(tmp_path / name / "run-002" / "metrics.jsonl").read_text() for name in ("alone", "cut")]
    assert logs[0] == logs[1]


def test_a_run_that_diverges_is_last_and_says_so(tmp_path):
    rates = ["--learning-rate", "1e-3,1e200", "--update-rule", "sgd", "--epochs", "1"]
    done = gconv("sweep", *rates, *SMALL, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "diverged at iteration" in done.stdout
    notes = {row["learning_rate"]: row["note"] for row in table(tmp_path)}
    assert notes["1e+200"].startswith("diverged at iteration")
    assert notes["0.001"] == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--update-rule", "sgd,adma"], "'adma' is not one of"),
        (["--reg", "1e-3,1e-3"], "must name each value once; got 1e-3,1e-3"),
        (["--reg", "1e-3,"], "--reg must be a finite number from 0 on; got "),
        (["--batch-size", "0,50"], "0 is not in the range x>=1"),
        (["--augment", "flip,crop"], "must be of flip, crop=N and cutout=N"),
        (["--resume"], "--resume needs --out"),
    ],
)
def test_bad_grids_are_refused(tmp_path, options, text):
    done = gconv("sweep", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert not list(tmp_path.iterdir())


def test_folders_are_not_mixed(tmp_path):
    options = ["--epochs", "1", *SMALL, "--out", tmp_path]
    assert gconv("sweep", *options).returncode == 0
    again = gconv("sweep", *options)
    assert again.returncode == 2
    assert "already holds a sweep; add --resume" in again.stderr
    (tmp_path / "sweep.json").write_text(json.dumps({"data": "digits"}))
    damaged = gconv("sweep", "--resume", "--out", tmp_path)
    assert damaged.returncode == 2
    assert "sweep.json is damaged" in damaged.stderr
