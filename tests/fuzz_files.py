"""Coverage-guided fuzzing of what reads files: python -m tests.fuzz_files batch|checkpoint [--minutes 60].

Needs atheris (pip install ".[fuzz]"). Every input must be read or refused with a ValueError; another exception, 2 GB of
memory or 20 seconds end the run with a line that names the input's file. `--input FILE` repeats one.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import atheris
import click
import numpy as np

# What is installed is tested, not the source folder that this may be started in.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parents[1]]

with atheris.instrument_imports(include=["gconv", "pickletools"]):
    import gconv.files as checkpoints
    from gconv.classifiers import FullyConnectedNet, model_from_config
    from gconv.data_utils import make_synthetic_data
    from gconv.datasets.batch_file import read_batch
    from gconv.solver import Solver

from .cifar_files import batch_bytes
from .run_state import capture, restore

WORK = Path(tempfile.mkdtemp(prefix="gconv-fuzz-"))


def batch_seeds():
    import pickle

    images = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3, 32, 32)
    yield batch_bytes(images, [1, 2])
    for protocol in (3, 4):
        yield pickle.dumps({"data": images.reshape(2, -1), "labels": [1, 2]}, protocol)


def read_a_batch(content):
    path = WORK / "data_batch_1"
    path.write_bytes(content)
    try:
        images, labels = read_batch(path)
    except ValueError:
        return
    if images.shape[1:] != (3, 32, 32) or images.dtype != np.uint8 or len(labels) != len(images):
        raise AssertionError(f"took {images.dtype} {images.shape} with {len(labels)} labels for a batch")
    if len(labels) and not 0 <= labels.min() <= labels.max() < 10:
        raise AssertionError(f"took {labels} for labels")


def new_solver():
    model = FullyConnectedNet([3], 12, 4, normalization="batchnorm", rng=0)
    data = make_synthetic_data(8, 4, 4, (3, 2, 2))
    return Solver(
        model, data, update_rule="adam", batch_size=4, num_epochs=2, verbose=False, seed=0, sampling="shuffle"
    )


def good_checkpoint():
    solver = new_solver()
    solver.train(1)
    return capture(solver)


ARRAYS, DESCRIPTION = good_checkpoint()


def checkpoint_seeds():
    checkpoints.save_checkpoint(WORK / "seed", ARRAYS, DESCRIPTION)
    yield b"\0" + (WORK / "seed").read_bytes()
    for key, value in DESCRIPTION.items():
        yield b"\1" + json.dumps({key: value}).encode()
    for name, array in ARRAYS.items():
        yield b"\2" + f"{sorted(ARRAYS).index(name):2}".encode() + array.tobytes()


def go_on_from(arrays, description):
    solver = new_solver()
    before = {name: w.copy() for name, w in solver.model.params.items()}
    try:
        restore(solver, "the checkpoint", arrays, description)
    except ValueError:
        if solver.epoch or any(np.any(w != before[name]) for name, w in solver.model.params.items()):
            raise AssertionError("a refused checkpoint has changed the solver") from None
        return
    with contextlib.suppress(FloatingPointError):
        solver.train(1)


def read_a_checkpoint(content):
    """First byte 0: a whole file; 1: JSON in place of parts of the description; 2: bytes in place of an array."""
    kind, content = content[:1], content[1:]
    arrays, description = dict(ARRAYS), dict(DESCRIPTION)
    if kind == b"\0":
        path = WORK / "run_epoch_1.safetensors"
        path.write_bytes(content)
        try:
            arrays, description = checkpoints.load_checkpoint(path)
        except ValueError:
            return
        params = {name[6:]: array for name, array in arrays.items() if name.startswith("param.")}
        with contextlib.suppress(ValueError, TypeError):
            model_from_config(description.get("model") or {}, params)
    elif kind == b"\1":
        try:
            changes = json.loads(content)
        except (ValueError, RecursionError):
            return
        if not isinstance(changes, dict):
            return
        description |= changes
    else:
        data = atheris.FuzzedDataProvider(content)
        name = sorted(ARRAYS)[data.ConsumeIntInRange(0, len(ARRAYS) - 1)]
        dtype = data.PickValueInList([ARRAYS[name].dtype, *map(np.dtype, ("f4", "f8", "i4", "i8", "u1", "u4", "?"))])
        shape = data.PickValueInList([ARRAYS[name].shape, (-1,), (-1, 1), (0, -1), (1, -1, 1)])
        whole = data.ConsumeBytes(1 << 16)
        array = np.frombuffer(whole[: len(whole) // dtype.itemsize * dtype.itemsize], dtype).copy()
        try:
            arrays[name] = array.reshape(shape)
        except ValueError:
            return
    go_on_from(arrays, description)


TARGETS = {"batch": (read_a_batch, batch_seeds), "checkpoint": (read_a_checkpoint, checkpoint_seeds)}


@click.command()
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--input", "only", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(target, minutes, seed, only):
    """Fuzz one reader for so many minutes."""
    run, seeds = TARGETS[target]
    # A checksum that changes with every byte would hide all that comes after it from the fuzzer.
    checkpoints._digest = lambda text, arrays: "0" * 64
    if only is not None:
        run(only.read_bytes())
        return
    corpus = WORK / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds()):
        (corpus / str(number)).write_bytes(content)
    options = [f"-max_total_time={round(60 * minutes)}", f"-seed={seed + 1}", "-rss_limit_mb=2048", "-timeout=20"]
    atheris.Setup([sys.argv[0], str(corpus), *options, "-max_len=16384", "-print_final_stats=1"], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
