"""What only shows after a long time or at large sizes: python -m tests.endurance steps|failures|epochs|sizes.

steps: 20,000 training steps of each model; from the 2,000th on the memory of the process stays within 2 %, less what the
  history of the losses takes.
failures: 1,000,000 calls that are refused, in every layer; the memory stays within 2 % from the 100,000th on.
sizes: layers on arrays of more than 2^31 values; needs 20 GB of memory.
epochs: 30 epochs of CIFAR-10 with accuracy checks, checkpoints and logs; everything is there and adds up.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

# What is installed is tested, not the source folder that this may be started in.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parents[1]]

from gconv import fast_layers, im2col, layer_utils, layers, optim
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from gconv.data_utils import get_CIFAR10_data, make_synthetic_data
from gconv.files import list_checkpoints, load_checkpoint
from gconv.solver import Solver
from gconv.training.callbacks import CSVLog, JSONLinesLog, LastCheckpoint

ALLOWED = 0.02
# Of a step's loss: a float and its place in the list, and while a checkpoint is written 8 bytes in an array and the file.
HISTORY = 24 + 8 + 2 * 8


def resident():
    """Memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def finish(failed):
    click.echo("failed: " + ", ".join(failed) if failed else "all as it should be")
    sys.exit(bool(failed))


def models():
    yield "ThreeLayerConvNet", lambda: ThreeLayerConvNet((3, 16, 16), 16, 3, 32, 4, rng=0), (3, 16, 16)
    yield "TwoLayerNet", lambda: TwoLayerNet(768, 64, 4, rng=0), (3, 16, 16)
    yield "FullyConnectedNet, batch normalization, dropout", lambda: FullyConnectedNet([64, 32], 768, 4, 0.7, "batchnorm", rng=0), (3, 16, 16)  # fmt: skip
    yield "FullyConnectedNet, layer normalization", lambda: FullyConnectedNet([64], 768, 4, 1, "layernorm", rng=0), (3, 16, 16)  # fmt: skip


@click.group()
def main():
    """Run long."""


@main.command()
@click.option("--count", default=20_000, show_default=True)
def steps(count):
    """Train each model for so many steps, with checks, checkpoints and logs on the way."""
    failed = []
    for name, make, shape in models():
        with tempfile.TemporaryDirectory() as folder:
            seen = {}

            class Watch:
                def on_iteration(self, solver, seen=seen):
                    if solver.iteration % (count // 10) == 0:
                        seen[solver.iteration] = resident()

            callbacks = [Watch(), LastCheckpoint(f"{folder}/last"), JSONLinesLog(f"{folder}/log")]
            data = make_synthetic_data(1000, 100, 4, shape)
            options = {
                "update_rule": "adam",
                "batch_size": 20,
                "verbose": False,
                "seed": 0,
                "optim_config": {"learning_rate": 1e-4},
            }
            start = time.perf_counter()
            Solver(make(), data, num_epochs=count // 50, callbacks=callbacks, **options).train()
            seconds = time.perf_counter() - start
        first, last = seen[count // 10], max(seen.values())
        growth = (last - first - HISTORY * (count - count // 10) / 1e6) / first
        click.echo(
            f"{name}: {count} steps in {seconds:.0f} s, {first:.1f} MB after a tenth, at most {last:.1f} later "
            f"({growth:+.2%} without the history of {HISTORY} bytes a step)"
        )
        if growth > ALLOWED:
            failed.append(name)
    finish(failed)


def refusals():
    """Calls that raise, one for each layer and kind of mistake."""
    x, w, b = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32)
    conv, pool = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = fast_layers.conv_forward_fast(x, w, b, conv)
    _, pool_cache = fast_layers.max_pool_forward_fast(x, pool)
    _, fused = layer_utils.conv_relu_pool_forward(x, w, b, conv, pool)
    _, affine = layers.affine_forward(np.ones((2, 3)), np.ones((3, 4)), np.ones(4))
    _, norm = layers.batchnorm_forward(np.ones((2, 3)), np.ones(3), np.ones(3), {"mode": "train"})
    huge = np.broadcast_to(np.float32(1), (1 << 44, 3, 8, 8))
    return [
        lambda: fast_layers.conv_forward_fast(x, w[:, :2], b, conv),
        lambda: fast_layers.conv_forward_fast(x, w, b, {"stride": 0, "pad": 1}),
        lambda: fast_layers.conv_forward_fast(x.astype(int), w.astype(int), b.astype(int), conv),
        lambda: fast_layers.conv_forward_fast(huge, w, b, conv),
        lambda: fast_layers.conv_backward_fast(out[:1], cache),
        lambda: fast_layers.max_pool_forward_fast(x, {"pool_height": 9, "pool_width": 2, "stride": 2}),
        lambda: fast_layers.max_pool_backward_fast(out, pool_cache),
        lambda: layer_utils.conv_relu_pool_forward(x, w, b[:1], conv, pool),
        lambda: layer_utils.conv_relu_pool_backward(out, fused),
        lambda: im2col.im2col_indices(x, 30, 3),
        lambda: layers.affine_forward(np.ones((2, 3)), np.ones((4, 4)), np.ones(4)),
        lambda: layers.affine_backward(np.ones((3, 3)), affine),
        lambda: layers.relu_forward([1, 2]),
        lambda: layers.batchnorm_forward(np.ones((2, 3)), np.ones(4), np.ones(3), {"mode": "train"}),
        lambda: layers.batchnorm_backward(np.ones((2, 4)), norm),
        lambda: layers.spatial_groupnorm_forward(x, np.ones((1, 3, 1, 1)), np.ones((1, 3, 1, 1)), 2, {}),
        lambda: layers.dropout_forward(x, {"p": 2, "mode": "train"}),
        lambda: layers.softmax_loss(np.ones((2, 3)), np.array([0, 3])),
        lambda: layers.svm_loss(np.ones((2, 3)), np.array([0.5, 1])),
        lambda: optim.adam(np.ones(3), np.ones(4)),
    ]


@main.command()
@click.option("--count", default=1_000_000, show_default=True)
def failures(count):
    """Make so many calls that are refused."""
    calls, seen = refusals(), []
    start = time.perf_counter()
    for number in range(count):
        try:
            calls[number % len(calls)]()
        except (ValueError, TypeError, MemoryError):
            pass
        else:
            raise AssertionError(f"call {number % len(calls)} was not refused")
        if (number + 1) % (count // 10) == 0:
            seen.append(resident())
    growth = max(seen) / seen[0] - 1
    seconds = time.perf_counter() - start
    click.echo(
        f"{count} refused calls of {len(calls)} kinds in {seconds:.0f} s, {seen[0]:.1f} MB after a tenth, at most {max(seen):.1f} later ({growth:+.2%})"
    )
    finish(["memory"] if growth > ALLOWED else [])


@main.command()
@click.option("--count", default=30, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the log here.")
def epochs(count, out):
    """Train on CIFAR-10 for so many epochs; GCONV_DATA_DIR has it."""
    data = get_CIFAR10_data(num_test=10_000)
    model = ThreeLayerConvNet(hidden_dim=500, reg=1e-3, weight_scale=1e-3, rng=0)
    memory, failed = [], []

    class Watch:
        def on_epoch(self, solver):
            memory.append(resident())

    with tempfile.TemporaryDirectory() as folder:
        log, name = Path(folder, "log.jsonl"), str(Path(folder, "run"))
        callbacks = [Watch(), JSONLinesLog(log), CSVLog(Path(folder, "log.csv"))]
        options = {"update_rule": "adam", "batch_size": 50, "lr_decay": 0.9, "verbose": False, "seed": 0}
        solver = Solver(
            model, data, num_epochs=count, callbacks=callbacks, checkpoint_name=name, progress=True, **options
        )
        solver.train()
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        checks = [1, *range(980, 980 * count + 1, 980)]
        wrong = {
            "log": [row["iteration"] for row in rows] != checks,
            "csv": len(Path(folder, "log.csv").read_text().splitlines()) != len(checks) + 1,
            "losses": len(solver.loss_history) != 980 * count or not np.isfinite(solver.loss_history).all(),
            "learning rate": not np.isclose(rows[-1]["learning_rate"], 1e-3 * 0.9 ** (count - 1), rtol=1e-12),
            "memory": max(memory) > memory[0] * (1 + ALLOWED),
            "temporary files": bool(list(Path(folder).glob(".*.tmp"))),
        }
        found = list_checkpoints(name)
        for path in found:
            with contextlib.suppress(ValueError):
                load_checkpoint(path)
                continue
            wrong["checkpoints"] = True
        wrong["checkpoints"] = wrong.get("checkpoints", False) or len(found) != count
        if out is not None:
            out.write_text(log.read_text())
    failed = [what for what, is_wrong in wrong.items() if is_wrong]
    test = solver.check_accuracy(data["X_test"], data["y_test"])
    click.echo(f"{count} epochs of CIFAR-10, {solver.iteration} steps, in {solver.seconds:.0f} s")
    click.echo(
        f"loss {rows[0]['loss']:.4f} at first, {rows[-1]['loss']:.4f} in the last epoch; best validation {solver.best_val_acc:.4f}, test {test:.4f}"
    )
    click.echo(
        f"{len(rows)} rows in the log, {len(found)} checkpoints, {memory[0]:.0f} MB after the first epoch, at most {max(memory):.0f}"
    )
    finish(failed)


SIDE = 1 << 16  # an image of SIDE x (SIDE / 2 + 8) has 2^31 + 2^19 values


def large_image(rng):
    """An image of zeros but for a few places, among them the last ones, which 32 bits do not reach."""
    x = np.zeros((1, 1, SIDE, SIDE // 2 + 8), np.float32)
    rows, columns = rng.integers(0, SIDE, 40), rng.integers(0, x.shape[3], 40)
    rows[:4], columns[:4] = [SIDE - 1, SIDE - 2, 0, SIDE - 1], [x.shape[3] - 1, 5, 0, 0]
    x[0, 0, rows, columns] = rng.integers(1, 9, 40)
    return x, rows, columns


def relu(rng):
    x, rows, columns = large_image(rng)
    x[0, 0, -1, -1] = -3
    out, _ = layers.relu_forward(x)
    values = np.maximum(x[0, 0, rows, columns], 0)
    return np.array_equal(out[0, 0, rows, columns], values) and out.max() == values.max()


def pooling(rng):
    x, _, _ = large_image(rng)
    out, cache = fast_layers.max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    places = np.argwhere(out[0, 0])
    right = all(out[0, 0, y, z] == x[0, 0, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2].max() for y, z in places)
    right = right and out[0, 0, -1, -1] == x[0, 0, -2:, -2:].max() > 0
    total = float(x.sum())
    del x
    dx = fast_layers.max_pool_backward_fast(out, cache)
    return right and dx[0, 0, -1, -1] > 0 and 0 < float(dx.sum()) <= total


def convolution(rng):
    x, rows, columns = large_image(rng)
    w = rng.integers(1, 5, (1, 1, 3, 3)).astype(np.float32)
    out, _ = fast_layers.conv_forward_fast(x, w, np.zeros(1, np.float32), {"stride": 1, "pad": 1})
    padded = np.zeros((1, 1, 3, 3), np.float32)
    for y, z in zip(rows, columns, strict=True):
        padded[...] = 0
        for i in range(3):
            for j in range(3):
                if 0 <= y + i - 1 < x.shape[2] and 0 <= z + j - 1 < x.shape[3]:
                    padded[0, 0, i, j] = x[0, 0, y + i - 1, z + j - 1]
        if out[0, 0, y, z] != (padded * w).sum():
            return False
    return True


def many_outputs(rng):
    """10^5 filters and 2^31 values of output, from a small image."""
    x, w = rng.integers(-3, 4, (1, 1, 150, 150)).astype(np.float32), rng.integers(-3, 4, (100_000, 1, 1, 1))
    out, _ = fast_layers.conv_forward_fast(
        x, w.astype(np.float32), np.zeros(100_000, np.float32), {"stride": 1, "pad": 0}
    )
    places = [0, 1, 50_000, 95_443, 95_444, 99_998, 99_999]  # the 95,444th begins just below 2^31
    return all(np.array_equal(out[0, f], x[0, 0] * w[f, 0, 0, 0]) for f in places)


def affine(rng):
    """2^31 weights and more, for one output."""
    depth = (1 << 31) + 16
    x, w = np.zeros((1, depth), np.float32), np.zeros((depth, 1), np.float32)
    x[0, -1] = x[0, 3] = 2
    w[-1], w[3] = 5, 7
    out, _ = layers.affine_forward(x, w, np.ones(1, np.float32))
    return out.shape == (1, 1) and out[0, 0] == 25


@main.command()
def sizes():
    """Compute on arrays of more than 2^31 values."""
    failed = []
    for layer in (relu, pooling, convolution, many_outputs, affine):
        start = time.perf_counter()
        if not layer(np.random.default_rng(1)):
            failed.append(layer.__name__)
        click.echo(f"{layer.__name__}: {time.perf_counter() - start:.0f} s, {resident():.0f} MB at the end")
    finish(failed)


if __name__ == "__main__":
    main()
