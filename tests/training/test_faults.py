"""Faults of the world around a training: full disks, forbidden folders, signals, second processes, bad mirrors."""

import contextlib
import errno
import functools
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cifar_files import write_archive, write_folder

from gconv.classifiers import TwoLayerNet
from gconv.data_utils import load_CIFAR10, make_synthetic_data
from gconv.datasets import cifar10_files
from gconv.datasets.cifar10_files import download_cifar10
from gconv.files import list_checkpoints, load_checkpoint, locked
from gconv.solver import Solver
from gconv.training.callbacks import BestCheckpoint, CSVLog, LastCheckpoint

COMMAND = [sys.executable, "-I", "-c", "from gconv.cli import main; main()"]
CPU = {**os.environ, "GCONV_BACKEND": "cpu"}


def make_solver(folder, epochs=4, callbacks=(), **options):
    model = TwoLayerNet(192, 30, 4, weight_scale=1e-2, rng=0)
    options = {"update_rule": "adam", "batch_size": 10, "verbose": False, "seed": 0, **options}
    data = make_synthetic_data(60, 20)
    return Solver(model, data, num_epochs=epochs, checkpoint_name=str(folder / "run"), callbacks=callbacks, **options)


def weights(solver):
    return {name: w.tobytes() for name, w in solver.model.params.items()}


class TestDisk:
    @pytest.fixture
    def full_after(self, monkeypatch):
        """Let the disk be full from the n-th write on, as the system says it: part of the file is written by then."""

        def arrange(count, error=errno.ENOSPC):
            real, written = os.fdopen, []

            class Full:
                def __init__(self, file):
                    self._file = file

                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    self._file.close()

                def write(self, content):
                    self._file.write(content[: len(content) // 2])
                    raise OSError(error, os.strerror(error))

            def fdopen(handle, mode):
                written.append(handle)
                file = real(handle, mode)
                return file if len(written) <= count else Full(file)

            monkeypatch.setattr("gconv.files.atomic.os.fdopen", fdopen)

        return arrange

    def test_a_full_disk_leaves_the_last_good_checkpoint_and_the_training_goes_on(self, tmp_path, full_after):
        alone = make_solver(tmp_path / "alone")
        alone.train()
        full_after(2)
        solver = make_solver(tmp_path / "full")
        with pytest.warns(
            RuntimeWarning, match=r"run_epoch_[34].* could not be written, and the training goes on: .*No space"
        ):
            solver.train()
        assert weights(solver) == weights(alone)
        assert [path.name for path in list_checkpoints(tmp_path / "full" / "run")] == [
            f"run_epoch_{epoch}.safetensors" for epoch in (2, 1)
        ]
        assert not list((tmp_path / "full").glob(".*.tmp"))

    def test_resumed_where_the_disk_was_full_ends_the_same(self, tmp_path, full_after, monkeypatch):
        alone = make_solver(tmp_path / "alone")
        alone.train()
        full_after(1)
        with pytest.warns(RuntimeWarning, match="No space"):
            make_solver(tmp_path / "full", epochs=3).train()
        monkeypatch.undo()
        resumed = make_solver(tmp_path / "full")
        resumed.resume()
        assert weights(resumed) == weights(alone)

    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EIO])
    def test_callbacks_that_write_warn_too(self, tmp_path, full_after, error):
        full_after(0, error)
        callbacks = [CSVLog(tmp_path / "log.csv"), BestCheckpoint(tmp_path / "best"), LastCheckpoint(tmp_path / "last")]
        solver = make_solver(tmp_path, epochs=1, callbacks=callbacks)
        with pytest.warns(RuntimeWarning) as caught:
            solver.train()
        assert {name for name in ("log", "best", "last", "run_epoch") for w in caught if name in str(w.message)} == {
            *("log", "best", "last", "run_epoch")
        }
        assert solver.epoch == 1
        assert [path.name for path in tmp_path.iterdir()] == [".run.lock"]

    @pytest.mark.skipif(
        getattr(os, "geteuid", lambda: 1)() != 0 or not shutil.which("mount"),
        reason="a file system can't be mounted here",
    )
    def test_on_a_small_file_system(self, tmp_path):
        place = tmp_path / "small"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], check=False).returncode:
            pytest.skip("a file system can't be mounted here")
        try:
            solver = make_solver(place, epochs=12)
            with pytest.warns(RuntimeWarning, match="No space left on device"):
                solver.train()
            assert solver.epoch == 12
            found = list_checkpoints(place / "run")
            assert 1 <= len(found) < 12
            for path in found:
                load_checkpoint(path)
            assert not list(place.glob(".*.tmp"))
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def test_a_forbidden_folder(self, tmp_path, full_after, monkeypatch):
        def mkstemp(**_):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("gconv.files.atomic.tempfile.mkstemp", mkstemp)
        solver = make_solver(tmp_path)
        with pytest.warns(RuntimeWarning, match="Permission denied"):
            solver.train()
        assert solver.epoch == 4


class TestSecondProcess:
    def test_a_second_solver_of_that_name_is_refused(self, tmp_path):
        second = []

        class Second:
            def on_epoch(self, solver):
                for start in ("train", "resume"):
                    with pytest.raises(
                        BlockingIOError, match="must have one training at a time; another process holds"
                    ):
                        getattr(make_solver(tmp_path), start)()
                    second.append(start)

        make_solver(tmp_path, epochs=1, callbacks=[Second()]).train()
        assert second == ["train", "resume"]
        make_solver(tmp_path).resume()  # the lock is gone with the training

    def test_the_command_line_refuses_too(self, tmp_path):
        folder = tmp_path / "run"
        args = ["train", "--epochs", "400", "--out", str(folder)]
        first = subprocess.Popen([*COMMAND, *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=CPU)
        try:
            while not list_checkpoints(folder / "checkpoints" / "run"):
                assert first.poll() is None
                time.sleep(0.01)
            for command in ("train", "sweep"):
                second = subprocess.run(
                    [*COMMAND, command, "--resume", "--out", str(folder)],
                    capture_output=True,
                    text=True,
                    env=CPU,
                    check=False,
                )
                assert second.returncode == 2
                held = "at a time; another process holds" in second.stderr
                assert held if command == "train" else "is that of a training" in second.stderr
        finally:
            first.kill()
            first.communicate()
        last = list_checkpoints(folder / "checkpoints" / "run")[0]
        resumed = subprocess.run(
            [*COMMAND, "train", "--resume", "--epochs", str(len(list_checkpoints(folder / "checkpoints" / "run"))), "--out", str(folder)],
            capture_output=True, text=True, env=CPU, check=False,
        )  # fmt: skip
        assert f"Going on from {last}" in resumed.stdout, resumed.stderr

    def test_the_lock_goes_with_a_killed_process(self, tmp_path):
        program = "import sys, time; from gconv.files import locked\nwith locked(sys.argv[1], 'x'): print(flush=True); time.sleep(60)"
        path = tmp_path / ".lock"
        process = subprocess.Popen([sys.executable, "-I", "-c", program, str(path)], stdout=subprocess.PIPE, env=CPU)
        process.stdout.readline()
        with pytest.raises(BlockingIOError, match="one at a time"), locked(path, "one at a time"):
            pass
        process.kill()
        process.communicate()
        with locked(path, "one at a time"):
            pass

    def test_where_nothing_can_be_locked_a_warning_says_so(self, tmp_path):
        (tmp_path / "file").touch()
        with (
            pytest.warns(RuntimeWarning, match="nothing keeps a second process away"),
            locked(tmp_path / "file" / "lock", "x"),
        ):
            pass


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_kills_of_three_kinds_change_nothing(tmp_path):
    """GCONV_KILLS=50 makes it the long run of docs/reliability.md."""
    kills = int(os.environ.get("GCONV_KILLS", "3"))
    options = ["--epochs", str(10 + 10 * kills), "--hidden-dim", "20", "--num-filters", "4", "--update-rule", "adam"]
    options += ["--augment", "flip,crop=1", "--schedule", "cosine", "--batch-size", "40"]
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    subprocess.run([*COMMAND, "train", *options, "--out", str(alone)], check=True, capture_output=True, env=CPU)
    source = random.Random(os.getpid())
    arguments = [*options, "--out", str(killed)]
    for number in range(kills):
        before = list_checkpoints(killed / "checkpoints" / "run")
        process = subprocess.Popen(
            [*COMMAND, "train", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=CPU,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        while process.poll() is None and list_checkpoints(killed / "checkpoints" / "run")[:1] == before[:1]:
            time.sleep(0.002)
        assert process.poll() is None, process.communicate()
        time.sleep(source.uniform(0, 0.1))
        kind = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number % 3]
        process.send_signal(kind)
        _, text = process.communicate(timeout=60)
        assert process.returncode == (-kind if kind == signal.SIGKILL else 128 + kind), text
        if kind != signal.SIGKILL:  # asked to end, it has kept what it had
            assert json.loads((killed / "results.json").read_text())["epochs"] >= len(before)
            (killed / "results.json").unlink()
        arguments = ["--resume", "--out", str(killed)]
    subprocess.run([*COMMAND, "train", *arguments], check=True, capture_output=True, env=CPU)
    last = [list_checkpoints(folder / "checkpoints" / "run")[0] for folder in (alone, killed)]
    (ours, described), (theirs, other) = (load_checkpoint(path) for path in last)
    # The command draws from a generator of its own; NumPy's global one begins anew with each process.
    for name in ours.keys() - {"numpy_random_keys"}:
        array = ours[name]
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    same = {"seconds": 0, "numpy_random": None}
    assert {**described, **same} == {**other, **same}
    for name in ("metrics.jsonl",):
        assert (alone / name).read_text() == (killed / name).read_text()
    assert not list(killed.rglob("*.tmp"))


class TestPlaces:
    """Where a user may have no home, or one that can't be written; odd names; no UTF-8."""

    SMALL = ("--epochs", "1", "--hidden-dim", "10", "--num-filters", "2")

    def run(self, *args, cwd, **environment):
        env = {**CPU, **environment}
        env = {name: value for name, value in env.items() if value is not None}
        return subprocess.run(
            [*COMMAND, *args], capture_output=True, text=True, env=env, cwd=cwd, check=False, errors="replace"
        )

    def test_an_odd_path(self, tmp_path):
        name = "-größe 日本語 quote'\"$(x) per%cent"
        (tmp_path / name).mkdir()
        out = tmp_path / name / "the run"
        done = self.run("train", *self.SMALL, "--out", out, cwd=tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "Validation accuracy" in self.run("eval", out / "best.safetensors", cwd=tmp_path).stdout
        resumed = self.run("train", "--resume", "--epochs", "2", "--out", out, cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stderr

    @pytest.mark.parametrize(
        "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "POSIX"}]
    )
    def test_a_locale_without_utf_8(self, tmp_path, locale):
        out = tmp_path / "größe"
        done = self.run("train", *self.SMALL, "--out", out, cwd=tmp_path, **locale)
        assert done.returncode == 0, done.stderr
        assert "ThreeLayerConvNet" in (out / "report.html").read_text(encoding="utf-8")
        assert self.run("info", cwd=tmp_path, **locale).returncode == 0

    def test_no_home(self, tmp_path, monkeypatch):
        nowhere = {"HOME": None, "XDG_CACHE_HOME": None, "USERPROFILE": None}
        done = self.run("train", *self.SMALL, "--out", tmp_path / "run", cwd=tmp_path, **nowhere)
        assert done.returncode == 0, done.stderr
        monkeypatch.setattr("pooch.os_cache", lambda name: Path("~") / ".cache" / name)
        with pytest.raises(FileNotFoundError, match=r"this user has no home\. Set GCONV_DATA_DIR"):
            cifar10_files.cache_folder()

    @pytest.mark.skipif(os.name != "posix", reason="permissions of other systems")
    def test_a_home_that_can_not_be_written(self, tmp_path):
        home = tmp_path / "file"
        home.touch()  # no folder can be made under it, whoever asks
        done = self.run(
            "train", *self.SMALL, "--out", tmp_path / "run", cwd=tmp_path, HOME=str(home), XDG_CACHE_HOME=None
        )
        assert done.returncode == 0, done.stderr
        data = self.run(
            "train", "--data", "cifar10", cwd=tmp_path, HOME=str(home), XDG_CACHE_HOME=None, GCONV_DATA_DIR=None
        )
        assert data.returncode == 2
        assert "Not a directory" in data.stderr

    @pytest.mark.skipif(os.name != "posix", reason="permissions of other systems")
    def test_a_cache_without_permission_says_what_to_set(self, tmp_path, monkeypatch):
        def mkdir(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

        monkeypatch.setattr(Path, "mkdir", mkdir)
        with pytest.raises(
            PermissionError, match="download_cifar10: Permission denied; GCONV_DATA_DIR names another folder"
        ):
            download_cifar10(tmp_path / "cache", ["http://127.0.0.1:9/"])


class TestMirrors:
    """A server on this machine that misbehaves in every way, and then one that does not."""

    @pytest.fixture
    def good(self, tmp_path):
        write_folder(tmp_path / "made")
        write_archive(tmp_path / "made", tmp_path / "good.tar.gz")
        content = (tmp_path / "good.tar.gz").read_bytes()
        return content, hashlib.sha256(content).hexdigest()

    @pytest.fixture
    def server(self, good):
        content, _ = good
        released = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                with contextlib.suppress(OSError):
                    getattr(self, self.path.strip("/").replace("-", "_"))()

            def send(self, body, length=None, status=200):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def good(self):
                self.send(content)

            def ends_early(self):
                self.send(content[:1000], len(content))

            def changed(self):
                self.send(content[:500] + b"x" + content[501:])

            def lies_about_its_length(self):
                self.send(content, 10**15)

            def empty(self):
                self.send(b"")

            def missing(self):
                self.send(b"no", status=404)

            def busy(self):
                self.send(b"later", status=503)

            def stalls(self):
                self.send(content[:1000], len(content))
                released.wait(30)

            def silent(self):
                released.wait(30)

            def crawls(self):
                self.send_response(200)
                self.end_headers()
                while not released.wait(0.05):
                    self.wfile.write(b"x" * 20)

            def endless(self):
                self.send_response(200)
                self.end_headers()
                while not released.is_set():
                    self.wfile.write(b"x" * (1 << 20))

            def round_and_round(self):
                self.send_response(302)
                self.send_header("Location", "/round-and-round")
                self.end_headers()

            def elsewhere(self):
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()

            def hangs_up(self):
                self.connection.close()

        httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        httpd.daemon_threads = True
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd
        released.set()
        httpd.shutdown()
        httpd.server_close()

    WRONG = (
        *("ends-early", "changed", "lies-about-its-length", "empty", "missing", "busy", "stalls", "silent", "crawls"),
        *("endless", "round-and-round", "elsewhere", "hangs-up"),
    )

    @pytest.mark.parametrize("wrong", WRONG)
    def test_the_next_mirror_is_taken_and_nothing_bad_is_kept(self, good, server, tmp_path, monkeypatch, wrong):
        monkeypatch.setattr(cifar10_files, "LARGEST_ARCHIVE", 8 << 20)
        address, cache = f"http://127.0.0.1:{server.server_port}", tmp_path / "cache"
        with pytest.warns(RuntimeWarning, match=f"download_cifar10: {address}/{wrong}: "):
            found = download_cifar10(cache, [f"{address}/{wrong}", f"{address}/good"], good[1], timeout=1)
        assert len(load_CIFAR10(found)[1]) == 100
        assert sorted(path.name for path in cache.iterdir()) == [".lock", "cifar-10-batches-py"]

    @pytest.mark.parametrize("wrong", ["ends-early", "endless", "stalls"])
    def test_without_a_good_one_the_cache_stays_empty(self, good, server, tmp_path, monkeypatch, wrong):
        monkeypatch.setattr(cifar10_files, "LARGEST_ARCHIVE", 8 << 20)
        cache = tmp_path / "cache"
        with pytest.warns(RuntimeWarning), pytest.raises(FileNotFoundError, match=f"/{wrong}: "):
            download_cifar10(cache, [f"http://127.0.0.1:{server.server_port}/{wrong}"], good[1], timeout=1)
        assert [path.name for path in cache.iterdir()] == [".lock"]

    @pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl to make a certificate with")
    def test_a_secure_address_does_not_lead_to_an_insecure_one(self, good, server, tmp_path, monkeypatch):
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        names = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *subject],
            check=True,
            capture_output=True,
        )

        class Redirect(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{server.server_port}/good")
                self.end_headers()

        secure = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Redirect))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threading.Thread(target=secure.serve_forever, daemon=True).start()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate"))
        try:
            with (
                pytest.warns(RuntimeWarning, match="leads to http://127.0.0.1:.*, which is not https"),
                pytest.raises(FileNotFoundError),
            ):
                download_cifar10(tmp_path / "cache", [f"https://localhost:{secure.server_port}/x"], good[1])
        finally:
            secure.shutdown()
            secure.server_close()
        assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]

    def test_two_downloads_at_once(self, good, server, tmp_path):
        found, cache = [], tmp_path / "cache"
        url = f"http://127.0.0.1:{server.server_port}/good"
        threads = [
            threading.Thread(target=lambda: found.append(download_cifar10(cache, [url], good[1]))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [cache / "cifar-10-batches-py"] * 4
        assert len(json.dumps(load_CIFAR10(found[0])[1].tolist())) > 100
