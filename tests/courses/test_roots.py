"""What the notebooks of each course import, from the root that docs/from_cs231n.md names."""

import importlib
import re
from pathlib import Path

import pytest

import gconv.courses

# What they all have, whatever the folder is called.
GRADIENTS = "gradient_check: eval_numerical_gradient eval_numerical_gradient_array"
FAST = "fast_layers: conv_forward_fast conv_backward_fast max_pool_forward_fast max_pool_backward_fast"
SANDWICHES = "affine_relu_forward affine_relu_backward"
CONV_SANDWICHES = "conv_relu_forward conv_relu_backward conv_relu_pool_forward conv_relu_pool_backward"
COMMON = ["data_utils: get_CIFAR10_data load_CIFAR10", "vis_utils: visualize_grid", GRADIENTS, FAST]
OF_2016 = [
    *COMMON,
    "classifiers.fc_net: TwoLayerNet FullyConnectedNet affine_forward dropout_forward svm_loss affine_relu_forward",
    "classifiers.cnn: ThreeLayerConvNet conv_forward_naive max_pool_forward_fast conv_relu_pool_forward",
    "classifiers.neural_net: TwoLayerNet",
    f"layer_utils: {SANDWICHES} {CONV_SANDWICHES}",
    "layers: batchnorm_backward_alt spatial_batchnorm_forward spatial_batchnorm_backward conv_backward_naive",
    "optim: sgd_momentum rmsprop adam",
    "solver: Solver",
    "im2col: im2col_indices",
]
NOTEBOOKS = {
    "gconv": [*OF_2016, "layers: layernorm_forward spatial_groupnorm_forward"],
    "gconv.courses.cs231n_2017": OF_2016,
    "gconv.courses.cs231n_2016": OF_2016,
    "gconv.courses.berkeley": OF_2016,
    "gconv.courses.cs231n_2015": [
        *COMMON,
        "classifier_trainer: ClassifierTrainer",
        "classifiers.convnet: init_two_layer_convnet two_layer_convnet conv_relu_pool_forward softmax_loss",
        "classifiers.neural_net: init_two_layer_model two_layer_net",
        f"layer_utils: {SANDWICHES} {CONV_SANDWICHES}",
        "layers: affine_forward conv_forward_naive svm_loss",
    ],
    "gconv.courses.ucla": [
        *COMMON,
        "cnn: ThreeLayerConvNet conv_forward_naive conv_forward_fast affine_relu_forward conv_relu_pool_forward",
        f"conv_layer_utils: {CONV_SANDWICHES}",
        "conv_layers: conv_forward_naive max_pool_backward_naive spatial_batchnorm_forward batchnorm_forward",
        "fc_net: TwoLayerNet FullyConnectedNet affine_forward softmax_loss affine_relu_forward",
        "layer_tests: affine_forward_test affine_backward_test relu_forward_test affine_relu_test fc_net_test",
        f"layer_utils: {SANDWICHES}",
        "layers: batchnorm_forward dropout_backward",
        "neural_net: TwoLayerNet",
        "optim: sgd sgd_momentum sgd_nesterov_momentum rmsprop adam",
        "solver: Solver",
    ],
}


@pytest.mark.parametrize("root", NOTEBOOKS)
def test_star_imports_bring_what_the_notebooks_call(root):
    for line in NOTEBOOKS[root]:
        module, names = line.split(": ")
        found = {}
        exec(f"from {root}.{module} import *", found)
        assert set(names.split()) <= set(found), f"{root}.{module}"


@pytest.mark.parametrize("root", NOTEBOOKS)
def test_a_root_has_no_copies(root):
    for name in ("data_utils", "fast_layers", "gradient_check", "im2col", "vis_utils"):
        assert importlib.import_module(f"{root}.{name}") is importlib.import_module(f"gconv.{name}")
        assert getattr(importlib.import_module(root), name) is importlib.import_module(f"gconv.{name}")


def test_what_gconv_has_not_is_python_s_own_error():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'gconv\.courses\.cs231n_2017\.rnn_layers'"):
        importlib.import_module("gconv.courses.cs231n_2017.rnn_layers")
    with pytest.raises(ImportError, match="cannot import name 'data_augm'"):
        exec("from gconv.courses.cs231n_2016.data_utils import data_augm")


def test_the_table_names_the_roots_that_there_are():
    page = Path(__file__).parents[2] / "docs" / "from_cs231n.md"
    if not page.is_file():
        pytest.skip("not in a checkout")
    named = set(re.findall(r"\| `(gconv(?:\.courses\.\w+)?)`(?:, for both)? \|\n", page.read_text()))
    assert named == set(NOTEBOOKS)
    assert {root.removeprefix("gconv.courses.") for root in named - {"gconv"}} == set(gconv.courses.__all__)
