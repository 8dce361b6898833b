"""Berkeley's CS182: the calls of its first homework."""

import numpy as np
import pytest
from gconv.courses.berkeley.classifiers.cnn import *  # noqa: F403
from gconv.courses.berkeley.classifiers.fc_net import *  # noqa: F403
from gconv.courses.berkeley.fast_layers import conv_forward_fast
from gconv.courses.berkeley.layer_utils import conv_relu_pool_forward
from gconv.courses.berkeley.optim import adam, rmsprop, sgd_momentum

from gconv.courses.berkeley.solver import Solver
from gconv.data_utils import make_synthetic_data


@pytest.mark.parametrize("name", ["optimizer_experiment_sgd", "with.npz"])
def test_a_solver_writes_its_histories(tmp_path, name):
    np.random.seed(0)
    model = FullyConnectedNet([10], 192, 4, dropout=0.25, use_batchnorm=True, weight_scale=5e-2)  # noqa: F405
    solver = Solver(
        *(model, make_synthetic_data()),
        num_epochs=2,
        batch_size=50,
        update_rule="sgd_momentum",
        optim_config={"learning_rate": 1e-2},
        verbose=False,
    )
    solver.train()
    solver.record_histories_as_npz(tmp_path / "submission_logs" / name)
    (path,) = (tmp_path / "submission_logs").iterdir()
    assert path.name == name.removesuffix(".npz") + ".npz"
    with np.load(path) as saved:
        assert sorted(saved) == ["train_accs", "train_losses", "val_accs"]
        np.testing.assert_array_equal(saved["train_losses"], np.array(solver.loss_history, float))
        np.testing.assert_array_equal(saved["val_accs"], solver.val_acc_history)
        np.testing.assert_array_equal(saved["train_accs"], solver.train_acc_history)


def test_the_modules_are_those_of_2017():
    from gconv.courses.cs231n_2017 import layers

    assert dropout_forward is layers.dropout_forward  # noqa: F405
    assert FullyConnectedNet([4], dropout=0.25).dropout_param == {"mode": "train", "p": 0.25}  # noqa: F405
    assert {rule.__module__ for rule in (adam, rmsprop, sgd_momentum)} == {"gconv.optim"}
    assert conv_relu_pool_forward.__module__ == "gconv.layer_utils"
    assert conv_forward_fast.__module__ == "gconv.fast_layers"
    assert ThreeLayerConvNet.__module__ == "gconv.classifiers.cnn"  # noqa: F405
