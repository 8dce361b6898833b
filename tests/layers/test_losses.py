"""Losses: known values, numeric gradients, the loops, PyTorch, and the choices of the softmax loss."""

import math

import numpy as np
import pytest
from conftest import assert_close
from oracles import loops

from gconv.gradient_check import eval_numerical_gradient, rel_error
from gconv.layers import softmax_loss, svm_loss


@pytest.mark.parametrize("loss_function", [svm_loss, softmax_loss])
def test_losses_against_numeric_gradients(backend, rng, loss_function):
    x = backend.asarray(rng.standard_normal((13, 5)))
    y = backend.asarray(rng.integers(5, size=13))
    _, dx = loss_function(x, y)
    numeric = eval_numerical_gradient(lambda x: loss_function(x, y)[0], x, verbose=False)
    assert rel_error(numeric, dx) < 1e-6


@pytest.mark.parametrize("name", ["svm_loss", "softmax_loss"])
def test_losses_against_the_loops(backend, rng, dtype, name):
    for n, classes in ((1, 1), (7, 1), (1, 9), (23, 6)):
        x, y = rng.standard_normal((n, classes)) * 4, rng.integers(classes, size=n)
        x = x.astype(dtype)
        loss, dx = globals()[name](backend.asarray(x), backend.asarray(y))
        expected, expected_dx = getattr(loops, name)(x.astype(np.float64), y)
        assert float(loss) == pytest.approx(float(expected), rel=1e-5 if dtype == np.float32 else 1e-12, abs=1e-6)
        assert_close(dx, expected_dx, classes)


@pytest.mark.parametrize("labels", [np.int64, np.int32, np.uint8])
def test_losses_have_their_known_value_at_equal_scores(backend, dtype, labels):
    x, y = backend.asarray(np.zeros((8, 10), dtype)), backend.asarray(np.arange(8).astype(labels))
    for loss_function, value in ((svm_loss, 9), (softmax_loss, math.log(10))):
        loss, dx = loss_function(x, y)
        assert float(loss) == pytest.approx(value, rel=1e-6)
        assert dx.dtype == dtype
        assert loss.dtype == dtype


def test_softmax_survives_scores_that_overflow_exp(backend):
    x = backend.asarray(np.array([[1000.0, 0.0], [-1000.0, 0.0]]))
    loss, dx = softmax_loss(x, backend.asarray(np.array([1, 0])))
    assert float(loss) == pytest.approx(1000)
    assert np.isfinite(backend.to_numpy(dx)).all()


def test_losses_of_an_empty_batch_are_zero(backend):
    for loss_function in (svm_loss, softmax_loss):
        loss, dx = loss_function(backend.asarray(np.zeros((0, 3))), backend.asarray(np.zeros(0, np.int64)))
        assert float(loss) == 0
        assert dx.shape == (0, 3)


def course_softmax(x, y):
    """Return the loss and its gradient in the order of operations of the course's notebooks."""
    shifted = x - np.max(x, axis=1, keepdims=True)
    log_probs = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    loss = -np.sum(log_probs[np.arange(len(x)), y]) / len(x)
    dx = np.exp(log_probs)
    dx[np.arange(len(x)), y] -= 1
    return loss, dx / len(x)


def course_svm(x, y):
    """The same for the hinge loss."""
    rows = np.arange(len(x))
    margins = np.maximum(0, x - x[rows, y][:, np.newaxis] + 1.0)
    margins[rows, y] = 0
    dx = np.zeros_like(x)
    dx[margins > 0] = 1
    dx[rows, y] -= np.sum(margins > 0, axis=1)
    return np.sum(margins) / len(x), dx / len(x)


@pytest.mark.parametrize(("ours", "theirs"), [(softmax_loss, course_softmax), (svm_loss, course_svm)])
def test_float64_losses_round_as_the_course_does(backend, rng, ours, theirs):
    if backend.name != "cpu":
        pytest.skip("the loops and the device add up in an order of their own")
    for n, classes in ((2, 10), (50, 10), (7, 3)):
        x, y = rng.standard_normal((n, classes)), rng.integers(classes, size=n)
        (loss, dx), (expected, expected_dx) = ours(x, y), theirs(x, y)
        assert loss == expected
        np.testing.assert_array_equal(dx, expected_dx)


CHOICES = {
    "smoothed": {"label_smoothing": 0.1},
    "all smoothed": {"label_smoothing": 1.0},
    "ignored": {"ignore_label": -100},
    "a class ignored": {"ignore_label": 2},
    "weighted": {"class_weights": [0.5, 2.0, 0.0, 1.0, 3.0]},
    "all": {"label_smoothing": 0.2, "ignore_label": 255, "class_weights": [0.5, 2.0, 0.25, 1.0, 3.0]},
}
PROBABILITIES = [{}, {"label_smoothing": 0.3}, {"class_weights": [0.5, 2.0, 0.0, 1.0, 3.0]}]


def choice(rng, options, dtype, n=13, classes=5):
    """Return scores and labels, some of them ignored where the options say so; probabilities without a name."""
    x, y = (rng.standard_normal((n, classes)) * 3).astype(dtype), rng.integers(classes, size=n)
    if "ignore_label" in options:
        y[::4] = options["ignore_label"]
    return x, y


def definition(x, y, label_smoothing=0.0, ignore_label=None, class_weights=None):
    """Return loss and gradient in float64, sample by sample, from the formula of the docstring."""
    x = x.astype(np.float64)
    classes = x.shape[1]
    weights = np.ones(classes) if class_weights is None else np.array(class_weights, np.float64)
    loss, total, dx = 0.0, 0.0, np.zeros_like(x)
    for i, row in enumerate(x):
        if y.ndim == 1 and y[i] == ignore_label:
            continue
        aim = y[i].astype(np.float64) if y.ndim == 2 else np.eye(classes)[y[i]]
        aim = weights * ((1 - label_smoothing) * aim + label_smoothing / classes)
        log_probabilities = row - np.logaddexp.reduce(row)
        loss -= aim @ log_probabilities
        dx[i] = aim.sum() * np.exp(log_probabilities) - aim
        total += 1 if y.ndim == 2 else weights[y[i]]
    return loss / total, dx / total


@pytest.mark.parametrize("options", CHOICES.values(), ids=CHOICES)
def test_choices_of_what_to_aim_at(backend, rng, dtype, options):
    x, y = choice(rng, options, dtype)
    loss, dx = softmax_loss(backend.asarray(x), backend.asarray(y), **options)
    expected, expected_dx = definition(x, y, **options)
    assert loss.dtype == dx.dtype == dtype
    assert_close(backend.xp.asarray(loss), expected, 13)
    assert_close(dx, expected_dx, 5)


@pytest.mark.parametrize("options", PROBABILITIES, ids=str)
def test_probabilities_instead_of_labels(backend, rng, dtype, options):
    x, _ = choice(rng, {}, dtype)
    y = rng.dirichlet(np.ones(5), 13).astype(np.float32)
    loss, dx = softmax_loss(backend.asarray(x), backend.asarray(y), **options)
    expected, expected_dx = definition(x, y, **options)
    assert loss.dtype == dx.dtype == dtype
    assert_close(backend.xp.asarray(loss), expected, 13)
    assert_close(dx, expected_dx, 5)


def test_the_choices_have_the_gradients_that_differences_have(backend, rng):
    options = CHOICES["all"]
    x, y = choice(rng, options, np.float64, n=5)
    x, y = backend.asarray(x), backend.asarray(y)
    _, dx = softmax_loss(x, y, **options)
    numeric = eval_numerical_gradient(lambda x: softmax_loss(x, y, **options)[0], x, verbose=False)
    assert rel_error(numeric, dx) < 1e-6


def test_without_a_choice_labels_are_the_probabilities_1_and_0(backend, rng):
    x, y = choice(rng, {}, np.float64)
    plain, plain_dx = softmax_loss(backend.asarray(x), backend.asarray(y))
    for aim, options in ((np.eye(5)[y], {}), (y, {"class_weights": np.ones(5)}), (y, {"ignore_label": 9})):
        if "class_weights" in options:
            options = {"class_weights": backend.asarray(options["class_weights"])}
        loss, dx = softmax_loss(backend.asarray(x), backend.asarray(aim), **options)
        assert_close(backend.xp.asarray(loss), float(plain))
        assert_close(dx, backend.to_numpy(plain_dx))


def test_nothing_to_learn_from_is_a_loss_of_zero(backend, rng):
    x = backend.asarray(rng.standard_normal((3, 4)))
    y = backend.asarray(np.full(3, 2))
    for options in ({"ignore_label": 2}, {"class_weights": [1, 1, 0, 1]}):
        loss, dx = softmax_loss(x, y, **options)
        assert float(loss) == 0
        assert not backend.to_numpy(dx).any()
    loss, dx = softmax_loss(x[:0], y[:0], label_smoothing=0.1)
    assert (float(loss), dx.shape) == (0, (0, 4))


def test_scores_of_minus_infinity_rule_a_class_out(backend):
    x = backend.asarray(np.array([[0.0, -np.inf, 0.0], [np.nan, 0.0, 0.0]]))
    loss, dx = softmax_loss(x, backend.asarray(np.array([0, 7])), ignore_label=7)
    assert float(loss) == pytest.approx(math.log(2))
    np.testing.assert_allclose(backend.to_numpy(dx), [[-0.5, 0, 0.5], [0, 0, 0]])


# Rows of scores, and whether each is NaN in PyTorch's loss too, where its label weighs 0.
NOT_FINITE = {
    "nan at the label": ([np.nan, 0, 1], True),
    "nan elsewhere": ([0, np.nan, 1], True),
    "inf at the label": ([np.inf, 0, 1], True),
    "inf elsewhere": ([0, 1, np.inf], True),
    "-inf at the label": ([-np.inf, 0, 1], False),
    "-inf elsewhere": ([0, -np.inf, 1], False),
    "-inf everywhere": ([-np.inf] * 3, True),
}


@pytest.mark.parametrize(("row", "reaches"), NOT_FINITE.values(), ids=NOT_FINITE)
def test_nan_reaches_the_loss_of_a_sample_that_weighs_nothing_and_not_of_an_ignored_one(backend, dtype, row, reaches):
    x = np.array([row, [0, 1, 2]], dtype)
    last_loss, last_dx = definition(x[1:], np.array([1]))
    for scores in (x, x[:1]):  # and where the weights' sum is 0
        labels = backend.asarray(np.array([0, 1])[: len(scores)])
        loss, dx = softmax_loss(backend.asarray(scores), labels, class_weights=[0, 1, 1])
        dx = backend.to_numpy(dx)
        assert np.isnan(float(loss)) == reaches
        assert np.isnan(dx[0]).all() == reaches
        assert reaches or (not dx[0].any() and float(loss) == pytest.approx(last_loss * (len(scores) - 1), rel=1e-6))
    loss, dx = softmax_loss(backend.asarray(x), backend.asarray(np.array([7, 1])), ignore_label=7)
    assert float(loss) == pytest.approx(last_loss, rel=1e-6)
    np.testing.assert_allclose(backend.to_numpy(dx), [[0, 0, 0], *last_dx], rtol=1e-6)


def test_a_loss_of_zero_has_no_sign(backend):
    x, y = backend.asarray(np.zeros((2, 1))), backend.asarray(np.zeros(2, np.int64))
    for options in ({"label_smoothing": 0.1}, {"ignore_label": 0}, {"class_weights": [0.0]}):
        assert str(float(softmax_loss(x, y, **options)[0])) == "0.0"


@pytest.mark.peers
@pytest.mark.parametrize("options", [*CHOICES.values(), *PROBABILITIES], ids=str)
def test_choices_against_pytorch(backend, rng, options):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gconv[peers]'")
    x, y = choice(rng, options, np.float64)
    if options in PROBABILITIES:
        y = rng.dirichlet(np.ones(5), 13)
    names = {"label_smoothing": "label_smoothing", "ignore_label": "ignore_index", "class_weights": "weight"}
    theirs = {names[name]: value for name, value in options.items()}
    if "weight" in theirs:
        theirs["weight"] = torch.tensor(theirs["weight"], dtype=torch.float64)
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(y), **theirs)
    expected.backward()
    loss, dx = softmax_loss(backend.asarray(x), backend.asarray(y), **options)
    assert_close(backend.xp.asarray(loss), expected.item())
    assert_close(dx, leaf.grad.numpy())
