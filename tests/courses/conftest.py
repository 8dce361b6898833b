"""Notebooks have NumPy arrays: the other backends' layers have tests of their own, and the loops here one."""

import pytest

import gconv


@pytest.fixture(autouse=True)
def on_the_cpu(request):
    if "backend" in request.fixturenames:
        yield
        return
    with gconv.use_backend("cpu"):
        yield
