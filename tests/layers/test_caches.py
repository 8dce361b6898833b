"""A cache of another layer, a part of one, or none: the error names where it comes from."""

import numpy as np
import pytest

from gconv import fast_layers, layer_utils, layers
from gconv.fast_layers import conv_forward_fast, max_pool_forward_fast
from gconv.layers import batchnorm_forward

BACKWARD = {
    name: getattr(module, name)
    for module in (layers, fast_layers, layer_utils)
    for name in module.__all__
    if "_backward" in name
}


@pytest.mark.parametrize("name", BACKWARD)
def test_another_cache_is_refused_by_name(name):
    dout, x, w = np.ones((2, 3)), np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3))
    wrong = {
        "NoneType": None,
        "int": 5,
        "nothing": (),
        "a tuple of ndarray": (dout,),
        "a tuple of int, int": (1, 2),
        "a tuple of ndarray, PoolGeometry": max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 1})[
            1
        ],
        "a tuple of ndarray, ndarray, NoneType, dict": conv_forward_fast(x, w, None, {"stride": 1, "pad": 0})[1],
        "BatchnormCache": batchnorm_forward(dout, np.ones(3), np.ones(3), {"mode": "train"})[1],
    }
    if name != "relu_backward":
        wrong[r"an array of shape \(2, 3\)"] = dout
    forward = name.removesuffix("_alt").replace("backward", "forward")
    name_in_errors, forward = (text.replace("fc_", "affine_") for text in (name, forward))
    own = [("max_pool", "PoolGeometry"), ("conv_backward", "NoneType, dict"), ("batchnorm", "BatchnormCache")]
    own += [("spatial_batchnorm", "BatchnormCache")]
    for text, cache in wrong.items():
        if any(name.startswith(layer) and text.endswith(end) for layer, end in own):
            continue
        with pytest.raises(TypeError, match=f"^{name_in_errors}: cache must come from {forward}; got .*{text}"):
            BACKWARD[name](dout, cache)
