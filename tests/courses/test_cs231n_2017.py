"""CS231n of 2016 and 2017, where p is the probability to drop; TUM's course of 2018."""

import numpy as np
import pytest
from gconv.courses.cs231n_2017.classifiers.neural_net import TwoLayerNet as NetOf2017
from gconv.courses.cs231n_2017.fast_layers import *  # noqa: F403
from gconv.courses.cs231n_2017.solver import Solver

import gconv
from gconv.courses.cs231n_2016.classifiers.neural_net import TwoLayerNet as NetOf2016
from gconv.courses.cs231n_2017.classifiers.cnn import *  # noqa: F403
from gconv.courses.cs231n_2017.classifiers.fc_net import *  # noqa: F403
from gconv.data_utils import make_synthetic_data

SIZES = {"input_dim": 15, "num_classes": 10, "weight_scale": 5e-2, "dtype": np.float64}


def two_samples():
    np.random.seed(231)
    return np.random.randn(2, 15), np.random.randint(10, size=2)


def test_the_losses_with_batch_normalisation():
    X, y = two_samples()
    for reg, printed in ((0, 2.26119551), (3.14, 6.99653322)):
        model = FullyConnectedNet([20, 30], reg=reg, use_batchnorm=True, **SIZES)  # noqa: F405
        assert float(model.loss(X, y)[0]) == pytest.approx(printed, abs=1e-8)


def test_the_losses_of_the_dropout_notebook():
    """A quarter dropped is three quarters kept: the figures of the later notebooks."""
    X, y = two_samples()
    for dropout, printed in ((0, 2.300479089768492), (0.25, 2.302371489704412)):
        model = FullyConnectedNet([20, 30], dropout=dropout, seed=123, **SIZES)  # noqa: F405
        assert float(model.loss(X, y)[0]) == pytest.approx(printed, rel=1e-9)
        assert not dropout or model.dropout_param["p"] == dropout


def test_p_is_the_probability_to_drop():
    np.random.seed(231)
    x = np.random.randn(500, 500) + 10
    for p in (0.3, 0.6, 0.75):
        out, _ = dropout_forward(x, {"mode": "train", "p": p})  # noqa: F405
        assert float((out == 0).mean()) == pytest.approx(p, abs=3e-3)
        assert float(out.mean()) == pytest.approx(10, abs=0.1)
        out, _ = dropout_forward(x, {"mode": "test", "p": p})  # noqa: F405
        assert (out == x).all()
    param = {"mode": "train", "p": 0.8, "seed": 123}
    out, cache = dropout_forward(x, param)  # noqa: F405
    back, shown = (a for a in (dropout_backward(out, cache), out))  # noqa: F405
    np.testing.assert_allclose(back, shown / (1 - 0.8))
    assert param == {"mode": "train", "p": 0.8, "seed": 123}
    with pytest.raises(ValueError, match=r"dropout_forward: dropout_param\['p'\] must be below 1"):
        dropout_forward(x, {"mode": "train", "p": 1})  # noqa: F405


def test_loss_options_are_gconv_s():
    model = FullyConnectedNet([5], 4, 3, use_batchnorm=True, loss_options={"ignore_label": 9})  # noqa: F405
    assert float(model.loss(np.ones((2, 4)), np.array([9, 9]))[0]) == 0


def test_what_the_network_refuses():
    with pytest.raises(
        ValueError, match=r"FullyConnectedNet: dropout must be below 1, it is the share that is dropped"
    ):
        FullyConnectedNet([4], dropout=1)  # noqa: F405
    with pytest.raises(ValueError, match=r"got normalization\. .*gconv.classifiers.fc_net"):
        FullyConnectedNet([4], normalization="batchnorm")  # noqa: F405


def test_a_training_with_both():
    model = FullyConnectedNet([20], 192, 4, dropout=0.25, use_batchnorm=True)  # noqa: F405
    np.random.seed(0)
    solver = Solver(model, make_synthetic_data(), update_rule="adam", num_epochs=3, verbose=False)
    solver.train()
    assert solver.best_val_acc > 0.8


def test_a_star_import_brings_this_year_s_dropout():
    from gconv.courses.cs231n_2017 import layers
    from gconv.courses.cs231n_2017.classifiers import cnn, fc_net

    names = {}
    exec("from gconv.courses.cs231n_2017.classifiers.fc_net import *", names)
    assert names["dropout_forward"] is layers.dropout_forward is not gconv.layers.dropout_forward
    assert cnn.dropout_forward is layers.dropout_forward
    assert fc_net.affine_forward is gconv.layers.affine_forward
    exec("from gconv.courses.cs231n_2016.classifiers.fc_net import *", names)
    assert names["FullyConnectedNet"] is FullyConnectedNet  # noqa: F405


@pytest.mark.parametrize(("cls", "reg"), [(NetOf2016, 0.1), (NetOf2017, 0.05)])
def test_the_penalty_of_assignment_1(cls, reg):
    """2016 and 2017 print the same loss for strengths of which one is twice the other."""
    np.random.seed(0)
    net = cls(4, 10, 3, std=1e-1)
    np.random.seed(1)
    X, y = 10 * np.random.randn(5, 4), np.array([0, 1, 2, 2, 1])
    assert float(net.loss(X, y, reg=reg)[0]) == pytest.approx(1.30378789133, abs=1e-11)
