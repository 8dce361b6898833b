"""Checkpoints: a resumed run ends like one left alone, to the bit; damaged files are refused by name."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from gconv.data_utils import make_synthetic_data
from gconv.files import CheckpointError, list_checkpoints, load_checkpoint, save_checkpoint
from gconv.solver import Solver

RULES = ["sgd", "sgd_momentum", "nesterov_momentum", "rmsprop", "adam", "adamw"]


@pytest.fixture
def data(backend):
    return {name: backend.asarray(a) for name, a in make_synthetic_data(num_train=60, num_val=20).items()}


def make_solver(data, folder, epochs=4, model=None, **options):
    np.random.seed(11)
    model = model or TwoLayerNet(192, 6, 4, weight_scale=1e-2)
    options = {"batch_size": 10, "lr_decay": 0.9, "num_train_samples": 20, "verbose": False, **options}
    return Solver(model, data, num_epochs=epochs, checkpoint_name=str(folder / "run"), **options)


def everything(solver, backend):
    arrays = {f"param {n}": backend.to_numpy(w) for n, w in solver.model.params.items()}
    arrays |= {f"best {n}": backend.to_numpy(w) for n, w in solver.best_params.items()}
    arrays |= {f"buffer {n}": backend.to_numpy(w) for n, w in getattr(solver.model, "buffers", {}).items()}
    for name, config in solver.optim_configs.items():
        arrays |= {f"optim {name} {k}": backend.to_numpy(v) if hasattr(v, "shape") else v for k, v in config.items()}
    for name in ("loss_history", "train_acc_history", "val_acc_history", "eval_iterations", "epoch", "best_val_acc"):
        arrays[name] = np.array(getattr(solver, name))
    return arrays


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("rule", RULES)
def test_resumed_run_equals_one_left_alone(backend, data, tmp_path, rule, seed):
    options = {"update_rule": rule, "seed": seed, "sampling": "shuffle" if rule == "adam" else "replacement"}
    alone = make_solver(data, tmp_path / "alone", **options)
    alone.train()
    make_solver(data, tmp_path / "cut", epochs=2, **options).train()
    np.random.seed(999)  # whatever another process would start with
    resumed = make_solver(data, tmp_path / "cut", **options)
    resumed.resume()
    assert_same(everything(resumed, backend), everything(alone, backend))


def test_dropout_and_running_averages_are_resumed_too(backend, data, tmp_path):
    def model():
        return FullyConnectedNet([7, 5], 192, 4, 0.8, "batchnorm", dtype=np.float64, rng=4)

    alone = make_solver(data, tmp_path / "alone", model=model(), update_rule="adam")
    alone.train()
    make_solver(data, tmp_path / "cut", epochs=3, model=model(), update_rule="adam").train()
    resumed = make_solver(data, tmp_path / "cut", model=model(), update_rule="adam")
    resumed.resume()
    assert_same(everything(resumed, backend), everything(alone, backend))


def test_resume_without_a_checkpoint_starts_and_says_so(backend, data, tmp_path, capsys):
    solver = make_solver(data, tmp_path, epochs=1, verbose=True, seed=0)
    solver.resume()
    assert f"No checkpoint named {tmp_path / 'run'} yet; starting at the beginning" in capsys.readouterr().out
    assert solver.epoch == 1


def test_resuming_a_finished_run_does_nothing_but_says_so(backend, data, tmp_path, capsys):
    first = make_solver(data, tmp_path, epochs=2, seed=0)
    first.train()
    again = make_solver(data, tmp_path, epochs=2, seed=0, verbose=True)
    again.resume()
    assert "2 of 2 epochs have been done; train(1) does one more" in capsys.readouterr().out
    assert_same(everything(again, backend), everything(first, backend))


def test_resume_from_a_path(backend, data, tmp_path):
    alone = make_solver(data, tmp_path, seed=0)
    alone.train()
    resumed = make_solver(data, tmp_path, seed=0)
    resumed.resume(tmp_path / "run_epoch_1.safetensors")
    assert_same(everything(resumed, backend), everything(alone, backend))


def test_a_new_run_does_not_mix_with_an_old_one(data, tmp_path):
    make_solver(data, tmp_path, seed=0).train()
    with pytest.raises(FileExistsError, match=r"run_epoch_4\.safetensors\. Go on with resume\(\)"):
        make_solver(data, tmp_path, seed=0).train()


def test_checkpoints_are_listed_by_number(tmp_path):
    for name in ("run_epoch_2", "run_epoch_10", "run_epoch_x", "other_epoch_3", "run_epoch_"):
        (tmp_path / f"{name}.safetensors").touch()
    assert [p.name for p in list_checkpoints(tmp_path / "run")] == [
        "run_epoch_10.safetensors",
        "run_epoch_2.safetensors",
    ]


def test_the_file_round_trips_every_bit(tmp_path, rng):
    arrays = {"a": rng.standard_normal((3, 4)), "b": np.asfortranarray(rng.standard_normal((2, 5)).astype(np.float32))}
    arrays |= {"c": np.array([np.nan, -0.0, np.inf]), "d": np.zeros((0, 3)), "e": np.arange(3, dtype=np.uint32)}
    description = {"x": 0.1 + 0.2, "big": 2**200, "text": "ü", "nan": float("inf")}
    save_checkpoint(tmp_path / "sub" / "f.safetensors", arrays, description)
    loaded, found = load_checkpoint(tmp_path / "sub" / "f.safetensors")
    assert {k: v for k, v in found.items() if k != "format"} == description
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["f.safetensors"]


class TestDamage:
    @pytest.fixture
    def file(self, tmp_path):
        save_checkpoint(tmp_path / "run_epoch_1.safetensors", {"param.w": np.arange(50.0)}, {"epoch": 1})
        return tmp_path / "run_epoch_1.safetensors"

    def test_every_kind_of_cut_and_flipped_bit_is_refused_by_name(self, file):
        good = file.read_bytes()
        source = random.Random(5)
        damaged = [good[:n] for n in (0, 1, 7, 8, 20, len(good) // 2, len(good) - 1)] + [good + b"x"]
        for _ in range(60):
            changed = bytearray(good)
            changed[source.randrange(len(good))] ^= 1 << source.randrange(8)
            damaged.append(bytes(changed))
        for content in damaged:
            file.write_bytes(content)
            with pytest.raises(CheckpointError, match=r"run_epoch_1\.safetensors"):
                load_checkpoint(file)

    def test_other_files(self, file, tmp_path):
        from safetensors.numpy import save_file

        save_file({"w": np.ones(2)}, tmp_path / "foreign.safetensors")
        with pytest.raises(CheckpointError, match="no checkpoint of gconv"):
            load_checkpoint(tmp_path / "foreign.safetensors")
        file.write_bytes(b"\x80\x02cos\nsystem\n(S'exit 1'\ntR.")  # a pickle that runs a command
        with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
            load_checkpoint(file)
        with pytest.raises(FileNotFoundError, match="there is none at"):
            load_checkpoint(tmp_path / "missing.safetensors")


def test_a_damaged_newest_checkpoint_is_passed_over(backend, data, tmp_path):
    alone = make_solver(data, tmp_path / "alone", seed=0)
    alone.train()
    make_solver(data, tmp_path / "cut", epochs=3, seed=0).train()
    newest = tmp_path / "cut" / "run_epoch_3.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    resumed = make_solver(data, tmp_path / "cut", seed=0)
    with pytest.warns(RuntimeWarning, match=r"passing over a checkpoint: .*run_epoch_3\.safetensors is damaged"):
        resumed.resume()
    assert_same(everything(resumed, backend), everything(alone, backend))


def test_a_checkpoint_of_another_run_is_refused_and_nothing_changes(backend, data, tmp_path):
    make_solver(data, tmp_path, seed=0).train()
    path = tmp_path / "run_epoch_4.safetensors"
    for options, text in (
        ({"batch_size": 9}, "must be of a run with batch_size=9; got 10"),
        ({"update_rule": "adam"}, "update_rule='adam'; got 'sgd'"),
        ({"optim_config": {"learning_rate": 3}}, "optim_config={'learning_rate': 3}"),
        ({"seed": None}, "generator=None; got 'PCG64'"),
        ({"model": TwoLayerNet(192, 5, 4)}, "must hold the parameters"),
        ({"model": ThreeLayerConvNet((3, 8, 8), 2, 3, 4, 4)}, "must hold the parameters"),
    ):
        solver = make_solver(data, tmp_path, **{"seed": 0, **options})
        before = {name: backend.to_numpy(w).copy() for name, w in solver.model.params.items()}
        with pytest.raises(ValueError, match=text):
            solver.resume(path)
        assert solver.epoch == 0
        for name, w in solver.model.params.items():
            np.testing.assert_array_equal(backend.to_numpy(w), before[name])


def test_resume_needs_a_name_or_a_path(data):
    with pytest.raises(ValueError, match="path must be given"):
        Solver(TwoLayerNet(192, 6, 4), data, verbose=False).resume()


EPOCHS = 60
PROGRAM = f"""
import json, sys
import numpy as np
from gconv.classifiers import ThreeLayerConvNet
from gconv.data_utils import make_synthetic_data
from gconv.solver import Solver
np.random.seed(0)
model = ThreeLayerConvNet((3, 8, 8), 4, 3, 8, 4, weight_scale=1e-2)
solver = Solver(model, make_synthetic_data(400), update_rule="adam", batch_size=4, num_epochs={EPOCHS},
                checkpoint_name=sys.argv[1] + "/run", verbose=False)
solver.resume()
out = {{name: w.tobytes().hex() for name, w in model.params.items()}}
out["histories"] = [solver.loss_history, solver.train_acc_history, solver.val_acc_history]
print(json.dumps(out))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_five_kills_at_random_times_change_nothing(tmp_path):
    def start(folder):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-I", "-c", PROGRAM, str(folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})

    undisturbed, _ = start(tmp_path / "alone").communicate(timeout=120)
    source = random.Random(os.getpid())
    for number in range(5):
        before = len(list_checkpoints(tmp_path / "killed" / "run"))
        process = start(tmp_path / "killed")
        # The first one dies anywhere, even before its first checkpoint; the others get some way.
        while number and len(list_checkpoints(tmp_path / "killed" / "run")) == before:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.001)
        time.sleep(source.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert 4 <= len(list_checkpoints(tmp_path / "killed" / "run")) < EPOCHS
    process = start(tmp_path / "killed")
    resumed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(resumed.splitlines()[-1]) == json.loads(undisturbed.splitlines()[-1])
    assert not list((tmp_path / "killed").glob(".*.tmp"))
