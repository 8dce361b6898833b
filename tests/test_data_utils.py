"""CIFAR-10's files, where they are looked for, the download, hostile pickles; digits; synthetic data."""

import functools
import hashlib
import http.server
import pickle
import threading

import numpy as np
import pytest
from cifar_files import batch_bytes, write_archive, write_folder

from gconv import data_utils
from gconv.data_utils import get_CIFAR10_data, get_digits_data, load_CIFAR10, load_CIFAR_batch, make_synthetic_data
from gconv.datasets.cifar10_files import download_cifar10, find_cifar10


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def written(folder, monkeypatch):
    monkeypatch.delenv("GCONV_DATA_DIR", raising=False)
    return write_folder(folder)


def test_one_batch_file(folder, written):
    X, y = load_CIFAR_batch(folder / "cifar-10-batches-py" / "data_batch_2")
    assert X.shape == (20, 32, 32, 3)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, written[0][20:40].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(y, written[1][20:40])


def test_all_of_it_in_the_course_s_layout(folder, written):
    for root in (folder, folder / "cifar-10-batches-py"):
        Xtr, ytr, Xte, yte = load_CIFAR10(root)
        np.testing.assert_array_equal(Xtr, written[0][:100].transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(Xte, written[0][100:].transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(np.concatenate([ytr, yte]), written[1])


def test_the_split_and_the_mean(folder, written, dtype):
    data = get_CIFAR10_data(70, 25, 15, cifar10_dir=folder, dtype=dtype)
    images = written[0].astype(np.float64)
    mean = images[:70].mean(axis=0)
    for part, rows in (("train", slice(70)), ("val", slice(70, 95)), ("test", slice(100, 115))):
        assert data[f"X_{part}"].dtype == dtype
        np.testing.assert_allclose(data[f"X_{part}"], images[rows] - mean, atol=1e-4)
        np.testing.assert_array_equal(data[f"y_{part}"], written[1][rows])
    assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]


def test_bytes_without_the_mean(folder, written):
    data = get_CIFAR10_data(90, 10, 20, subtract_mean=False, cifar10_dir=folder, dtype=np.uint8)
    np.testing.assert_array_equal(data["X_train"], written[0][:90])
    with pytest.raises(TypeError, match="dtype must be one of float32, float64 with subtract_mean=True; got uint8"):
        get_CIFAR10_data(90, 10, 20, cifar10_dir=folder, dtype=np.uint8)


def test_asking_for_more_than_there_is(folder, written):
    with pytest.raises(ValueError, match=r"must be at most 100 and num_test at most 20, .*; got 95 \+ 10 and 5"):
        get_CIFAR10_data(95, 10, 5, cifar10_dir=folder)


def test_where_it_is_looked_for(folder, written, tmp_path, monkeypatch):
    expected = folder / "cifar-10-batches-py"
    assert find_cifar10(folder) == expected
    assert find_cifar10(expected) == expected
    monkeypatch.setenv("GCONV_DATA_DIR", str(folder))
    assert find_cifar10() == expected
    monkeypatch.setenv("GCONV_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"GCONV_DATA_DIR must hold the folder cifar-10-batches-py"):
        find_cifar10()
    monkeypatch.delenv("GCONV_DATA_DIR")
    monkeypatch.setattr("gconv.datasets.cifar10_files.cache_folder", lambda: folder)
    assert find_cifar10() == expected
    monkeypatch.setattr("gconv.datasets.cifar10_files.cache_folder", lambda: tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="not at hand"):
        find_cifar10(download=False)


@pytest.fixture
def server(folder, written, tmp_path):
    """A mirror on this machine: the good archive, and one that was cut off."""
    served = tmp_path / "served"
    served.mkdir()
    write_archive(folder, served / "good.tar.gz")
    good = (served / "good.tar.gz").read_bytes()
    (served / "cut.tar.gz").write_bytes(good[:-100])

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(served)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", hashlib.sha256(good).hexdigest()
    httpd.shutdown()
    httpd.server_close()


def test_download_goes_on_to_the_mirror_that_works(server, written, tmp_path):
    address, digest = server
    urls = [f"{address}/missing.tar.gz", f"{address}/cut.tar.gz", f"{address}/good.tar.gz"]
    with pytest.warns(RuntimeWarning) as warnings:
        found = download_cifar10(tmp_path / "cache", urls, digest)
    assert ["missing" in str(w.message) or "cut" in str(w.message) for w in warnings] == [True, True]
    np.testing.assert_array_equal(load_CIFAR10(found)[1], written[1][:100])
    names = sorted(p.name for p in found.iterdir())
    assert names == ["batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    assert not (tmp_path / "outside").exists()
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [".lock", "cifar-10-batches-py"]


def test_download_without_any_mirror_says_what_to_type(server, tmp_path):
    address, digest = server
    with pytest.warns(RuntimeWarning), pytest.raises(FileNotFoundError, match=r"tar -xzf cifar-10-python\.tar\.gz -C"):
        download_cifar10(tmp_path / "cache", [f"{address}/missing.tar.gz"], digest)


class Evil:
    def __reduce__(self):
        return (print, ("code has run",))


IMAGES = np.zeros((2, 3, 32, 32), np.uint8)
GOOD = batch_bytes(IMAGES, [1, 2])


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"data": Evil(), "labels": []}),
        b"cos\nsystem\n(S'echo code has run'\ntR.",
        GOOD.replace(b"cnumpy\ndtype\n", b"cnumpy\nload\n"),
        GOOD.replace(b"U\x02u1", b"U\x02O8"),
        GOOD[:-5],
        GOOD[:40],
        b"",
        b"no pickle at all",
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({"labels": [1]}, protocol=2),
        batch_bytes(IMAGES, [1]),
        batch_bytes(IMAGES, [1, 10]),
        batch_bytes(IMAGES[:, :, :16], [1, 2]),
        GOOD.replace(b"J\x02\x00\x00\x00J", b"J\x05\x00\x00\x00J"),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_hostile_and_damaged_batch_files(tmp_path, capfd, content):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"load_CIFAR_batch: .*data_batch_1"):
        load_CIFAR_batch(path)
    assert "code has run" not in capfd.readouterr().out


def test_a_missing_batch_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is none at .*nowhere"):
        load_CIFAR_batch(tmp_path / "nowhere")


def test_digits():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'gconv[demo]'")
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    data = get_digits_data()
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert {k: v.shape for k, v in data.items() if k[0] == "X"} == {
        "X_train": (1200, 1, 8, 8), "X_val": (297, 1, 8, 8), "X_test": (300, 1, 8, 8),
    }  # fmt: skip
    assert abs(data["X_train"].mean(axis=0)).max() < 1e-6
    assert set(data["y_train"]) == set(range(10))
    whole = np.concatenate([get_digits_data(subtract_mean=False)[f"X_{p}"] for p in ("train", "val", "test")])
    assert len(np.unique(whole.reshape(1797, -1), axis=0)) > 1790  # a split, no sample twice
    with pytest.raises(ValueError, match="must be below 1797"):
        get_digits_data(1700, 97)


def test_synthetic_data_can_be_learnt_and_repeats():
    one, two = make_synthetic_data(seed=4), make_synthetic_data(seed=4)
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])
    means = np.stack([one["X_train"][one["y_train"] == k].mean(axis=0) for k in range(4)])
    distances = ((one["X_val"][:, None] - means) ** 2).sum(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == one["y_val"]).mean() > 0.95


@pytest.mark.real_data
def test_the_real_files(cifar10_folder):
    import subprocess
    import sys

    program = (
        "import resource, warnings; warnings.simplefilter('error')\n"
        "from gconv.data_utils import get_CIFAR10_data\n"
        f"data = get_CIFAR10_data(cifar10_dir={str(cifar10_folder)!r})\n"
        "assert data['X_train'].shape == (49000, 3, 32, 32) and data['X_test'].shape == (1000, 3, 32, 32)\n"
        "assert abs(data['X_train'][::7].mean()) < 1 and 50 < data['X_train'][::7].std() < 80\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 1.0e9, "loading took more than 1 GB"
    X, y = load_CIFAR_batch(cifar10_folder / "test_batch")
    assert X.shape == (10000, 32, 32, 3)
    assert np.bincount(y).tolist() == [1000] * 10


def test_classes_are_named():
    assert data_utils.CIFAR10_CLASSES[3] == "cat"
