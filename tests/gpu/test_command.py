"""`gconv train`, resume and eval on the GPU, and back on the CPU."""

import json

import pytest

import gconv
from gconv.cli import main

SMALL = ["--num-filters", "2", "--hidden-dim", "8", "--filter-size", "3", "--batch-size", "200"]


@pytest.fixture(scope="module", autouse=True)
def every_kernel_ran():
    """This file belongs to no .cu file."""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with gconv.use_backend("gpu"):
        yield


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert ended.value.code in (0, None), printed.err
    return printed.out


def accuracy(out):
    return next(line for line in out.splitlines() if line.startswith("Validation accuracy"))


def test_train_resume_and_eval(gpu, capsys, tmp_path):
    out = run(capsys, "train", "--backend", "gpu", "--epochs", 2, "--out", "run", *SMALL)
    assert "backend gpu" in out
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"history.png", "filters.png", "best.safetensors"}
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) >= 2
    assert accuracy(run(capsys, "eval", "run/best.safetensors", "--backend", "cpu")) == accuracy(out)
    assert accuracy(run(capsys, "eval", "run/best.safetensors", "--backend", "gpu")) == accuracy(out)
    resumed = run(capsys, "train", "--resume", "--out", "run", "--epochs", 3, "--backend", "cpu")
    assert "backend cpu" in resumed
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 3


def test_info_names_the_device(gpu, capsys):
    (line,) = [line for line in run(capsys, "info").splitlines() if line.startswith("backend gpu")]
    assert "ready: " in line
    assert "GiB free, driver for CUDA" in line
