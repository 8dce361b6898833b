"""Numerical gradients: right on float64, a warning on float32, the array restored whatever happens."""

import re

import numpy as np
import pytest

from gconv.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array, grad_check_sparse, rel_error


def test_scalar_function(backend, rng, capsys):
    x = backend.asarray(rng.standard_normal((3, 4)))
    before = backend.to_numpy(x).copy()
    grad = eval_numerical_gradient(lambda x: (x**3).sum(), x)
    assert rel_error(grad, 3 * x**2) < 1e-8
    np.testing.assert_array_equal(backend.to_numpy(x), before)
    assert len(capsys.readouterr().out.splitlines()) == 12
    eval_numerical_gradient(lambda x: x.sum(), x, verbose=False)
    assert not capsys.readouterr().out


def test_array_function_that_returns_its_argument(backend, rng):
    x, df = (backend.asarray(rng.standard_normal((2, 5))) for _ in range(2))
    grad = eval_numerical_gradient_array(lambda x: x, x, df)
    assert rel_error(grad, df) < 1e-9


def test_float32_with_the_default_step_warns_and_the_advice_works(backend, rng):
    x = backend.asarray(rng.standard_normal((3, 3)).astype(np.float32))
    with pytest.warns(
        RuntimeWarning, match=r"float32 and h is 1e-05: rounding alone .* about 1% .* float64 arrays, or h=1e-2"
    ):
        eval_numerical_gradient_array(lambda x: x * x, x, backend.asarray(np.ones((3, 3), np.float32)))
    with pytest.warns(RuntimeWarning, match="float32"):
        eval_numerical_gradient(lambda x: (x * x).sum(), x, verbose=False)
    grad = eval_numerical_gradient_array(lambda x: x * x, x, backend.asarray(np.ones((3, 3), np.float32)), h=1e-2)
    assert float(backend.xp.abs(grad - 2 * x).max()) < 1e-3


def test_sparse_check_prints_and_finds_a_wrong_gradient(backend, rng, capsys):
    x = backend.asarray(rng.standard_normal((4, 4)) + 3)
    assert grad_check_sparse(lambda x: (x * x).sum(), x, 2 * x, num_checks=5) < 1e-8
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(r"numerical: \S+ analytic: \S+, relative error: \S+e-\d+", line) for line in lines)
    assert grad_check_sparse(lambda x: (x * x).sum(), x, 2.2 * x) > 0.04


def test_the_array_is_restored_when_the_function_raises(backend):
    x = backend.asarray(np.array([1.0, 2.0]))

    def fails(x):
        raise KeyError("no")

    with pytest.raises(KeyError):
        eval_numerical_gradient(fails, x)
    assert backend.to_numpy(x).tolist() == [1, 2]


def test_bad_arguments(backend):
    x = backend.asarray(np.ones(2))
    with pytest.raises(TypeError, match="x must be float32 or float64; got int64"):
        eval_numerical_gradient(lambda x: 0.0, backend.asarray(np.arange(2)))
    with pytest.raises(ValueError, match="h must be positive"):
        eval_numerical_gradient(lambda x: 0.0, x, h=0)
    with pytest.raises(ValueError, match=r"df must have shape \(2,\)"):
        eval_numerical_gradient_array(lambda x: x, x, backend.asarray(np.ones(3)))


def test_a_read_only_array_is_refused():
    x = np.ones(2)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="must be writable"):
        eval_numerical_gradient(lambda x: 0.0, x)


def test_rel_error_of_numbers_and_empty_arrays():
    assert rel_error(1.0, 3.0) == pytest.approx(0.5)
    assert rel_error(np.float64(0), 0.0) == 0
    assert rel_error(np.zeros(0), np.zeros(0)) == 0


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (lambda x: x[:1], ValueError, r"f\(x\) must return one number; got shape \(1,\)"),
        (lambda x: [0.5], TypeError, r"f\(x\) must return a real number; got list"),
        (lambda x: None, TypeError, r"f\(x\) must return a real number; got NoneType"),
        (lambda x: (0.5, {}), TypeError, r"f\(x\) must return a real number; got tuple"),
    ],
)
def test_a_function_that_returns_no_number_is_named(backend, answer, error, text):
    x = backend.asarray(np.ones(3))
    with pytest.raises(error, match=f"^eval_numerical_gradient: {text}"):
        eval_numerical_gradient(answer, x, verbose=False)
    with pytest.raises(error, match=f"^grad_check_sparse: {text}"):
        grad_check_sparse(answer, x, x)
    assert backend.to_numpy(x).tolist() == [1, 1, 1]
