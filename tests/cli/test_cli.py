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
from gconv.cli import main
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


def assert_same_end(tmp_path, epochs):
    """Compare the last checkpoints of the runs ``alone`` and ``cut``, and their logs."""
    name = f"run_epoch_{epochs}.safetensors"
    one, two = (load_checkpoint(tmp_path / f / "checkpoints" / name) for f in ("alone", "cut"))
    # NumPy's global state, which a seeded run does not draw from, is what each process began with.
    other = {"numpy_random": None, "seconds": None}
    assert {**one[1], **other} == {**two[1], **other}
    for name, array in one[0].items():
        if name == "numpy_random_keys":
            continue
        np.testing.assert_array_equal(array, two[0][name], err_msg=name)
    lines = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("alone", "cut")]
    assert lines[0] == lines[1]


def test_resume_ends_like_one_run(tmp_path):
    for folder, steps in (("alone", [5]), ("cut", [2, 5])):
        for number, epochs in enumerate(steps):
            extra = ["--resume"] if number else SMALL
            done = gconv("train", "--epochs", epochs, "--out", tmp_path / folder, *extra)
            assert done.returncode == 0, done.stderr
    assert_same_end(tmp_path, 5)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send to a child")
@pytest.mark.parametrize("stop", ["SIGINT", "time limit"])
@pytest.mark.parametrize("augment", [[], ["--augment", "flip,crop=1"]], ids=["plain", "augment"])
def test_a_stop_loses_nothing(tmp_path, stop, augment):
    epochs = 40 if stop == "SIGINT" else 8  # long enough to be met in training
    options = ["--epochs", epochs, *SMALL, *augment]
    assert gconv("train", *options, "--out", tmp_path / "alone").returncode == 0
    cut = [*map(str, options), "--out", str(tmp_path / "cut")]
    if stop == "SIGINT":
        process = subprocess.Popen(
            [*COMMAND, "train", *cut], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not (tmp_path / "cut" / "checkpoints" / "run_epoch_2.safetensors").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 130, text
        at = load_checkpoint(tmp_path / "cut" / "checkpoints" / "stopped.safetensors")[1]["iteration"]
        assert f"Interrupted at iteration {at}. " in text
        more = []
    else:
        done = gconv("train", *cut, "--time-limit", 1e-9)
        assert done.returncode == 0, done.stderr
        at = load_checkpoint(tmp_path / "cut" / "checkpoints" / "stopped.safetensors")[1]["iteration"]
        assert at == 1
        more = ["--time-limit", 1e6]
    done = gconv("train", "--resume", "--out", tmp_path / "cut", *more)
    assert done.returncode == 0, done.stderr
    # Stopped while an epoch's file was written, it goes on from that one.
    epoch_file = f"run_epoch_{at // 24}.safetensors"
    assert f"stopped.safetensors, iteration {at}" in done.stdout or (at % 24 == 0 and epoch_file in done.stdout)
    assert_same_end(tmp_path, epochs)


MISTAKES = [
    ("train --learning-rate nan", "--learning-rate must be a finite number above 0; got nan"),
    ("train --learning-rate inf", "--learning-rate must be a finite number above 0; got inf"),
    ("train --learning-rate 0", "--learning-rate must be a finite number above 0; got 0"),
    ("train --reg -1", "--reg must be a finite number from 0 on; got -1"),
    ("train --reg nan", "--reg must be a finite number from 0 on; got nan"),
    ("train --clip-norm inf", "--clip-norm must be a finite number above 0; got inf"),
    ("train --time-limit nan", "--time-limit must be a finite number from 0 on; got nan"),
    ("train --filter-size 9", "--filter-size must be at most 8, the images' size; got 9"),
    ("train --augment crop=8", "--augment must have crop below 8, the images' size; got 8"),
    ("train --augment cutout=99", "--augment must have cutout below 8, the images' size; got 99"),
    ("train --augment flip,flip", "flip stands there twice"),
    ("train --augment crop=1,crop=2", "crop stands there twice"),
    ("train --warm-up 1000", "--warm-up must be at most 960, the iterations there are; got 1000"),
    ("train --resume --out TYPO", "--resume needs --out to be a training's folder; TYPO is not there; near it: TYPE"),
    ("train --resume --out empty", "--resume needs --out to be a training's folder; empty has none"),
    ("train --out swept", "--out must be a training's folder; swept is that of a sweep"),
    ("train --resume --out swept", "--out must be a training's folder; swept is that of a sweep"),
    ("train --out file", "--out must be a folder; got the file file"),
    ("train --data=", "--data must be digits, cifar10 or a folder that holds CIFAR-10; got "),
    ("train --out=", "--out must be a folder; got an empty name"),
    ("sweep --learning-rate 1e-3,nan", "--learning-rate must be a finite number above 0; got nan"),
    ("sweep --filter-size 3,9", "--filter-size must be at most 8, the images' size; got 9"),
    ("sweep --data nowhere", "--data must be digits, cifar10 or a folder that holds CIFAR-10; got nowhere"),
    ("sweep --resume --out TYPO", "--resume needs --out to be a sweep's folder; TYPO is not there; near it: swept"),
    ("sweep --out TYPE", "--out must be a sweep's folder; TYPE is that of a training"),
    ("sweep --resume --out swept --epochs 7", "--epochs must be [None], as the sweep in swept has it; got [7]"),
    ("bench --rows (", "--rows must be a regular expression; got '(': missing )"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A training's folder, a sweep's, an empty one, and a file."""
    here = tmp_path_factory.mktemp("mistakes")
    for name, file in (("TYPE", "config.json"), ("swept", "sweep.json")):
        (here / name).mkdir()
        (here / name / file).write_text(json.dumps({"data": "digits", **STORED} if file == "sweep.json" else {}))
    (here / "empty").mkdir()
    (here / "file").write_text("")
    return here


STORED = {
    "epochs": [None], "batch_size": [50], "update_rule": ["adam"], "learning_rate": [1e-3], "reg": [1e-3],
    "num_filters": [32], "filter_size": [None], "hidden_dim": [None], "schedule": ["constant"], "warm_up": [0],
    "clip_norm": [None], "augment": None, "patience": [None], "time_limit": [None], "seed": [0],
}  # fmt: skip


@pytest.mark.parametrize(("line", "text"), MISTAKES)
def test_a_mistake_leaves_nothing(folders, monkeypatch, capsys, line, text):
    """One line that says what must be, exit code 2, and no file more than before."""
    monkeypatch.chdir(folders)
    before = sorted(path for path in folders.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(line.split(" "))
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert text in error
    assert error.startswith("gconv: ")
    assert error.count("\n") == 1
    assert sorted(path for path in folders.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("schedule", "bogus", "schedule is 'bogus'"),
        ("batch_size", "many", "batch_size is 'many'"),
        ("batch_size", True, "batch_size must be 1; got True"),
        ("learning_rate", -1, "learning-rate is -1"),
        ("seed", None, "seed is None"),
    ],
)
def test_an_edited_config_is_named(tmp_path, monkeypatch, capsys, name, value, text):
    config = {key: values[0] if isinstance(values, list) else values for key, values in STORED.items()}
    (tmp_path / "config.json").write_text(json.dumps({"data": "digits", **config, name: value}))
    with pytest.raises(SystemExit) as ended:
        main(["train", "--resume", "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert "config.json is damaged: " in error
    assert text.replace("_", "-") in error


def test_no_command_is_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    assert "Commands:" in capsys.readouterr().out


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
        (["train", "--learning-rate", "fast"], "--learning-rate must be a finite number above 0; got fast"),
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
    wrong = {**os.environ, "GCONV_BACKEND": "tpu"}
    done = gconv("train", *SMALL, cwd=tmp_path, env=wrong)
    assert done.returncode == 2
    assert "GCONV_BACKEND must be one of auto, cpu, gpu, naive; got 'tpu'" in done.stderr
    info = gconv("info", env=wrong)
    assert info.returncode == 0
    assert "default backend  none: the environment variable GCONV_BACKEND must be one of" in info.stdout
    assert "CIFAR-10" in info.stdout


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
    assert "Interrupted at iteration " in out
    assert "Go on with: gconv train --resume --out run" in out
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
    slow = ["--update-rule", "sgd", "--learning-rate", "1e-30", "--patience", 2, "--epochs", 6, *SMALL]
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
