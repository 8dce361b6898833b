"""A model's save and load: any suffix, one safe format, whole or not at all; pickles are refused."""

import pickle

import numpy as np
import pytest

import gconv
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from gconv.classifiers.neural_net import TwoLayerNet as TrainedNet
from gconv.data_utils import make_synthetic_data
from gconv.files import CheckpointError, save_checkpoint
from gconv.solver import Solver

pytest.importorskip("safetensors", reason="safetensors is not installed: pip install 'gconv[demo]'")

SAVED = {"kind": "parameters"}
MODELS = {
    "best_convnet.npy": lambda: ThreeLayerConvNet((1, 8, 8), 2, 3, 4, 4),
    "best_two_layer_net": lambda: TwoLayerNet(64, 5, 4),
    "best_fcn.pkl": lambda: FullyConnectedNet([6, 5], 64, 4, normalization="batchnorm"),
    "deep/er/trained.npz": lambda: TrainedNet(64, 5, 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_to_the_bit(backend, tmp_path, name, rng, capsys):
    X, y = backend.asarray(rng.standard_normal((6, 1, 8, 8))), backend.asarray(rng.integers(4, size=6))
    model, twin = MODELS[name](), MODELS[name]()
    model.loss(X, y)  # makes running averages
    model.save(tmp_path / name)
    assert twin.load(tmp_path / name) is True
    assert capsys.readouterr().out == f"{tmp_path / name} saved.\n{tmp_path / name} loaded.\n"
    for key, w in model.params.items():
        np.testing.assert_array_equal(backend.to_numpy(twin.params[key]), backend.to_numpy(w))
    np.testing.assert_array_equal(backend.to_numpy(twin.loss(X)), backend.to_numpy(model.loss(X)))


def test_a_file_that_is_not_there(tmp_path, capsys):
    model = TwoLayerNet(4, 3, 2)
    before = dict(model.params)
    assert model.load(tmp_path / "none.npy") is False
    assert capsys.readouterr().out == f"{tmp_path / 'none.npy'} not available.\n"
    assert all(model.params[name] is w for name, w in before.items())


def test_pickles_are_refused_by_name_with_what_to_do(tmp_path):
    model = TwoLayerNet(4, 3, 2)
    numpy = {name: gconv.get_backend(w).to_numpy(w) for name, w in model.params.items()}
    np.save(tmp_path / "course.npy", numpy)
    np.savez(tmp_path / "course.npz", **numpy)
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps(numpy, protocol))
    before = dict(model.params)
    for path in tmp_path.iterdir():
        with pytest.raises(
            ValueError, match=rf"TwoLayerNet.load: path must be .* got {path}, a pickle.*save the model"
        ):
            model.load(path)
    assert all(model.params[name] is w for name, w in before.items())
    # What the message says to do.
    model.params = np.load(tmp_path / "course.npy", allow_pickle=True).item()
    model.save(tmp_path / "course.npy")
    assert model.load(tmp_path / "course.npy")


def test_other_models_and_damaged_files_are_refused_and_change_nothing(tmp_path):
    path = tmp_path / "net.npy"
    model = FullyConnectedNet([6], 64, 4, normalization="batchnorm")
    model.save(path)
    others = [
        FullyConnectedNet([7], 64, 4, normalization="batchnorm"),
        FullyConnectedNet([6], 64, 4),
        FullyConnectedNet([6], 64, 4, normalization="batchnorm", dtype=np.float64),
        TwoLayerNet(64, 6, 4),
    ]
    for other in others:
        before = dict(other.params)
        with pytest.raises(ValueError, match=rf"{type(other).__name__}.load: path must be of a model with"):
            other.load(path)
        assert all(other.params[name] is w for name, w in before.items())
    arrays = {f"params.{name}": gconv.get_backend(w).to_numpy(w) for name, w in model.params.items()}
    for averages in ({"running_mean1": np.zeros(6, int)}, {"running_mean9": np.zeros(6, np.float32)}):
        save_checkpoint(path, arrays | {f"buffers.{name}": array for name, array in averages.items()}, SAVED)
        with pytest.raises(ValueError, match=r"FullyConnectedNet.load: path must have running averages as"):
            model.load(path)
    assert not model.buffers
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-1] + bytes([content[-1] ^ 1]), b"0" * 50):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"net\.npy"):
            model.load(path)


MEANS, VARIANCES = (np.zeros(6, np.float32), np.ones(6, np.float32))


@pytest.mark.parametrize(
    ("changes", "description", "text"),
    [
        (
            {"buffers.running_var1": None},
            SAVED,
            r"path must have running averages as \{'running_mean1'.*, or none; got",
        ),
        ({"buffers.running_var1": -VARIANCES}, SAVED, r"variances not negative; got .* with running_var1 = \[-1"),
        ({"buffers.running_var1": VARIANCES * np.nan}, SAVED, r"finite running averages, .* with running_var1 = \[nan"),
        ({"buffers.running_mean1": VARIANCES * np.float32(np.inf)}, SAVED, r"with running_mean1 = \[inf"),
        ({"W1": MEANS}, SAVED, r"path must hold parameters and running averages only; got .* with W1"),
        ({"optim.W1": MEANS}, SAVED, r"only; got .* with optim.W1"),
        ({"params.W9": MEANS}, SAVED, r"path must be of a model with"),
        ({}, {}, r"path must be a file that save wrote; got .*, a file of the kind None"),
        ({}, {"kind": 5}, r"a file of the kind 5"),
    ],
)
def test_what_no_model_s_save_writes_is_refused_and_changes_nothing(tmp_path, changes, description, text):
    path, model = tmp_path / "net", FullyConnectedNet([6], 64, 4, normalization="batchnorm")
    model.loss(model.params["W1"].T, model.params["b1"].astype(int))  # makes running averages
    arrays = {f"params.{name}": gconv.get_backend(w).to_numpy(w) + 1 for name, w in model.params.items()}
    arrays |= {"buffers.running_mean1": MEANS, "buffers.running_var1": VARIANCES, **changes}
    save_checkpoint(path, {name: array for name, array in arrays.items() if array is not None}, description)
    params, buffers = dict(model.params), model.buffers
    with pytest.raises(ValueError, match=rf"FullyConnectedNet.load: .*{text}"):
        model.load(path)
    assert all(model.params[name] is w for name, w in params.items())
    assert model.buffers.keys() == buffers.keys()
    assert all(model.buffers[name] is array for name, array in buffers.items())


def test_a_checkpoint_of_a_solver_is_named_as_one(tmp_path):
    model = TwoLayerNet(192, 3, 4)
    solver = Solver(model, make_synthetic_data(), num_epochs=0, verbose=False)
    solver.save(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"TwoLayerNet.load: .*a Solver's checkpoint. Go on .* Solver.resume\(path\)"):
        model.load(tmp_path / "checkpoint")
    solver.resume(tmp_path / "checkpoint")  # what the message says to do


def test_a_file_that_can_t_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    model = TwoLayerNet(4, 3, 2)
    model.save(tmp_path / "net.npy")
    old = (tmp_path / "net.npy").read_bytes()
    monkeypatch.setattr("gconv.files.atomic.os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    model.params["W1"] = model.params["W1"] + 1
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path / "net.npy")
    assert (tmp_path / "net.npy").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["net.npy"]
