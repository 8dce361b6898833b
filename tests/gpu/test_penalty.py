"""penalty.cu: the L2 penalty, and the counters of steps that are queued."""

import numpy as np
import pytest
from conftest import assert_close


@pytest.mark.parametrize("shapes", [[(3, 4)], [(70, 60), (5,), (0, 3)], [(2, 3)] * 20], ids=["one", "odd", "many"])
def test_l2_penalty(gpu, put, rng, shapes):
    weights, grads = ([rng.standard_normal(shape) for shape in shapes] for _ in range(2))
    ours = list(put(*weights)), list(put(*grads))
    loss = gpu.l2_penalty(put(2.5)[0], *ours, 0.3)
    assert_close(loss, np.array(2.5 + 0.15 * sum((w * w).sum() for w in weights)), 5000, "loss")
    for dw, w, grad in zip(ours[1], weights, grads, strict=True):
        assert_close(dw, grad + 0.3 * w, 2, "gradient")


def test_more_chunks_than_blocks(gpu, put, monkeypatch, rng):
    from gconv.backends import gpu_training

    monkeypatch.setattr(gpu_training, "GATHER_BLOCKS", 1)
    w = rng.standard_normal(9000)
    loss = gpu.l2_penalty(put(0.0)[0], list(put(w)), list(put(w)), 2.0)
    assert_close(loss, np.array((w * w).sum()), 9000)


def test_more_parts_than_threads(gpu, put, rng, dtype):
    from gconv.backends.cuda_module import launch

    parts, (loss, out) = rng.standard_normal(600), put(1.0, 0.0)
    launch("penalty", "add_penalty", dtype, (1,), (256,), loss, *put(parts), out, 600, 0.5)
    assert_close(out, np.array(1 + 0.5 * parts.sum()), 600)


@pytest.mark.parametrize("shapes", [[(3, 4)], [(70, 60), (5,), (0, 3)], [(2, 3)] * 20], ids=["one", "odd", "many"])
@pytest.mark.parametrize("share", [0.25, 2.0])
def test_clip_gradients(gpu, put, rng, shapes, share):
    grads = [rng.standard_normal(shape) for shape in shapes]
    norm = np.sqrt(sum((g * g).sum() for g in grads))
    ours = put(*grads)
    for out, grad, given in zip(gpu.clip_gradients(list(ours), share * norm), grads, ours, strict=True):
        assert_close(out, grad * min(share, 1), 5000)
        assert_close(given, grad, 1, "what was given")


def test_clip_adds_up_more_parts_than_threads(gpu, put, monkeypatch, rng):
    grads = [rng.standard_normal(4096 * 9) for _ in range(40)]
    norm = np.sqrt(sum((g * g).sum() for g in grads))
    (out, *_) = gpu.clip_gradients(list(put(*grads)), norm / 2)
    assert_close(out, grads[0] / 2, 4096)


def test_losses_are_recorded_until_one_is_not_finite(gpu, put, dtype):
    losses, step, stopped = gpu.xp.zeros(4), gpu.xp.zeros((), np.int64), gpu.xp.zeros((), np.int64)
    flags = []
    for value in (1.5, -2.0, np.inf, 3.0):
        gpu.record_loss(put(value)[0], losses, step, stopped)
        gpu.next_step(step)
        flags.append(int(stopped))
    assert gpu.to_numpy(losses).tolist() == [1.5, -2.0, np.inf, 3.0]
    assert flags == [0, 0, 1, 1]
    assert int(step) == 4
    stopped.fill(0)
    gpu.record_loss(put(np.nan)[0], losses, gpu.xp.zeros((), np.int64), stopped)
    assert int(stopped) == 1


def test_both_names_of_the_counter(gpu, dtype):
    """next_step has no REAL; its float64 entry is there for the table of kernels alone."""
    from gconv.backends.cuda_module import launch

    step = gpu.xp.zeros((), np.int64)
    launch("penalty", "next_step", dtype, (1,), (1,), step)
    assert int(step) == 1


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("shapes", [[(3, 4), (5000,), (), (0, 2)], [(3,)] * 35], ids=["odd", "many"])
def test_assign(gpu, rng, kind, shapes):
    values = [gpu.asarray((rng.standard_normal(shape) * 50).astype(kind)) for shape in shapes]
    outs = [gpu.xp.zeros(shape, kind) for shape in shapes]
    columns, column = gpu.xp.zeros((4, 2), kind), gpu.asarray(np.arange(4.0))  # a slice of one dtype from another
    stopped = gpu.xp.zeros((), np.int64)
    gpu.assign([*outs, columns[:, 1]], [*values, column], stopped)
    for out, value in zip(outs, values, strict=True):
        np.testing.assert_array_equal(gpu.to_numpy(out), gpu.to_numpy(value))
    assert gpu.to_numpy(columns).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    stopped.fill(1)
    gpu.assign([*outs, columns[:, 1]], [*(value + 1 for value in values), column + 1], stopped)
    for out, value in zip(outs, values, strict=True):
        np.testing.assert_array_equal(gpu.to_numpy(out), gpu.to_numpy(value))
    assert gpu.to_numpy(columns).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]


@pytest.mark.parametrize("word", [1, 4])
def test_assign_does_more_values_than_blocks_reach(gpu, rng, dtype, monkeypatch, word):
    from gconv.backends import gpu_training
    from gconv.backends.cuda_module import launch

    monkeypatch.setattr(gpu_training, "GATHER_BLOCKS", 1)
    monkeypatch.setattr(gpu_training, "launch", lambda file, name, _, *rest: launch(file, name, dtype, *rest))
    monkeypatch.setattr(gpu_training, "blocks_for", lambda size: 1)
    value = gpu.asarray(rng.integers(100, size=9001), f"u{word}")
    out = gpu.xp.zeros(value.shape, value.dtype)
    gpu.assign([out], [value], gpu.xp.zeros((), np.int64))
    assert (gpu.to_numpy(out) == gpu.to_numpy(value)).all()
