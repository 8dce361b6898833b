"""Bad input: the right class of error, and a text that names the argument, the rule and the value."""

import numpy as np
import pytest
from oracles import loops

from gconv.fast_layers import (
    avg_pool_backward_fast,
    avg_pool_forward_fast,
    conv_backward_fast,
    conv_backward_im2col,
    conv_backward_strides,
    conv_forward_fast,
    conv_forward_im2col,
    conv_forward_strides,
    max_pool_backward_fast,
    max_pool_backward_im2col,
    max_pool_backward_reshape,
    max_pool_forward_fast,
    max_pool_forward_im2col,
    max_pool_forward_reshape,
)
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward
from gconv.layers import (
    affine_backward,
    affine_forward,
    avg_pool_backward_naive,
    avg_pool_forward_naive,
    batchnorm_backward,
    batchnorm_forward,
    conv_backward_naive,
    conv_forward_naive,
    dropout_forward,
    layernorm_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    max_pool_backward_naive,
    max_pool_forward_naive,
    relu_backward,
    relu_forward,
    softmax_loss,
    spatial_batchnorm_forward,
    spatial_groupnorm_forward,
    svm_loss,
)
from gconv.optim import adam, sgd

X, W, B = np.ones((2, 3, 6, 5)), np.ones((4, 3, 3, 3)), np.ones(4)
CONV = {"stride": 1, "pad": 1}
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}
CONV_FORWARD = {
    "naive": conv_forward_naive,
    "fast": conv_forward_fast,
    "im2col": conv_forward_im2col,
    "strides": conv_forward_strides,
    "relu_pool": lambda x, w, b, p: conv_relu_pool_forward(x, w, b, p, POOL),
}
NAMES = {"relu_pool": "conv_relu_pool_forward"}


def on(backend, array):
    if type(array) is np.ndarray and array.dtype.kind not in "biufc" and backend.name == "gpu":
        pytest.skip("CuPy has no such arrays")
    return backend.asarray(array) if type(array) is np.ndarray else array


def place(backend, layer):
    """The loops take NumPy arrays alone."""
    return loops if "naive" in layer and backend.name == "gpu" else backend


BAD_CONV = [
    ("another number of channels", {"w": np.ones((4, 2, 3, 3))}, ValueError, r"w must have 3 channels to match x \(2, 3, 6, 5\); got w \(4, 2, 3, 3\)"),
    ("a filter too high", {"w": np.ones((4, 3, 9, 3))}, ValueError, "w must fit into the padded image 8x7; got filters 9x3"),
    ("a filter with too many columns", {"w": np.ones((4, 3, 1, 8))}, ValueError, "w must fit into the padded image 8x7; got filters 1x8"),
    ("a filter without pixels", {"w": np.ones((4, 3, 0, 3))}, ValueError, "w must have filters of at least 1x1"),
    ("a bias of another length", {"b": np.ones(3)}, ValueError, r"b must have shape \(4,\) to match w .*; got \(3,\)"),
    ("a bias column", {"b": np.ones((4, 1))}, ValueError, r"b must have shape \(4,\)"),
    ("a 3-D image", {"x": np.ones((3, 6, 5))}, ValueError, r"x must have 4 axes \(N, C, H, W\); got shape \(3, 6, 5\)"),
    ("3-D filters", {"w": np.ones((4, 3, 3))}, ValueError, r"w must have 4 axes \(F, C, HH, WW\)"),
    ("stride 0", {"p": {"stride": 0, "pad": 1}}, ValueError, r"conv_param\['stride'\] must be a positive integer; got 0"),
    ("a negative stride", {"p": {"stride": (1, -2), "pad": 1}}, ValueError, "must be a positive integer; got -2"),
    ("a fractional stride", {"p": {"stride": 1.5, "pad": 1}}, ValueError, "must be a positive integer; got 1.5"),
    ("a stride in words", {"p": {"stride": "2", "pad": 1}}, TypeError, "must be a positive integer; got '2'"),
    ("a stride of three numbers", {"p": {"stride": (1, 1, 1), "pad": 1}}, ValueError, r"\(vertical, horizontal\) pair; got \(1, 1, 1\)"),
    ("a huge stride", {"p": {"stride": 2**70, "pad": 1}}, ValueError, r"must be below 2\*\*31"),
    ("a true stride", {"p": {"stride": True, "pad": 1}}, TypeError, "must be a positive integer; got True"),
    ("a negative pad", {"p": {"stride": 1, "pad": -1}}, ValueError, r"conv_param\['pad'\] must be an integer of at least 0; got -1"),
    ("a fractional pad", {"p": {"stride": 1, "pad": 0.5}}, ValueError, "at least 0; got 0.5"),
    ("a NaN pad", {"p": {"stride": 1, "pad": float("nan")}}, ValueError, "at least 0; got nan"),
    ("no stride", {"p": {"pad": 1}}, ValueError, r"conv_param must have the key 'stride'; got the keys \['pad'\]"),
    ("no pad", {"p": {"stride": 1, "padding": 1}}, ValueError, "must have the key 'pad'"),
    ("no dictionary", {"p": None}, TypeError, "conv_param must be a dictionary; got NoneType"),
    ("strings", {"x": np.full(X.shape, "a")}, TypeError, "x must be float32, float64 or integer; got dtype <U1"),
    ("objects", {"w": W.astype(object)}, TypeError, "w must be float32, float64 or integer; got dtype object"),
    ("complex numbers", {"x": X.astype(complex)}, TypeError, "x must be float32, float64 or integer; got dtype complex128"),
    ("half precision", {"x": X.astype(np.float16)}, TypeError, "x must be float32, float64 or integer; got dtype float16"),
    ("dates", {"b": B.astype("M8[s]")}, TypeError, "b must be float32, float64 or integer"),
    ("integers alone", {"x": X.astype(int), "w": W.astype(int), "b": B.astype(int)}, TypeError, "x, w, b must have among them an array of float32 or float64; got int64, int64, int64"),
    ("a list", {"x": X.tolist()}, TypeError, "x must be a NumPy or CuPy array; got list"),
    ("nothing", {"w": None}, TypeError, "w must be a NumPy or CuPy array; got NoneType"),
    ("a misspelt key", {"p": {**CONV, "strid": 2}}, ValueError, "conv_param must have keys among stride, pad; got 'strid'"),
    ("a key of other libraries", {"p": {**CONV, "padding": 1, "ceil_mode": True}}, ValueError, "among stride, pad; got 'ceil_mode', 'padding'"),
    ("a masked array", {"x": np.ma.masked_array(X)}, TypeError, "x must be a NumPy or CuPy array; got MaskedArray"),
]  # fmt: skip


@pytest.mark.parametrize("method", CONV_FORWARD)
@pytest.mark.parametrize(("change", "error", "text"), [c[1:] for c in BAD_CONV], ids=[c[0] for c in BAD_CONV])
def test_convolution(backend, method, change, error, text):
    backend = place(backend, method)
    given = {"x": X, "w": W, "b": B, "p": CONV, **change}
    name = NAMES.get(method, f"conv_forward_{method}")
    with pytest.raises(error, match=f"^{name}: .*{text}"):
        CONV_FORWARD[method](*(on(backend, given[k]) for k in "xwbp"))


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (conv_forward_naive, conv_backward_naive),
        (conv_forward_fast, conv_backward_fast),
        (conv_forward_im2col, conv_backward_im2col),
        (conv_forward_strides, conv_backward_strides),
    ],
)
def test_gradients_of_another_shape(backend, forward, backward):
    backend = place(backend, forward.__name__)
    _, cache = forward(on(backend, X), on(backend, W), on(backend, B), CONV)
    for shape in ((2, 4, 6, 4), (1, 4, 6, 5), (2, 4, 30), (2, 3, 6, 5)):
        with pytest.raises(
            ValueError, match=rf"{backward.__name__}: dout must have shape \(2, 4, 6, 5\) of the output"
        ):
            backward(on(backend, np.ones(shape)), cache)
    with pytest.raises(TypeError, match=f"{backward.__name__}: dout must be float32"):
        backward(on(backend, np.ones((2, 4, 6, 5), complex)), cache)


POOLS = [
    (max_pool_forward_naive, max_pool_backward_naive),
    (max_pool_forward_fast, max_pool_backward_fast),
    (max_pool_forward_im2col, max_pool_backward_im2col),
    (max_pool_forward_reshape, max_pool_backward_reshape),
    (avg_pool_forward_naive, avg_pool_backward_naive),
    (avg_pool_forward_fast, avg_pool_backward_fast),
]
BAD_POOL = [
    ({"pool_height": 7}, ValueError, "the pooling window must fit into the image 6x5; got 7x2"),
    ({"pool_width": 0}, ValueError, r"pool_param\['pool_width'\] must be a positive integer; got 0"),
    ({"pool_width": 1.5}, ValueError, "must be a positive integer; got 1.5"),
    ({"stride": 0}, ValueError, r"pool_param\['stride'\] must be a positive integer; got 0"),
    ({"stride": (2, -1)}, ValueError, "must be a positive integer; got -1"),
    ({"stride": None}, TypeError, "must be a positive integer; got None"),
    ({"stride": KeyError}, ValueError, "pool_param must have the key 'stride'"),
    (
        {"ceil_mode": True},
        ValueError,
        "pool_param must have keys among pool_height, pool_width, stride; got 'ceil_mode'",
    ),
    ({"pad": 0}, ValueError, "got 'pad'"),
]


@pytest.mark.parametrize(("forward", "backward"), POOLS)
@pytest.mark.parametrize(("change", "error", "text"), BAD_POOL)
def test_pooling(backend, forward, backward, change, error, text):
    backend = place(backend, forward.__name__)
    pool_param = {k: v for k, v in {**POOL, **change}.items() if v is not KeyError}
    with pytest.raises(error, match=f"^{forward.__name__}: .*{text}"):
        forward(on(backend, X), pool_param)


@pytest.mark.parametrize(("forward", "backward"), POOLS)
def test_pooling_of_what_is_no_image(backend, forward, backward):
    backend = place(backend, forward.__name__)
    with pytest.raises(ValueError, match=r"x must have 4 axes"):
        forward(on(backend, X[0]), POOL)
    with pytest.raises(TypeError, match="x must be float32 or float64; got int64"):
        forward(on(backend, X.astype(np.int64)), POOL)
    _, cache = forward(on(backend, X), POOL)
    with pytest.raises(
        ValueError, match=rf"{backward.__name__}: dout must have shape \(2, 3, 3, 2\) of the output; got"
    ):
        backward(on(backend, X), cache)


def test_fused_gradient_of_another_shape(backend):
    _, cache = conv_relu_pool_forward(on(backend, X), on(backend, W), on(backend, B), CONV, POOL)
    with pytest.raises(ValueError, match=r"conv_relu_pool_backward: dout must have shape \(2, 4, 3, 2\)"):
        conv_relu_pool_backward(on(backend, X), cache)


@pytest.mark.parametrize("loss", [svm_loss, softmax_loss])
@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        (np.ones((3, 4)), np.array([0, 4, 1]), ValueError, r"y must hold labels in \[0, 4\); got the label 4"),
        (np.ones((3, 4)), np.array([0, -1, 1]), ValueError, r"y must hold labels in \[0, 4\); got the label -1"),
        (np.ones((3, 4)), np.array([0, 1]), ValueError, r"y must have shape \(3,\) to match x \(3, 4\); got \(2,\)"),
        (np.ones((3, 4)), np.zeros((3, 1), int), ValueError, r"y must have shape \(3,\)"),
        (np.ones((3, 4)), np.zeros(3), TypeError, "y must be integer class labels; got dtype float64"),
        (np.ones((3, 0)), np.zeros(3, int), ValueError, r"x must have at least one class; got shape \(3, 0\)"),
        (np.ones((0, 0)), np.zeros(0, int), ValueError, "x must have at least one class"),
        (np.ones(3), np.zeros(3, int), ValueError, r"x must have 2 axes \(N, C\)"),
        (np.ones((3, 4), int), np.zeros(3, int), TypeError, "x must be float32 or float64; got int64"),
        (np.ones((3, 4)), [0, 1, 2], TypeError, "y must be a NumPy or CuPy array; got list"),
        ([[0.5, 1.0]], np.zeros(1, int), TypeError, "x must be a NumPy or CuPy array; got list"),
    ],
)
def test_losses(backend, loss, x, y, error, text):
    if backend.name == "gpu" and "must hold labels" in text:
        # labels on a device are not read back: such a loss is no number
        assert np.isnan(float(loss(on(backend, x), on(backend, y))[0]))
        return
    with pytest.raises(error, match=f"^{loss.__name__}: {text}"):
        loss(on(backend, x), on(backend, y))


SCORES, LABELS = np.ones((3, 4)), np.array([0, 1, 7])


@pytest.mark.parametrize(
    ("y", "options", "error", "text"),
    [
        (LABELS, {"label_smoothing": 0.1}, ValueError, r"y must hold labels in \[0, 4\); got the label 7"),
        (LABELS, {"ignore_label": 0}, ValueError, r"y must hold labels in \[0, 4\); got the label 7"),
        (LABELS, {"ignore_label": 7.5}, ValueError, "ignore_label must be an integer; got 7.5"),
        (LABELS, {"ignore_label": "7"}, TypeError, "ignore_label must be an integer; got '7'"),
        (LABELS, {"label_smoothing": 1.5, "ignore_label": 7}, ValueError, r"label_smoothing must be a number in \[0, 1\]; got 1.5"),
        (LABELS, {"class_weights": [1, 2, 3], "ignore_label": 7}, ValueError, r"class_weights must have shape \(4,\) of one number a class; got \(3,\)"),
        (LABELS, {"class_weights": [1, 2, 3, -1], "ignore_label": 7}, ValueError, r"class_weights must be finite and not negative as float64; got \[1, 2, 3, -1\]"),
        (LABELS, {"class_weights": [1, 2, 3, np.nan], "ignore_label": 7}, ValueError, "class_weights must be finite"),
        (LABELS, {"class_weights": "abcd", "ignore_label": 7}, TypeError, "class_weights must be numbers; got dtype <U4"),
        (LABELS, {"class_weights": [[1], [2, 3]], "ignore_label": 7}, ValueError, r"class_weights must have shape \(4,\) of one number a class; got \[\[1\], \[2, 3\]\]"),
        (LABELS, {"label_smoothing": np.array([0.1, 0.2])}, TypeError, r"label_smoothing must be a number in \[0, 1\]; got an array of shape \(2,\), dtype float64"),
        (LABELS, {"label_smoothing": np.array([0.1])}, TypeError, "label_smoothing must be a number"),
        (LABELS, {"label_smoothing": np.complex128(0)}, TypeError, "label_smoothing must be a number"),
        (LABELS, {"label_smoothing": False}, TypeError, r"label_smoothing must be a number in \[0, 1\]; got False"),
        (np.zeros(3), {"label_smoothing": 0.1}, TypeError, "y must be integer class labels; got dtype float64"),
        (np.zeros((3, 5)), {}, ValueError, r"y must have shape \(3, 4\) of x, for probabilities; got \(3, 5\)"),
        (SCORES, {"ignore_label": 1}, ValueError, "ignore_label must be None, where y holds probabilities; got 1"),
        (SCORES.astype(np.float16), {}, TypeError, "y must be float32, float64 or integer; got dtype float16"),
        (np.zeros((3, 4), int), {}, ValueError, r"y must have shape \(3,\) to match x \(3, 4\)"),
    ],
)  # fmt: skip
def test_the_choices_of_the_softmax_loss(backend, y, options, error, text):
    if backend.name == "gpu" and "got the label" in text:
        assert np.isnan(float(softmax_loss(on(backend, SCORES), on(backend, y), **options)[0]))
        return
    with pytest.raises(error, match=f"^softmax_loss: {text}"):
        softmax_loss(on(backend, SCORES), on(backend, y), **options)


def test_class_weights_that_overflow_in_the_dtype_of_the_scores(backend):
    scores, y, options = SCORES.astype(np.float32), on(backend, LABELS[:0]), {"class_weights": [1e200, 1, 1, 1]}
    with pytest.raises(ValueError, match=r"^softmax_loss: class_weights must be finite and not negative as float32"):
        softmax_loss(on(backend, scores[:0]), y, **options)
    softmax_loss(on(backend, SCORES[:0]), y, **options)


G = np.ones(3)
NORM_32 = [array.astype(np.float32) for array in (np.ones((2, 3)), G, G)]
OTHERS = [
    (lambda a: affine_forward(a(X), a(np.ones((89, 4))), a(B)), ValueError, r"affine_forward: x must have 89 values a sample to match w \(89, 4\); got x \(2, 3, 6, 5\)"),
    (lambda a: affine_forward(a(X), a(W), a(B)), ValueError, r"affine_forward: w must have 2 axes \(D, M\)"),
    (lambda a: affine_forward(a(X), a(np.ones((90, 4))), a(G)), ValueError, r"affine_forward: b must have shape \(4,\)"),
    (lambda a: affine_backward(a(G), affine_forward(a(X), a(np.ones((90, 4))), a(B))[1]), ValueError, r"affine_backward: dout must have shape \(2, 4\)"),
    (lambda a: relu_forward("x"), TypeError, "relu_forward: x must be a NumPy or CuPy array; got str"),
    (lambda a: relu_backward(a(G), a(B)), ValueError, r"relu_backward: dout must have shape \(4,\)"),
    (lambda a: batchnorm_forward(a(X), a(G), a(G), {"mode": "train"}), ValueError, r"batchnorm_forward: x must have 2 axes \(N, D\)"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(B), {"mode": "train"}), ValueError, r"beta must have shape \(3,\)"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {}), ValueError, "bn_param must have the key 'mode'"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {"mode": "eval"}), ValueError, r"bn_param\['mode'\] must be one of 'train', 'test'; got 'eval'"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {"mode": "train", "eps": -1}), ValueError, r"bn_param\['eps'\] must be a number in \[0, inf\]; got -1"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {"mode": "train", "eps": 0}), ValueError, r"batchnorm_forward: bn_param\['eps'\] must be above 0, .*; got 0"),
    (lambda a: batchnorm_forward(*map(a, NORM_32), {"mode": "train", "eps": 1e-60}), ValueError, r"batchnorm_forward: bn_param\['eps'\] must be above 0 and finite as float32; got 1e-60, 0.0 there"),
    (lambda a: layernorm_forward(*map(a, NORM_32), {"eps": 1e-46}), ValueError, r"layernorm_forward: ln_param\['eps'\] must be above 0 and finite as float32"),
    (lambda a: layernorm_forward(*map(a, NORM_32), {"eps": 1e39}), ValueError, r"layernorm_forward: ln_param\['eps'\] must be .*; got 1e\+39, inf there"),
    (lambda a: layernorm_forward(a(np.ones((2, 3))), a(G), a(G), {"eps": 0.0}), ValueError, r"layernorm_forward: ln_param\['eps'\] must be above 0"),
    (lambda a: spatial_groupnorm_forward(a(X), a(G), a(G), 1, {"eps": float("inf")}), ValueError, r"spatial_groupnorm_forward: gn_param\['eps'\] must be a number in \[0, inf\]; got inf"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {"mode": "train", "epsilon": 1}), ValueError, "bn_param must have keys among mode, eps, momentum, running_mean, running_var; got 'epsilon'"),
    (lambda a: layernorm_forward(a(np.ones((2, 3))), a(G), a(G), {"epsilon": 1}), ValueError, "ln_param must have keys among mode, eps, .*; got 'epsilon'"),
    (lambda a: spatial_groupnorm_forward(a(X), a(G), a(G), 1, {"G": 1}), ValueError, "gn_param must have keys among mode, eps, .*; got 'G'"),
    (lambda a: dropout_forward(a(G), {"mode": "test", "p": 1, "rate": 0.5}), ValueError, "dropout_param must have keys among mode, p, seed; got 'rate'"),
    (lambda a: leaky_relu_forward(a(G), {"slope": 0.1}), ValueError, "leaky_relu_forward: lrelu_param must have keys among alpha; got 'slope'"),
    (lambda a: leaky_relu_forward(a(G), {"alpha": "0.1"}), TypeError, r"lrelu_param\['alpha'\] must be a number"),
    (lambda a: leaky_relu_forward(a(G), 0.1), TypeError, "lrelu_param must be a dictionary; got float"),
    (lambda a: leaky_relu_backward(a(G), (a(B), {})), ValueError, r"leaky_relu_backward: dout must have shape \(4,\)"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {"mode": "train", "momentum": 1.1}), ValueError, r"bn_param\['momentum'\] must be a number in \[0, 1\]"),
    (lambda a: batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {"mode": "test", "running_mean": a(B)}), ValueError, r"bn_param\['running_mean'\] must have shape \(3,\)"),
    (lambda a: batchnorm_backward(a(B), batchnorm_forward(a(np.ones((2, 3))), a(G), a(G), {"mode": "train"})[1]), ValueError, "batchnorm_backward: dout must have shape"),
    (lambda a: spatial_batchnorm_forward(a(G), a(G), a(G), {"mode": "train"}), ValueError, "spatial_batchnorm_forward: x must have 4 axes"),
    (lambda a: layernorm_forward(a(np.ones((2, 3))), a(B), a(G), {}), ValueError, r"layernorm_forward: gamma must have shape \(3,\)"),
    (lambda a: layernorm_forward(a(np.ones((2, 3))), a(G), a(G), None), TypeError, "ln_param must be a dictionary"),
    (lambda a: spatial_groupnorm_forward(a(X), a(G), a(G), 2, {}), ValueError, "G must divide the 3 channels of x; got 2"),
    (lambda a: spatial_groupnorm_forward(a(X), a(G), a(G), 0, {}), ValueError, "G must be a positive integer; got 0"),
    (lambda a: dropout_forward(a(G), {"mode": "train"}), ValueError, "dropout_param must have the key 'p'"),
    (lambda a: dropout_forward(a(G), {"mode": "train", "p": 0}), ValueError, "must be above 0"),
    (lambda a: dropout_forward(a(G), {"mode": "train", "p": 1.5}), ValueError, r"must be a number in \[0, 1\]; got 1.5"),
    (lambda a: dropout_forward(a(G), {"mode": "play", "p": 1}), ValueError, "must be one of 'train', 'test'"),
    (lambda a: sgd(a(G), a(B)), ValueError, r"sgd: dw must have shape \(3,\) of w; got \(4,\)"),
    (lambda a: sgd(a(G), a(G), {"lr": 1}), ValueError, "sgd: config must have keys among learning_rate, .*; got 'lr'"),
    (lambda a: sgd(a(G), a(G), {"learning_rate": "fast"}), TypeError, r"config\['learning_rate'\] must be a number"),
    (lambda a: sgd(a(G), a(G), {"learning_rate": float("nan")}), ValueError, r"config\['learning_rate'\] must be a number"),
    (lambda a: sgd(a(G), a(G), out=a(G.astype(np.float32))), TypeError, "out must have the dtype of w, float64; got float32"),
    (lambda a: adam(a(G), a(G), {"beta1": 1}), ValueError, r"config\['beta1'\] must be a number"),
    (lambda a: adam(a(G), a(G), {"m": a(B)}), ValueError, r"config\['m'\] must have shape \(3,\)"),
    (lambda a: adam(a(G.astype(int)), a(G)), TypeError, "w must be float32 or float64; got int64"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), OTHERS, ids=[c[2][:40] for c in OTHERS])
def test_other_layers(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(backend.asarray)
