"""The command line, as a user types it."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from cifar_files import write_folder
from command_line import COMMAND, SMALL, gconv

from gconv.backends import use_backend
from gconv.classifiers import FullyConnectedNet
from gconv.data_utils import get_digits_data
from gconv.files import load_checkpoint
from gconv.solver import Solver

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'gconv[demo]'")


def test_help_lists_the_commands():
    shown = gconv("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("train", "eval", "info"))
    for command in ("train", "eval", "info"):
        shown = gconv(command, "--help")
        assert shown.returncode == 0
        assert max(map(len, shown.stdout.splitlines())) <= 100


def test_train_writes_the_run_folder_and_eval_reads_it(tmp_path):
    done = gconv("train", "--epochs", 6, *SMALL, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    names = {p.name for p in folder.iterdir()} - {".lock"}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "results.json",
        "report.html",
        "history.png",
        "filters.png",
        "confusion.png",
        "mistakes.png",
        "best.safetensors",
        "checkpoints",
    }
    assert len(list((folder / "checkpoints").glob("*.safetensors"))) == 6
    config = json.loads((folder / "config.json").read_text())
    assert (config["data"], config["epochs"], config["filter_size"], config["hidden_dim"]) == ("digits", 6, 3, 20)
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [m["iteration"] for m in metrics] == [1, 24, 48, 72, 96, 120, 144]
    assert metrics[-1]["epoch"] == 6
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert "Validation accuracy" in done.stdout
    assert str(folder / "report.html") in done.stdout
    assert done.stderr == ""

    shown = {}
    for file in (folder / "best.safetensors", folder / "checkpoints" / "run_epoch_6.safetensors"):
        evaluated = gconv("eval", file)
        assert evaluated.returncode == 0, evaluated.stderr
        shown[file] = [line for line in evaluated.stdout.splitlines() if "accuracy" in line]
        assert shown[file] == [line for line in done.stdout.splitlines() if "accuracy" in line]


def test_resume_ends_like_one_run(tmp_path):
    for folder, steps in (("alone", [5]), ("cut", [2, 5])):
        for number, epochs in enumerate(steps):
            extra = ["--resume"] if number else SMALL
            done = gconv("train", "--epochs", epochs, "--out", tmp_path / folder, *extra)
            assert done.returncode == 0, done.stderr
    one, two = (load_checkpoint(tmp_path / f / "checkpoints" / "run_epoch_5.safetensors") for f in ("alone", "cut"))
    # NumPy's global state, which a seeded run does not draw from, is what each process began with.
    other = {"numpy_random": None, "seconds": None}
    assert {**one[1], **other} == {**two[1], **other}
    for name, array in one[0].items():
        if name == "numpy_random_keys":
            continue
        np.testing.assert_array_equal(array, two[0][name], err_msg=name)
    lines = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("alone", "cut")]
    assert lines[0] == lines[1]


def test_a_folder_of_cifar10(tmp_path, monkeypatch):
    write_folder(tmp_path / "data", per_file=30)
    done = gconv("train", "--data", tmp_path / "data", "--epochs", 1, *SMALL, "--filter-size", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Training on 135 images of 3 x 32 x 32" in done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("data-")
    assert "airplane" in gconv("eval", run / "best.safetensors").stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--update-rule", "sdg"], "'sdg' is not one of"),
        (["train", "--learning-rate", "fast"], "'fast' is not a valid float"),
        (["train", "--no-such"], "No such option"),
        (["train", "--data", "nowhere"], "--data must be digits, cifar10 or a folder that holds CIFAR-10; got nowhere"),
        (["train", "--resume"], "--resume needs --out"),
        (["train", "--backend", "gpu"], "the gpu backend can't run: "),
        (["train", "--data", "."], "cifar10_dir must hold the folder"),
        (["eval", "missing.safetensors"], "there is none at missing.safetensors"),
        (["eval"], "Missing argument"),
        (["fly"], "No such command"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, args, text):
    done = gconv(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gconv: ")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_a_run_is_not_overwritten_and_not_resumed_as_another(tmp_path):
    assert gconv("train", "--epochs", 1, *SMALL, "--out", tmp_path / "run").returncode == 0
    again = gconv("train", "--epochs", 1, "--out", tmp_path / "run")
    assert again.returncode == 2
    assert "already holds a run; add --resume" in again.stderr
    other = gconv("train", "--resume", "--batch-size", 7, "--out", tmp_path / "run")
    assert other.returncode == 2
    assert "--batch-size must be 50, as the run in" in other.stderr
    (tmp_path / "run" / "config.json").write_text("{")
    damaged = gconv("train", "--resume", "--out", tmp_path / "run")
    assert damaged.returncode == 2
    assert "config.json is damaged" in damaged.stderr


def test_an_unknown_backend_in_the_environment(tmp_path):
    done = gconv("info", env={**os.environ, "GCONV_BACKEND": "tpu"})
    assert done.returncode == 2
    assert "GCONV_BACKEND must be one of auto, cpu, gpu, naive; got 'tpu'" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send to a child")
def test_ctrl_c_keeps_the_best_weights(tmp_path):
    command = [*COMMAND, "train", "--epochs", "5000", "--out", "run", *SMALL]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs, and what they start, ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "checkpoints" / "run_epoch_4.safetensors").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the best weights so far were kept. Go on with: gconv train --resume --out run" in out
    for name in ("best.safetensors", "history.png", "confusion.png"):
        assert (tmp_path / "run" / name).stat().st_size
    assert "Validation accuracy" in out
    assert "Traceback" not in err


def test_info_says_what_is_here():
    done = gconv("info")
    assert done.returncode == 0, done.stderr
    for name in (
        "gconv",
        "Python",
        "backend cpu",
        "backend gpu",
        "backend naive",
        "SIMD",
        "OpenMP",
        "threads",
        "CIFAR-10",
    ):
        assert any(line.startswith(name) for line in done.stdout.splitlines()), name


def test_the_options_of_a_training_reach_the_solver(tmp_path):
    options = ["--schedule", "cosine", "--warm-up", 5, "--clip-norm", 2, "--augment", "crop=1,cutout=2", "--epochs", 3]
    done = gconv("train", *options, *SMALL, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rates[0] == pytest.approx(1e-3 / 5)
    assert rates[1] > rates[2] > rates[3] > 0
    _, description = load_checkpoint(tmp_path / "checkpoints" / "run_epoch_3.safetensors")
    assert description["options"]["augment"] == "Augment(flip=False, crop=1, cutout=2)"
    assert description["options"]["callbacks"] == [
        "WarmUp(iterations=5, then=CosineSchedule(final=0.0))",
        "ClipGradients(max_norm=2.0)",
    ]
    more = gconv("train", "--resume", "--epochs", 5, "--out", tmp_path)
    assert more.returncode == 2
    assert "--epochs must be 3, as the run in" in more.stderr


def test_a_stopped_run_goes_on_with_more_patience(tmp_path):
    slow = ["--update-rule", "sgd", "--learning-rate", "0", "--patience", 2, "--epochs", 6, *SMALL]
    done = gconv("train", *slow, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Stopped after iteration 48: no better validation accuracy" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["epochs"], results["stopped"][:9]) == (2, "no better")
    assert "no better validation accuracy" in (tmp_path / "report.html").read_text()
    for patience, epochs in ((2, 2), (4, 4)):
        again = gconv("train", "--resume", "--out", tmp_path, "--patience", patience)
        assert again.returncode == 0, again.stderr
        assert json.loads((tmp_path / "results.json").read_text())["epochs"] == epochs


def test_a_time_limit(tmp_path):
    done = gconv("train", "--time-limit", "0", *SMALL, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Stopped after iteration 1: the time limit of 0 s" in done.stdout


def test_eval_takes_the_running_averages_too(tmp_path):
    data = get_digits_data()
    with use_backend("cpu"):
        model = FullyConnectedNet([20], 64, 10, normalization="batchnorm", rng=0)
        solver = Solver(model, data, update_rule="adam", num_epochs=2, verbose=False, seed=0)
        solver.train()
    solver.save(tmp_path / "net")
    done = gconv("eval", tmp_path / "net", "--data", "digits")
    assert done.returncode == 0, done.stderr
    assert solver.best_val_acc > 0.7
    assert f"Validation accuracy  {solver.score(data['X_val'], data['y_val']):.4f}" in done.stdout
