"""500 random cases of convolution, pooling and both in one, against the loops and against PyTorch."""

import numpy as np
import pytest
from conftest import assert_close
from oracles import naive_conv, naive_pool, random_case, torch_conv_relu_pool

from gconv.fast_layers import conv_backward_fast, conv_forward_fast, max_pool_backward_fast, max_pool_forward_fast
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward

BLOCKS, CASES_PER_BLOCK = 20, 25


def cases(block):
    rng = np.random.default_rng(1000 + block)
    for number in range(CASES_PER_BLOCK):
        yield rng, random_case(rng, (np.float32, np.float64)[number % 2])


def terms(case, out):
    """How many products the results sum: (out, dx, dw)."""
    f, c, hh, ww = case.w.shape
    return c * hh * ww, f * hh * ww, max(out.shape[0] * out.shape[2] * out.shape[3], 1)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_against_the_loops(backend, block):
    for rng, case in cases(block):
        x, w, b = (backend.asarray(a) for a in (case.x, case.w, case.b))
        out, cache = conv_forward_fast(x, w, b, case.conv_param)
        k, k_dx, k_dw = terms(case, out)
        assert out.dtype == case.x.dtype
        assert_close(out, naive_conv(case), k, "conv")
        dout = rng.standard_normal(out.shape).astype(case.x.dtype)
        expected = naive_conv(case, dout)
        for _ in range(2):  # a cache can be used twice
            for name, ours, theirs, count in zip(
                ("dx", "dw", "db"),
                conv_backward_fast(backend.asarray(dout), cache),
                expected,
                (k_dx, k_dw, k_dw),
                strict=True,
            ):
                assert_close(ours, theirs, count, name)

        pooled, pool_cache = max_pool_forward_fast(out, case.pool_param)
        activation = backend.to_numpy(out)
        assert np.array_equal(backend.to_numpy(pooled), naive_pool(activation, case.pool_param))
        dpool = rng.standard_normal(pooled.shape).astype(case.x.dtype)
        windows = case.pool_param["pool_height"] * case.pool_param["pool_width"]
        dx = max_pool_backward_fast(backend.asarray(dpool), pool_cache)
        assert_close(dx, naive_pool(activation, case.pool_param, dpool.astype(np.float64)), windows, "pool dx")

        fused, fused_cache = conv_relu_pool_forward(x, w, b, case.conv_param, case.pool_param)
        relu = np.maximum(activation, 0)
        assert_close(fused, naive_pool(relu, case.pool_param), k, "conv_relu_pool")
        dact = naive_pool(relu, case.pool_param, dpool.astype(np.float64)) * (activation > 0)
        for name, ours, theirs, count in zip(
            ("dx", "dw", "db"),
            conv_relu_pool_backward(backend.asarray(dpool), fused_cache),
            naive_conv(case, dact),
            (k_dx * windows, k_dw * windows, k_dw * windows),
            strict=True,
        ):
            assert_close(ours, theirs, count, f"conv_relu_pool {name}")


@pytest.mark.peers
@pytest.mark.parametrize("block", range(BLOCKS))
def test_against_pytorch(backend, block):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gconv[peers]'")
    for rng, case in cases(block):
        if not len(case.x):
            continue  # PyTorch's max_pool2d refuses an empty batch
        arrays = [backend.asarray(a) for a in (case.x, case.w, case.b)]
        for fused in (False, True):
            theirs, *leaves = torch_conv_relu_pool(torch, case, relu_pool=fused)
            if fused:
                out, cache = conv_relu_pool_forward(*arrays, case.conv_param, case.pool_param)
            else:
                out, cache = conv_forward_fast(*arrays, case.conv_param)
            k, k_dx, k_dw = terms(case, out)
            assert_close(out, theirs.detach().numpy(), k, "out")
            dout = rng.standard_normal(out.shape).astype(case.x.dtype)
            theirs.backward(torch.tensor(dout.astype(np.float64)))
            backward = conv_relu_pool_backward if fused else conv_backward_fast
            for name, ours, leaf, count in zip(
                ("dx", "dw", "db"),
                backward(backend.asarray(dout), cache),
                leaves,
                (9 * k_dx, 9 * k_dw, 9 * k_dw),
                strict=True,
            ):
                assert_close(ours, leaf.grad.numpy(), count, f"{name}, fused={fused}")
