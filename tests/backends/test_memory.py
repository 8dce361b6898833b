"""Too little memory, or a size no memory has: an error that names the layer, and a process that goes on."""

import subprocess
import sys
import weakref

import numpy as np
import pytest

from gconv import fast_layers, layer_utils, layers
from gconv.backends.cpu import kernels
from gconv.solver import Solver

try:
    import resource
except ImportError:
    resource = None

CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}

PROGRAM = """
import resource, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
from gconv import fast_layers, layer_utils, layers
from gconv.classifiers import ThreeLayerConvNet
from gconv.solver import Solver

CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
w, b = np.ones((16, 3, 3, 3), np.float32), np.zeros(16, np.float32)

def images(n):
    return np.zeros((n, 3, 32, 32), np.float32)

small = layer_utils.conv_relu_pool_forward(images(8), w, b, CONV, POOL)  # threads and working space exist by now
large = images(4000)
matrix = np.ones((3072, 6000), np.float32)
model = ThreeLayerConvNet(rng=0, num_filters=64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))

def fails(text, call):
    try:
        call()
    except MemoryError as error:
        assert text in str(error), (text, str(error))
        assert "Unable to allocate" in str(error) or "no memory for an array of" in str(error), str(error)
    else:
        raise AssertionError("there was memory for " + text)
    again = layer_utils.conv_relu_pool_forward(images(8), w, b, CONV, POOL)
    assert np.array_equal(again[0], small[0])

fails("conv_forward_fast: no memory for arguments (4000, 3, 32, 32) float32", lambda: fast_layers.conv_forward_fast(large, w, b, CONV))
fails("; the batch has 4000", lambda: fast_layers.conv_forward_fast(large, w, b, CONV))
fails("conv_relu_pool_forward: no memory", lambda: layer_utils.conv_relu_pool_forward(large, w, b, CONV, POOL))
fails("conv_relu_forward: no memory", lambda: layer_utils.conv_relu_forward(large, w, b, CONV))
fails("conv_forward_im2col: no memory", lambda: fast_layers.conv_forward_im2col(large, w, b, CONV))
fails("affine_forward: no memory", lambda: layers.affine_forward(large, matrix, matrix[0]))
data = {"X_train": large, "y_train": np.zeros(4000, int), "X_val": large[:10], "y_val": np.zeros(10, int)}
before = {name: p.copy() for name, p in model.params.items()}
solver = Solver(model, data, batch_size=4000, num_epochs=1, verbose=False)
fails("Solver.train: no memory with batch_size=4000: ", solver.train)
assert all(np.array_equal(p, before[name]) for name, p in model.params.items()) and solver.iteration == 0
solver = Solver(model, {**data, "X_train": large[:20], "y_train": data["y_train"][:20]}, batch_size=4, num_epochs=1, verbose=False)
solver.train()
print("goes on")
"""


@pytest.mark.skipif(resource is None or not sys.platform.startswith("linux"), reason="memory can't be limited here")
def test_a_process_without_memory_says_where_and_goes_on():
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "goes on\n"


def test_a_device_without_memory_is_named_too(monkeypatch):
    class OutOfMemoryError(MemoryError):
        """As CuPy's, which is a MemoryError."""

    def conv_forward(*_, **__):
        raise OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 512 bytes).")

    monkeypatch.setattr(type(__import__("gconv").get_backend()), "conv_forward", conv_forward)
    arrays = np.ones((7, 3, 8, 8)), np.ones((2, 3, 3, 3)), np.ones(2)
    text = (
        r"conv_forward_fast: no memory for arguments \(7, 3, 8, 8\) float64, .*; the batch has 7\. Out of memory alloc"
    )
    with pytest.raises(MemoryError, match=text):
        fast_layers.conv_forward_fast(*(__import__("gconv").get_backend().asarray(a) for a in arrays), CONV)


class Held:
    """Stands for an array that a layer had made."""


def test_a_failure_that_is_kept_keeps_no_arrays():
    held = []

    class Model:
        def __init__(self):
            self.params = {"W": np.zeros(3)}

        def layer(self):
            array = Held()
            held.append(weakref.ref(array))
            raise MemoryError("none left")

        def loss(self, X, y=None):
            array = Held()
            held.append(weakref.ref(array))
            try:
                self.layer()
            except MemoryError as error:
                raise MemoryError("named") from error

    data = {
        name: np.zeros(4, int) if name[0] == "y" else np.zeros((4, 3))
        for name in ("X_train", "y_train", "X_val", "y_val")
    }
    solver = Solver(Model(), data, batch_size=2, num_epochs=1, verbose=False)
    with pytest.raises(MemoryError, match="no memory with batch_size=2: named"):
        solver.train()
    assert isinstance(solver.failure, MemoryError)
    assert len(held) == 2
    assert [reference() for reference in held] == [None, None]


def huge(*shape):
    """An array of one value, seen as so many: it takes no memory."""
    return np.broadcast_to(np.float32(1), shape)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fast_layers.conv_forward_fast(huge(2**44, 1, 1, 1), np.ones((1, 1, 1, 1)), np.ones(1), CONV),
        lambda: fast_layers.conv_forward_fast(huge(1, 1, 2**31, 2**14), np.ones((1, 1, 3, 3)), np.ones(1), CONV),
        lambda: fast_layers.conv_forward_fast(np.ones((1, 1, 4, 4)), huge(2**44, 1, 1, 1), huge(2**44), CONV),
        lambda: fast_layers.conv_forward_fast(np.ones((1, 2**10, 4, 4)), huge(2**36, 2**10, 1, 1), huge(2**36), CONV),
        lambda: fast_layers.conv_forward_fast(np.ones((9, 1, 4, 4)), np.ones((9, 1, 3, 3)), np.ones(9), {"stride": 1, "pad": 2**31 - 1}),
        lambda: fast_layers.conv_forward_fast(np.ones((1, 1, 4, 4)), huge(1, 1, 2**31, 2**14), np.ones(1), {"stride": 1, "pad": 2**31 - 1}),
        lambda: fast_layers.conv_forward_fast(huge(2**28, 2**30, 1, 1), huge(1, 2**30, 1, 1), np.ones(1), CONV),
        lambda: fast_layers.max_pool_forward_fast(huge(2**28, 2**28, 2, 2), POOL),
        lambda: fast_layers.max_pool_forward_fast(huge(2**11, 2**11, 2**11, 2**11), POOL),
        lambda: layer_utils.conv_relu_pool_forward(huge(2**44, 1, 2, 2), np.ones((1, 1, 1, 1)), np.ones(1), {"stride": 1, "pad": 0}, POOL),
        lambda: layers.affine_forward(huge(2**40, 16), np.ones((16, 4)), np.ones(4)),
        lambda: layers.affine_forward(np.ones((2**12, 1)), huge(1, 2**40), huge(2**40)),
        lambda: layers.relu_forward(huge(2**44)),
        lambda: layers.spatial_batchnorm_forward(huge(2**31, 1, 2**13, 1), np.ones(1), np.zeros(1), {"mode": "train"}),
        lambda: layers.softmax_loss(huge(2**20, 2**24), np.zeros(2**20, int)),
    ],
)  # fmt: skip
def test_sizes_past_31_and_63_bits_are_errors(call):
    if kernels is None:
        pytest.skip("NumPy's own message is not looked at")
    with pytest.raises((MemoryError, ValueError)) as raised:
        call()
    assert not isinstance(raised.value, OverflowError)
    assert any(word in str(raised.value) for word in ("no memory for", "fewer than 2**60"))


def test_as_many_filters_as_nobody_has(rng):
    """10^5 filters, and the largest window: sizes that 16 bits do not hold."""
    x, w, b = (
        rng.integers(-4, 5, (2, 2, 3, 3)) * 1.0,
        rng.integers(-4, 5, (100_000, 2, 2, 2)) * 1.0,
        np.arange(100_000.0),
    )
    out, cache = fast_layers.conv_forward_fast(x, w, b, {"stride": 2, "pad": 0})
    np.testing.assert_array_equal(out[:, :, 0, 0], np.einsum("ncij,fcij->nf", x[:, :, :2, :2], w) + b)
    dx, dw, db = fast_layers.conv_backward_fast(np.ones_like(out), cache)
    np.testing.assert_array_equal(dx[0, :, :2, :2], w.sum(axis=0))
    np.testing.assert_array_equal(dw, np.broadcast_to(x[:, :, :2, :2].sum(axis=0), w.shape))
    assert np.all(db == 2)
    image = rng.standard_normal((1, 1, 300, 300))
    pooled, pool_cache = fast_layers.max_pool_forward_fast(image, {"pool_height": 300, "pool_width": 300, "stride": 1})
    assert pooled[0, 0, 0, 0] == image.max()
    dx = fast_layers.max_pool_backward_fast(np.full((1, 1, 1, 1), 3.0), pool_cache)
    assert dx.sum() == dx.flat[image.argmax()] == 3
