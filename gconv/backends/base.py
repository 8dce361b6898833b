"""The interface of a backend: what it is given, and what it returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from gconv._typing import Array, Sizes
from gconv.backends.update_rules import UpdateRule
from gconv.geometry import ConvGeometry, PoolGeometry

Arrays = Sequence[Array]

__all__ = ["Arrays", "Backend", "BackendUnavailableError", "StepControl", "argmax_dtype"]


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for can't run here; the message says why and what mends it."""


def argmax_dtype(window: Sizes) -> str:
    """Return the dtype that holds a place inside a pooling window: a byte, unless the window is large."""
    return "uint8" if math.prod(window) <= 256 else "int32"


class StepControl(NamedTuple):
    """Arrays of a backend that an update reads, so that steps can be queued, or captured once and replayed.

    Attributes
    ----------
    stopped : int64 array, shape ()
        Where it is not 0, nothing is written.
    table : float64 array, shape (steps, parts, 4), optional
        The scalars of steps to come; ``table[row, part]`` then takes the place of the given ones.
    row : int64 array, shape (), optional
        The step.
    part : int
        Which of the calls that one step of all parameters takes.
    """

    stopped: Array
    table: Array | None = None
    row: Array | None = None
    part: int = 0


class Backend(ABC):
    """What NumPy and CuPy do not share; everything else a layer takes from ``xp``.

    Every method gets arrays of one floating dtype whose shapes have been checked, in any memory layout,
    and returns new C-contiguous arrays of that dtype. None writes to its inputs, except to what a docstring
    says. A geometry holds all sizes of a convolution or pooling, worked out and checked; an ``activation`` is
    the name of one that the result ends with.

    Attributes
    ----------
    name : str
        As in GCONV_BACKEND.
    xp : module
        NumPy or CuPy.
    """

    name: str
    xp: Any

    @abstractmethod
    def asarray(self, x: Array, dtype: Any = None) -> Array:
        """Return ``x``, an array or a sequence, as this backend's array, without a copy where possible."""

    @abstractmethod
    def to_numpy(self, x: Array) -> Array:
        """Return ``x`` as a NumPy array."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until every computation issued so far has ended; needed around timings."""

    @abstractmethod
    def warmup(self, dtype: str) -> None:
        """Compile now what would otherwise be compiled on first use with arrays of ``dtype``."""

    # Convolution and pooling, of 1 to 3 spatial axes in the naive loops and of 2 in the kernels ---------

    @abstractmethod
    def im2col(self, x: Array, geometry: ConvGeometry) -> Array:
        """Return the columns (C HH WW, N H' W') of x (N, C, H, W): rows (c, hh, ww), columns (n, y, x)."""

    @abstractmethod
    def col2im(self, cols: Array, geometry: ConvGeometry) -> Array:
        """Return the sum of columns (C HH WW, N H' W') into images (N, C, H, W): the adjoint of im2col."""

    @abstractmethod
    def conv_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None = None
    ) -> Array:
        """Return out (N, F, H', W') of x (N, C, H, W), w (F, C, HH, WW), b (F,) or None for no bias."""

    @abstractmethod
    def conv_backward(
        self, dout: Array, x: Array, w: Array, geometry: ConvGeometry, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db) of conv_forward without activation; dx is None where ``input_grad`` is False."""

    @abstractmethod
    def max_pool_forward(self, x: Array, pool: PoolGeometry) -> tuple[Array, Array]:
        """Return (out, argmax) (N, C, H', W'); argmax holds the first maximum's place in the window, row by row."""

    @abstractmethod
    def max_pool_backward(self, dout: Array, argmax: Array, pool: PoolGeometry) -> Array:
        """Return dx (N, C, H, W): each gradient (N, C, H', W') goes to the pixel that was the maximum."""

    @abstractmethod
    def avg_pool_forward(self, x: Array, pool: PoolGeometry) -> Array:
        """Return the mean of each window (N, C, H', W') of x (N, C, H, W)."""

    @abstractmethod
    def avg_pool_backward(self, dout: Array, pool: PoolGeometry) -> Array:
        """Return dx (N, C, H, W): each gradient (N, C, H', W') in equal parts to the pixels of its window."""

    @abstractmethod
    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array | None, conv: ConvGeometry, pool: PoolGeometry
    ) -> tuple[Array, Array]:
        """Return (out, argmax) (N, F, H'', W'') of convolution, ReLU and max pooling in one."""

    @abstractmethod
    def conv_relu_pool_backward(
        self,
        dout: Array,
        out: Array,
        argmax: Array,
        x: Array,
        w: Array,
        conv: ConvGeometry,
        pool: PoolGeometry,
        input_grad: bool = True,
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db) of conv_relu_pool_forward, whose ``out`` and ``argmax`` are given."""

    # Affine layers, activations and dropout ---------------------------------------------------------

    @abstractmethod
    def relu_forward(self, x: Array) -> Array:
        """Return the positive part of x, of any shape."""

    @abstractmethod
    def relu_backward(self, dout: Array, x: Array) -> Array:
        """Return dout where x, or what became of it, is positive, else 0."""

    @abstractmethod
    def affine_forward(self, x: Array, w: Array, b: Array | None, activation: str | None = None) -> Array:
        """Return x w + b (N, M) of x (N, D), w (D, M), b (M,) or None for no bias."""

    @abstractmethod
    def affine_backward(
        self, dout: Array, x: Array, w: Array, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db) of affine_forward without activation; dx is None where ``input_grad`` is False."""

    @abstractmethod
    def dropout_forward(self, x: Array, keep: Array, p: float) -> tuple[Array, Array]:
        """Return (x * mask, mask) with mask = keep / p; ``keep`` is a NumPy array of bool."""

    # Normalisation ----------------------------------------------------------------------------------

    @abstractmethod
    def batchnorm_train(
        self, x: Array, gamma: Array, beta: Array, eps: float, activation: str | None = None
    ) -> tuple[Array, Array, Array]:
        """Return (out, mean, var) of x (N, C, P), mean and biased variance (C,) over N and P."""

    @abstractmethod
    def batchnorm_test(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        eps: float,
        activation: str | None = None,
    ) -> Array:
        """Return x (N, C, P) normalised with the given mean and variance (C,)."""

    @abstractmethod
    def batchnorm_backward(
        self,
        dout: Array,
        x: Array,
        gamma: Array,
        mean: Array,
        var: Array,
        eps: float,
        activation: str | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) of batchnorm_train; with an activation, ``out`` is what that returned."""

    @abstractmethod
    def groupnorm_forward(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Return (out, mean, var) of x (N, C, P), mean and variance (N, groups) over C/groups and P."""

    @abstractmethod
    def groupnorm_backward(
        self, dout: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) of groupnorm_forward."""

    # Losses -----------------------------------------------------------------------------------------

    @abstractmethod
    def softmax_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return (loss, dx): the mean cross entropy of scores x (N, C) and labels y (N,), N > 0."""

    @abstractmethod
    def cross_entropy(
        self,
        x: Array,
        y: Array,
        label_smoothing: float = 0.0,
        ignore_label: int | None = None,
        class_weights: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return (loss, dx) of scores x (N, C) and labels y (N,) or probabilities y (N, C), N > 0.

        With q_i the probabilities of sample i, those of a label 1 and 0, made (1 - s) q + s / C by the smoothing
        s, and w the class weights (C,), 1 without them: loss = -sum_i sum_c w_c q_ic log(softmax(x_i)_c) / total.
        The sum skips samples with the label ignore_label; total is the sum of the others' w[y_i], or N with
        probabilities. Where total is 0, so are loss and dx.
        """

    @abstractmethod
    def svm_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return (loss, dx): the mean multiclass hinge loss of scores x (N, C) and labels y (N,), N > 0."""

    # Training: sequences have an array a parameter -------------------------------------------------

    @abstractmethod
    def update(
        self,
        rule: UpdateRule,
        ws: Arrays,
        dws: Arrays,
        states: Sequence[Arrays],
        scalars: Sequence[float],
        constants: Sequence[float],
        outs: Arrays,
        new_states: Sequence[Arrays],
        control: StepControl | None = None,
    ) -> None:
        """Do one step of a rule: read ws, dws and states, write outs and new_states, which may be the same arrays.

        ``states`` and ``new_states`` have, for each state of the rule, an array like w for each parameter.
        """

    @abstractmethod
    def l2_penalty(self, loss: Array, weights: Arrays, grads: Arrays, reg: float) -> Array:
        """Return loss + 0.5 * reg * (sum of all squares), and add reg * w to each gradient in place."""

    @abstractmethod
    def clip_gradients(self, grads: Arrays, max_norm: float) -> list[Array]:
        """Return all gradients, of one dtype, times min(1, max_norm / the norm of all of them as one vector)."""

    @abstractmethod
    def gather_rows(self, x: Array, indices: Array) -> Array:
        """Return x[indices] for an integer array ``indices`` (M,) of either module, all in [0, len(x))."""

    @abstractmethod
    def augment(self, x: Array, draws: Array, cutout: int) -> Array:
        """Return changed copies of images x (N, C, H, W), from ``draws``, an int32 NumPy array (N, 5).

        Image i is surrounded by zeros, cut out at (draws[i, 0], draws[i, 1]), mirrored left to right where
        draws[i, 2], and gets zeros in the square of ``cutout`` pixels a side at (draws[i, 3], draws[i, 4]).
        """

    # Steps that are queued, or captured and replayed: counters and tables live where the arrays do -----

    @abstractmethod
    def record_loss(self, loss: Array, losses: Array, row: Array, stopped: Array) -> None:
        """Store a loss () in losses[row], float64 (steps,), and set stopped, int64 (), unless it is finite."""

    @abstractmethod
    def next_step(self, row: Array) -> None:
        """Add 1 to row, int64 ()."""

    @abstractmethod
    def gather_step_rows(self, x: Array, table: Array, row: Array) -> Array:
        """Return x[table[row]] for an int64 table (steps, M) and an int64 row ()."""

    @abstractmethod
    def augment_step(self, x: Array, table: Array, row: Array, cutout: int) -> Array:
        """Return images x (N, C, H, W) changed as ``augment`` does by table[row], of an int32 table (steps, N, 5)."""

    @abstractmethod
    def assign(self, outs: Arrays, values: Arrays, stopped: Array) -> None:
        """Copy each value into its out, of the same shape and any dtype, unless stopped, int64 (), is set."""

    @abstractmethod
    def upload(self, target: Array, values: Array) -> None:
        """Copy a NumPy array into ``target`` of its shape, an array here or a slice of one, and wait for nothing."""

    @abstractmethod
    def graph_recorder(self) -> Any:
        """Return a new object whose ``record(work)`` captures what work() queues; None where there are no graphs."""
