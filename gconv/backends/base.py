"""The interface of a backend: what it is given, and what it returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gconv._typing import Array, Sizes
from gconv.geometry import ConvGeometry, PoolGeometry

Arrays = Sequence[Array]

__all__ = ["Backend", "BackendUnavailableError", "adam_scalars", "argmax_dtype"]


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for can't run here; the message says why and what mends it."""


def argmax_dtype(window: Sizes) -> str:
    """Return the dtype that holds a place inside a pooling window: a byte, unless the window is large."""
    return "uint8" if math.prod(window) <= 256 else "int32"


def adam_scalars(
    t: int, learning_rate: float, beta1: float, beta2: float, weight_decay: float
) -> tuple[float, float, float]:
    """Return what of Adam's step number ``t`` depends on t or the rate: a backend may keep these on its device.

    learning_rate / (1 - beta1^t), 1 / (1 - beta2^t), learning_rate * weight_decay.
    """
    return learning_rate / (1 - beta1**t), 1 / (1 - beta2**t), learning_rate * weight_decay


class Backend(ABC):
    """What NumPy and CuPy do not share; everything else a layer takes from ``xp``.

    Every method gets arrays of one floating dtype whose shapes have been checked, in any memory layout,
    and returns new C-contiguous arrays of that dtype. None writes to its inputs, except the optimiser
    steps to their state and ``out``. A geometry holds all sizes of a convolution or pooling, worked out
    and checked; an ``activation`` is the name of one that the result ends with.

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
        """Return the columns (C*HH*WW, N*H'*W') of x (N, C, H, W): rows (c, hh, ww), columns (n, y, x)."""

    @abstractmethod
    def col2im(self, cols: Array, geometry: ConvGeometry) -> Array:
        """Return the sum of columns (C*HH*WW, N*H'*W') into images (N, C, H, W): the adjoint of im2col."""

    @abstractmethod
    def conv_forward(
        self, x: Array, w: Array, b: Array, geometry: ConvGeometry, activation: str | None = None
    ) -> Array:
        """Return out (N, F, H', W') of x (N, C, H, W), w (F, C, HH, WW), b (F,)."""

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
    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array, conv: ConvGeometry, pool: PoolGeometry
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
    def affine_forward(self, x: Array, w: Array, b: Array, activation: str | None = None) -> Array:
        """Return x w + b (N, M) of x (N, D), w (D, M), b (M,)."""

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
    def svm_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return (loss, dx): the mean multiclass hinge loss of scores x (N, C) and labels y (N,), N > 0."""

    # Training: sequences of arrays, one per parameter. The new w goes to its `out`, which may be w itself; state
    # arrays change in place --------------------------------------------------------------------------

    @abstractmethod
    def sgd_step(self, ws: Arrays, dws: Arrays, learning_rate: float, outs: Arrays) -> None:
        """Write w - learning_rate * dw to ``out``."""

    @abstractmethod
    def momentum_step(
        self,
        ws: Arrays,
        dws: Arrays,
        velocities: Arrays,
        learning_rate: float,
        momentum: float,
        nesterov: bool,
        outs: Arrays,
    ) -> None:
        """Set v = momentum * v - learning_rate * dw; write w + v to ``out``, or with Nesterov's look-ahead."""

    @abstractmethod
    def rmsprop_step(
        self,
        ws: Arrays,
        dws: Arrays,
        caches: Arrays,
        learning_rate: float,
        decay_rate: float,
        epsilon: float,
        outs: Arrays,
    ) -> None:
        """Set cache = decay * cache + (1 - decay) dw^2; write w - rate * dw / (sqrt(cache) + epsilon) to ``out``."""

    @abstractmethod
    def adam_step(
        self,
        ws: Arrays,
        dws: Arrays,
        ms: Arrays,
        vs: Arrays,
        t: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        outs: Arrays,
    ) -> None:
        """Do step number ``t`` >= 1 of Adam with bias correction; ``weight_decay`` is AdamW's, decoupled."""

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
