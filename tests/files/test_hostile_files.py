"""Files that were made to do harm, or damaged: refused by name, with nothing run, nothing written, little memory taken."""

import errno
import gzip
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cifar_files import batch_bytes, write_folder
from run_state import capture, restore

from gconv.backends import get_backend
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet, model_from_config
from gconv.data_utils import load_CIFAR_batch, make_synthetic_data
from gconv.datasets import archive
from gconv.datasets.batch_file import read_batch
from gconv.files import CheckpointError, list_checkpoints, load_checkpoint, save_checkpoint
from gconv.solver import Solver

IMAGES = np.zeros((2, 3, 32, 32), np.uint8)
GOOD = batch_bytes(IMAGES, [1, 2])


def make_solver(seed=0, **options):
    model = FullyConnectedNet([3], 12, 4, normalization="batchnorm", rng=0)
    options = {"update_rule": "adam", "batch_size": 4, "num_epochs": 2, "verbose": False, "seed": seed, **options}
    return Solver(model, make_synthetic_data(9, 4, 4, (3, 2, 2)), **options)


@pytest.fixture
def state(backend):
    solver = make_solver()
    solver.train(1)
    return capture(solver)


class TestCheckpoint:
    @pytest.fixture
    def file(self, tmp_path, state):
        save_checkpoint(tmp_path / "run_epoch_1.safetensors", *state)
        return tmp_path / "run_epoch_1.safetensors"

    def test_cut_at_every_byte_of_the_header_and_at_200_places(self, file):
        good = file.read_bytes()
        header = 8 + int.from_bytes(good[:8], "little")
        source = random.Random(6)
        for size in [*range(header + 1), *(source.randrange(len(good)) for _ in range(200))]:
            file.write_bytes(good[:size])
            with pytest.raises(CheckpointError, match=r"run_epoch_1\.safetensors"):
                load_checkpoint(file)

    def test_2000_changed_bytes(self, file):
        good, source = file.read_bytes(), random.Random(7)
        for _ in range(2000):
            changed = bytearray(good)
            for _ in range(source.choice((1, 1, 4))):
                changed[source.randrange(len(good))] = source.randrange(256)
            if changed == good:
                continue
            file.write_bytes(changed)
            with pytest.raises(CheckpointError, match=r"run_epoch_1\.safetensors"):
                load_checkpoint(file)

    @pytest.mark.parametrize(
        "header",
        [
            b"{}",
            b"[]",
            b"null",
            b"[" * 100_000,
            b'{"a":' * 20_000,
            b'{"w":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}}',
            b'{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}',
            b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
            b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,400000000000]}}',
            b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
            b'{"w":{"dtype":"O","shape":[1],"data_offsets":[0,4]}}',
            b'{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}',
            b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}',
            b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b'{"__metadata__":{"gconv":"{}","sha256":"0"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b'{"__metadata__":{"gconv":7},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b'{"\xff":1}',
        ],
        ids=lambda header: repr(header[:40]),
    )
    def test_absurd_headers(self, tmp_path, header):
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
        with pytest.raises(CheckpointError, match=r"x\.safetensors"):
            load_checkpoint(path)

    def test_a_header_that_would_fill_the_memory(self, tmp_path):
        path = tmp_path / "x.safetensors"
        for size in (2**63, 2**40, 20 << 20):
            path.write_bytes(struct.pack("<Q", size) + b" " * 100)
            with pytest.raises(CheckpointError, match="its header must have at most"):
                load_checkpoint(path)

    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            "7",
            "null",
            "[" * 50_000,
            '{"format": 2}',
            '{"format": ' + "9" * 5000 + "}",
            "{",
            '{"x": "' + "y" * 2**20 + '"}',
        ],
    )
    def test_absurd_descriptions(self, tmp_path, text, monkeypatch):
        monkeypatch.setattr("gconv.files.checkpoint_format.json.dumps", lambda _: text)
        monkeypatch.setattr("gconv.files.checkpoint_format.LARGEST_DESCRIPTION", 1 << 30)
        save_checkpoint(tmp_path / "x.safetensors", {"w": np.ones(2)}, {})
        monkeypatch.undo()
        with pytest.raises(CheckpointError, match=r"x\.safetensors"):
            load_checkpoint(tmp_path / "x.safetensors")

    def test_what_is_no_file(self, tmp_path, backend):
        (tmp_path / "run_epoch_3.safetensors").mkdir()
        (tmp_path / "run_epoch_4.safetensors").symlink_to(tmp_path / "nowhere")
        (tmp_path / "run_epoch_5.safetensors").symlink_to("/dev/zero")
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "run_epoch_6.safetensors")
        for path in tmp_path.iterdir():
            with pytest.raises(FileNotFoundError, match="there is none at"):
                load_checkpoint(path)
        assert list_checkpoints(tmp_path / "run") == []

    def test_a_link_is_read_and_never_written_through(self, tmp_path, state):
        (tmp_path / "elsewhere").mkdir()
        target = tmp_path / "elsewhere" / "other"
        save_checkpoint(target, *state)
        before = target.read_bytes()
        link = tmp_path / "run_epoch_1.safetensors"
        link.symlink_to(target)
        load_checkpoint(link)
        save_checkpoint(link, {"w": np.ones(3)}, {})
        assert target.read_bytes() == before
        assert not link.is_symlink()

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"epoch": -1}, "epoch must be a number in"),
            ({"epoch": 1.5}, "epoch"),
            ({"epoch": True}, "epoch"),
            ({"epoch": None}, "epoch"),
            ({"iteration": 10**30}, "iteration"),
            ({"iteration": "2"}, "iteration"),
            ({"best_val_acc": float("nan")}, "best_val_acc"),
            ({"best_val_acc": {}}, "best_val_acc"),
            ({"seconds": -1}, "seconds"),
            ({"optim_scalars": {}}, "optim_scalars must have a dictionary for each parameter"),
            ({"optim_scalars": []}, "optim_scalars|attribute"),
            ({"optim_scalars": {"W1": 1, "b1": 2, "W2": 3, "b2": 4, "gamma1": 5, "beta1": 6}}, "not iterable|mapping|attribute"),
            ({"numpy_random": ["MT19937", 625, 0, 0.0]}, r"position in numpy_random must be a number in \[0, 624\]; got 625"),
            ({"numpy_random": ["MT19937", -1, 0, 0.0]}, "position"),
            ({"numpy_random": ["PCG64", 1, 0, 0.0]}, "MT19937"),
            ({"numpy_random": [1]}, "unpack"),
            ({"generator": {}}, "generator|it has no|state"),
            ({"generator": {"bit_generator": "PCG64", "state": {"state": "x", "inc": 1}, "has_uint32": 0, "uinteger": 0}}, "gone on from"),
            ({"generator": {"bit_generator": "os.system"}}, "gone on from"),
            ({"generator": None}, "gone on from"),
            ({"options": None}, "must say of what options"),
            ({"options": []}, "must say of what options"),
        ],
    )  # fmt: skip
    def test_descriptions_that_no_solver_wrote(self, backend, state, change, text):
        arrays, description = state
        self.refused(arrays, {**description, **change}, text)

    @pytest.mark.parametrize(
        "key", ["epoch", "iteration", "best_val_acc", "seconds", "optim_scalars", "numpy_random", "options"]
    )
    def test_missing_parts(self, backend, state, key):
        arrays, description = state
        self.refused(arrays, {k: v for k, v in description.items() if k != key}, key)

    @pytest.mark.parametrize(
        ("name", "array", "text"),
        [
            ("param.W1", np.full((12, 3), np.nan, np.float32), "NaN"),
            ("best.W1", np.zeros((3, 12)), "best weights must have the shapes"),
            ("best.extra", np.zeros(3), "best weights must have the shapes"),
            ("buffer.running_mean1", np.zeros((3, 3)), "buffers must have the shapes"),
            ("buffer.other", np.zeros(3), "buffers must have the shapes"),
            ("buffer.running_mean1", np.zeros(3, np.int64), "buffers must have the shapes"),
            ("optim.W1.m", np.zeros(5), r"optim\.W1\.m must be float32 \(12, 3\)"),
            ("optim.W1.m", np.zeros((12, 3), np.int8), r"optim\.W1\.m must be float32"),
            ("optim.W1.evil", np.zeros((12, 3)), "must have keys among"),
            ("loss_history", np.zeros((1, 2)), "loss_history must be a row"),
            ("loss_history", np.zeros(1), "iteration must be a number"),
            ("eval_iterations", np.array([0.5, 2]), "eval_iterations"),
            ("eval_iterations", np.array([-1.0, 2]), "eval_iterations"),
            ("val_acc_history", np.zeros(1), "must have an entry for each"),
            ("numpy_random_keys", np.zeros(3, np.uint32), "numpy_random_keys"),
            ("numpy_random_keys", np.zeros(624, np.int64), "numpy_random_keys"),
            ("order", np.arange(9) - 1, "order must name training samples"),
            ("order", np.arange(9) + 1, "order must name training samples"),
            ("order", np.arange(4), "order must name every one"),
            ("order", np.zeros((3, 3), np.int64), "order must be integers with 1 axes"),
            ("order", np.zeros(9), "order must be integers"),
            ("drawn", np.full((1, 4), 10**15), "drawn must name training samples"),
            ("drawn", np.zeros((1, 5), np.int64), "drawn must be minibatches of 4"),
            ("drawn", np.zeros((1, 0), np.int64), "drawn must be minibatches of 4"),
        ],
    )
    def test_arrays_that_no_solver_wrote(self, backend, state, name, array, text):
        arrays, description = state
        self.refused({**arrays, name: array}, description, text)

    def test_missing_arrays(self, backend, state):
        arrays, description = state
        for name in ("loss_history", "eval_iterations", "numpy_random_keys"):
            self.refused({k: v for k, v in arrays.items() if k != name}, description, f"it has no '{name}'")

    def test_changes_of_images_that_were_not_drawn(self, backend):
        from gconv.training.augmentation import Augment

        options = {"augment": Augment(crop=1)}
        model = ThreeLayerConvNet((3, 4, 4), 2, 3, 4, 4, rng=0)
        solver = Solver(model, make_synthetic_data(9, 4, 4, (3, 4, 4)), batch_size=4, verbose=False, seed=0, **options)
        arrays, description = capture(solver)
        drawn = {**arrays, "drawn": np.zeros((1, 4), np.int64)}
        for changes in (None, np.zeros((1, 4, 4), np.int32), np.zeros((1, 4, 5)), np.full((1, 4, 5), 2**30, np.int32)):
            with pytest.raises(CheckpointError, match="drawn_changes must be"):
                restore(solver, "f", drawn if changes is None else {**drawn, "drawn_changes": changes}, description)
        restore(solver, "f", {**drawn, "drawn_changes": np.ones((1, 4, 5), np.int32)}, description)
        solver.train(1)

    def refused(self, arrays, description, text):
        """Refuse it by name, and change nothing."""
        solver = make_solver()
        before = {name: get_backend(w).to_numpy(w).copy() for name, w in solver.model.params.items()}
        with pytest.raises(CheckpointError, match=text) as raised:
            restore(solver, "the/file", arrays, description)
        assert "the/file" in str(raised.value)
        assert (solver.epoch, solver.loss_history, solver.best_params) == (0, [], {})
        for name, w in solver.model.params.items():
            np.testing.assert_array_equal(get_backend(w).to_numpy(w), before[name])

    def test_a_whole_file_that_can_not_be_gone_on_from_is_passed_over(self, backend, tmp_path):
        alone = make_solver(checkpoint_name=str(tmp_path / "alone" / "run"))
        alone.train()
        make_solver(checkpoint_name=str(tmp_path / "run"), num_epochs=1).train()
        arrays, description = load_checkpoint(tmp_path / "run_epoch_1.safetensors")
        del description["format"]
        save_checkpoint(tmp_path / "run_epoch_2.safetensors", arrays, {**description, "epoch": 10**9})
        resumed = make_solver(checkpoint_name=str(tmp_path / "run"))
        with pytest.warns(RuntimeWarning, match=r"passing over a checkpoint: .*run_epoch_2.*epoch must be"):
            resumed.resume()
        assert resumed.loss_history == alone.loss_history

    def test_extra_entries_do_no_harm(self, backend, state):
        arrays, description = state
        solver = make_solver()
        restore(solver, "f", {**arrays, "../../etc/x": np.ones(3)}, {**description, "__class__": "os.system"})
        assert solver.epoch == 1


class TestModels:
    """`gconv eval` builds a model from what a file says of it."""

    @pytest.mark.parametrize(
        "config",
        [
            {"class": "TwoLayerNet", "input_dim": 10**9, "hidden_dim": 10**9},
            {"class": "TwoLayerNet", "input_dim": 3, "hidden_dim": 10**6, "num_classes": 10**6},
            {"class": "ThreeLayerConvNet", "num_filters": 10**7, "filter_size": 10**3 + 1},
            {"class": "ThreeLayerConvNet", "input_dim": [3, 10**6, 10**6]},
            {"class": "FullyConnectedNet", "hidden_dims": [10**5] * 10},
            {"class": "FullyConnectedNet", "hidden_dims": [3], "input_dim": 12, "num_classes": 5},
            {"class": "os.system"},
            {"class": "TwoLayerNet", "rng": "x"},
            {"class": "TwoLayerNet", "__init__": 1},
            {"class": ["TwoLayerNet"]},
            {},
        ],
        ids=str,
    )
    def test_descriptions_that_do_not_fit_are_refused_before_anything_is_made(self, backend, config):
        params = TwoLayerNet(12, 3, 4, rng=0).params
        tracemalloc.start()
        with pytest.raises((ValueError, TypeError)):
            model_from_config(config, params)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 8 << 20

    def test_one_that_fits(self, backend):
        model = FullyConnectedNet([3], 12, 4, normalization="batchnorm", rng=0)
        twin = model_from_config(model.config, model.params)
        for name, w in model.params.items():
            np.testing.assert_array_equal(get_backend(w).to_numpy(w), get_backend(w).to_numpy(twin.params[name]))

    def test_eval_names_the_file(self, tmp_path):
        save_checkpoint(
            tmp_path / "f", {"best.W1": np.ones((3, 3))}, {"model": {"class": "TwoLayerNet", "input_dim": 10**9}}
        )
        command = [sys.executable, "-I", "-c", "from gconv.cli import main; main()", "eval", str(tmp_path / "f")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "GCONV_BACKEND": "cpu"}
        )
        assert done.returncode == 2
        assert (
            f"{tmp_path / 'f'} must hold a model of gconv: config must describe parameters of at most 9" in done.stderr
        )


class Reduces:
    """Pickled as a call of ``function``."""

    def __init__(self, function, *arguments, state=None):
        self._made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self._made


def tricks():
    """Every way that is known to me in which a pickle runs code, reads files, or takes all memory."""
    for protocol in range(6):
        for function, arguments in (
            (os.system, ("echo code has run",)),
            (eval, ("print('code has run')",)),
            (exec, ("print('code has run')",)),
            (print, ("code has run",)),
            (open, ("made-by-a-pickle", "w")),
            (__import__, ("antigravity",)),
            (getattr, (os, "system")) if protocol < 2 else (getattr, (1, "real")),
            (np.load, ("x", None, True)),
            (np.ndarray, ((1 << 40,),)),
            (bytearray, (1 << 40,)),
            (pickle.loads, (b"cos\nsystem\n(S'echo code has run'\ntR.",)),
            (subprocess.Popen, (["echo", "code has run"],)),
            (map, (print, ["code has run"])),
            (Path, ("/etc/passwd",)),
        ):
            try:
                yield f"{function.__name__} protocol {protocol}", pickle.dumps(Reduces(function, *arguments), protocol)
                yield (
                    f"{function.__name__} inside, protocol {protocol}",
                    pickle.dumps({"data": Reduces(function, *arguments), "labels": [1]}, protocol),
                )
            except (pickle.PicklingError, TypeError):
                continue
    system = b"cos\nsystem\n"
    yield "INST", b"(S'echo code has run'\nios\nsystem\n."
    yield "OBJ", b"(" + system + b"S'echo code has run'\no."
    yield "NEWOBJ", b"\x80\x02" + system + b"X\x11\x00\x00\x00echo code has run\x85\x81."
    yield "NEWOBJ_EX", b"\x80\x04" + system + b"X\x11\x00\x00\x00echo code has run\x85}\x92."
    yield "STACK_GLOBAL", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x11echo code has run\x85R."
    yield "a dotted name", b"\x80\x04\x8c\x05numpy\x8c\x10dtype.__reduce__\x93."
    yield "a dotted name of an allowed module", b"\x80\x04\x8c\x05numpy\x8c\x0bf2py.os.sys\x93."
    yield "EXT1", b"\x80\x02\x82\x01."
    yield "PERSID", b"Pos.system\n."
    yield "BINPERSID", b"\x80\x02K\x01Q."
    yield "BUILD on a function", b"\x80\x02cnumpy\ndtype\n}X\x08\x00\x00\x00__code__K\x01sb."
    yield "BUILD with slots", b"\x80\x02cnumpy\nndarray\nN}X\x01\x00\x00\x00aK\x01s\x86b."
    yield "a memo of 2**32 places", b"\x80\x02]r\xff\xff\xff\xff."
    yield "a frame of 2**62 bytes", b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"."
    yield "bytes of 2**62", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x."
    yield "a bytearray of 2**40", b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x."
    yield "a string of 2 GB", b"\x80\x02T\xff\xff\xff\x7fx."
    yield "a number of 2 GB", b"\x80\x02\x8b\xff\xff\xff\x7fx."
    yield "a number of a million digits", b"I" + b"9" * 1_000_000 + b"\n."
    yield "lists in lists", b"\x80\x02" + b"]" * 60_000 + b"a" * 59_999 + b"."
    yield "many objects", b"\x80\x02" + b"]" * 3_000_000 + b"."
    yield "a list in itself", b"\x80\x02]q\x00h\x00a."
    yield "a dtype of objects", GOOD.replace(b"U\x02u1", b"U\x02O8")
    yield "the state of a dtype as an array's", GOOD.replace(b"K\x03U\x01|", b"K\x03U\x01O")[:-1] + b"b."
    yield "an array without an end", GOOD.replace(b"J\x02\x00\x00\x00J", b"J\xff\xff\xff\x7fJ")
    yield "no STOP", GOOD[:-1]


@pytest.mark.parametrize(("name", "content"), [pytest.param(*trick, id=trick[0]) for trick in tricks()])
def test_pickles_run_nothing(tmp_path, monkeypatch, capfd, name, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    called = []
    hooked = {"os.system", "exec", "compile", "import", "open", "subprocess.Popen", "pickle.find_class"}
    monkeypatch.setattr(
        TestAudit, "watch", lambda event, args: called.append((event, args)) if event in hooked else None
    )
    tracemalloc.start()
    try:
        load_CIFAR_batch(path)
    except ValueError as error:
        assert f"load_CIFAR_batch: {path}" in str(error)  # noqa: PT017 -- the array's dtype has a state that is not used
    else:
        assert name == "the state of a dtype as an array's"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    monkeypatch.setattr(TestAudit, "watch", lambda event, args: None)
    assert [event for event in called if event[0] != "open" or str(path) not in str(event[1][0])] == []
    assert most < (300 << 20)
    assert "code has run" not in "".join(capfd.readouterr())
    assert [path.name for path in tmp_path.iterdir()] == ["data_batch_1"]


class TestAudit:
    """What Python's audit hook, which can't be taken off, tells at the time."""

    @staticmethod
    def watch(event, args):
        pass


sys.addaudithook(lambda event, args: TestAudit.watch(event, args))


def test_batches_cut_everywhere_and_changed(tmp_path):
    path = tmp_path / "data_batch_1"
    source = random.Random(8)
    places = [*range(300), *range(len(GOOD) - 60, len(GOOD)), *(source.randrange(len(GOOD)) for _ in range(200))]
    for size in places:
        path.write_bytes(GOOD[:size])
        with pytest.raises(ValueError, match="data_batch_1"):
            read_batch(path)
    for _ in range(2000):
        changed = bytearray(GOOD)
        changed[source.choice((source.randrange(300), source.randrange(len(GOOD) - 60, len(GOOD))))] = source.randrange(
            256
        )
        path.write_bytes(changed)
        try:
            images, labels = read_batch(path)
        except ValueError as error:
            assert "data_batch_1" in str(error)  # noqa: PT017 -- a changed pixel is no error
        else:
            assert images.shape[1:] == (3, 32, 32)
            assert len(images) == len(labels)


def test_a_batch_file_that_is_too_large(tmp_path):
    with (tmp_path / "data_batch_1").open("wb") as file:
        file.write(GOOD)
        file.truncate(1 << 40)  # takes no space
    tracemalloc.start()
    with pytest.raises(ValueError, match="must have at most 67108864 bytes, and has more"):
        load_CIFAR_batch(tmp_path / "data_batch_1")
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


class TestArchive:
    FOLDER = archive.FOLDER

    def packed(self, path, members, mode="w:gz"):
        with tarfile.open(path, mode) as tar:
            for name, kind, content, link in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size, member.mode = kind, link, len(content), 0o6777
                tar.addfile(member, io.BytesIO(content))
        return path

    def test_nothing_but_the_batch_files_is_followed(self, tmp_path):
        write_folder(tmp_path / "made")
        names = (*archive.BATCHES, archive.TEST_BATCH)
        good = [
            (f"{self.FOLDER}/{n}", tarfile.REGTYPE, (tmp_path / "made" / self.FOLDER / n).read_bytes(), "")
            for n in names
        ]
        secret = tmp_path / "secret"
        secret.write_text("secret")
        bad = [
            ("../outside", tarfile.REGTYPE, b"x", ""),
            (f"{self.FOLDER}/../../outside", tarfile.REGTYPE, b"x", ""),
            (f"{self.FOLDER}/./data_batch_1", tarfile.REGTYPE, b"x", ""),
            (str(tmp_path / "outside"), tarfile.REGTYPE, b"x", ""),
            (f"/{self.FOLDER}/data_batch_1", tarfile.REGTYPE, b"x", ""),
            (f"{self.FOLDER}/data_batch_1", tarfile.SYMTYPE, b"", str(secret)),
            (f"{self.FOLDER}/data_batch_2", tarfile.LNKTYPE, b"", "../secret"),
            (f"{self.FOLDER}/data_batch_3", tarfile.CHRTYPE, b"", ""),
            (f"{self.FOLDER}/data_batch_4", tarfile.FIFOTYPE, b"", ""),
            (f"{self.FOLDER}/data_batch_5", tarfile.DIRTYPE, b"", ""),
            (self.FOLDER, tarfile.SYMTYPE, b"", str(tmp_path / "elsewhere")),
            (f"{self.FOLDER}/readme.html", tarfile.REGTYPE, b"x", ""),
            (f"{self.FOLDER}/.bashrc", tarfile.REGTYPE, b"x", ""),
        ]
        (tmp_path / "elsewhere").mkdir()
        for members in (bad + good, good + bad):
            place = tmp_path / f"cache{len(list(tmp_path.iterdir()))}"
            place.mkdir()
            found = archive.unpack(self.packed(tmp_path / "a.tar.gz", members), place)
            assert sorted(path.name for path in found.iterdir()) == sorted(names)
            assert [path.name for path in place.iterdir()] == [self.FOLDER]
            for path in found.iterdir():
                assert path.is_file()
                assert not path.is_symlink()
                assert path.stat().st_mode & 0o7111 == 0
                assert path.read_bytes() == (tmp_path / "made" / self.FOLDER / path.name).read_bytes()
            assert not (tmp_path / "outside").exists()
            assert not list((tmp_path / "elsewhere").iterdir())
            assert secret.read_text() == "secret"

    def test_archives_that_are_refused_leave_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "LARGEST_CONTENT", 4 << 20)
        monkeypatch.setattr(archive, "LARGEST_MEMBER", 1 << 20)
        first = f"{self.FOLDER}/data_batch_1"
        whole = self.packed(tmp_path / "a", [(first, tarfile.REGTYPE, b"x" * 1000, "")]).read_bytes()
        bomb = gzip.compress(b"\0" * (64 << 20))
        member_bomb = self.packed(tmp_path / "a", [(first, tarfile.REGTYPE, b"\0" * (2 << 20), "")]).read_bytes()
        header = tarfile.TarInfo("x")
        header.size = 1 << 33
        claims = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * (8 << 20))
        long_name = tarfile.TarInfo("././@LongLink")
        long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
        endless = gzip.compress(long_name.tobuf(tarfile.GNU_FORMAT) + b"a" * (8 << 20))
        (tmp_path / "cache").mkdir()
        for content in (
            b"",
            b"no archive",
            whole[:-20],
            whole[:40],
            whole,
            bomb,
            member_bomb,
            claims,
            endless,
            gzip.compress(b"x" * 5000),
        ):
            (tmp_path / "a.tar.gz").write_bytes(content)
            tracemalloc.start()
            with pytest.raises(ValueError, match=r"download_cifar10: .*a\.tar\.gz"):
                archive.unpack(tmp_path / "a.tar.gz", tmp_path / "cache")
            assert tracemalloc.get_traced_memory()[1] < 40 << 20
            tracemalloc.stop()
            assert not list((tmp_path / "cache").iterdir())

    def test_a_full_disk_in_mid_archive_leaves_nothing(self, tmp_path, monkeypatch):
        write_folder(tmp_path / "made")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "made" / self.FOLDER, arcname=self.FOLDER)
        (tmp_path / "cache").mkdir()
        real, written = archive.write_atomically, []

        def write(path, content):
            written.append(path)
            if len(written) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(path, content)

        monkeypatch.setattr(archive, "write_atomically", write)
        with pytest.raises(OSError, match="No space left"):
            archive.unpack(tmp_path / "a.tar.gz", tmp_path / "cache")
        assert not list((tmp_path / "cache").iterdir())


def test_a_run_s_damaged_description_is_named(tmp_path):
    for content in (
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"data": 7}',
        b"[" * 100_000,
        json.dumps({"data": "digits", "epochs": "x"}).encode(),
    ):
        (tmp_path / "config.json").write_bytes(content)
        command = [
            sys.executable,
            "-I",
            "-c",
            "from gconv.cli import main; main()",
            "train",
            "--resume",
            "--out",
            str(tmp_path),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "GCONV_BACKEND": "cpu"}
        )
        assert done.returncode == 2, (content[:20], done.stderr)
        assert "config.json is damaged" in done.stderr
