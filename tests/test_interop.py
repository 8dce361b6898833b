"""Arrays and weights from other libraries and to them: DLPack, PyTorch's state dictionaries, ONNX."""

import re
import sys

import numpy as np
import pytest

import gconv
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from gconv.data_utils import make_synthetic_data
from gconv.fast_layers import conv_backward_fast, conv_forward_fast
from gconv.layers import relu_forward
from gconv.results.onnx_export import export_onnx
from gconv.solver import Solver

MODELS = {
    "convnet": lambda dtype=np.float32: ThreeLayerConvNet((3, 9, 8), 5, 3, 7, 4, weight_scale=0.2, rng=0, dtype=dtype),
    "even filters": lambda dtype=np.float32: ThreeLayerConvNet((2, 8, 8), 5, 4, 7, 4, weight_scale=0.2, rng=0, dtype=dtype),
    "two layers": lambda dtype=np.float32: TwoLayerNet(216, 6, 4, weight_scale=0.2, rng=0, dtype=dtype),
    "linear": lambda dtype=np.float32: FullyConnectedNet([], 216, 4, weight_scale=0.2, rng=0, dtype=dtype),
    "batchnorm": lambda dtype=np.float32: FullyConnectedNet([7, 5], 216, 4, 0.8, "batchnorm", weight_scale=0.2, rng=0, dtype=dtype),
    "layernorm": lambda dtype=np.float32: FullyConnectedNet([7, 5], 216, 4, 1, "layernorm", weight_scale=0.2, rng=0, dtype=dtype),
}  # fmt: skip


def size(model):
    return getattr(model, "input_dim", (216,))


def trained(name, dtype=np.float32):
    """Return a model after some training, so that nothing is at its initial 0 or 1."""
    model = MODELS[name](dtype)
    data = make_synthetic_data(input_dim=size(model), dtype=dtype)
    backend = gconv.get_backend()
    data = {key: backend.asarray(array) for key, array in data.items()}
    Solver(model, data, update_rule="adam", num_epochs=2, batch_size=20, verbose=False, seed=0).train()
    return model


def as_numpy(array):
    return gconv.get_backend(array).to_numpy(array)


# DLPack ---------------------------------------------------------------------------------------------


def test_numpy_arrays_are_shared(rng):
    a = rng.standard_normal((3, 4)).astype(np.float32)
    shared = gconv.from_dlpack(a)
    a[1, 2] = 99
    assert shared[1, 2] == 99
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        shared[1, 2] = 98
        assert a[1, 2] == 98
    np.testing.assert_array_equal(gconv.from_dlpack(a[:, ::2]), a[:, ::2])


@pytest.mark.parametrize("wrong", [[1.0], 3, "x", object()])
def test_what_has_no_protocol_is_refused(wrong):
    with pytest.raises(TypeError, match=f"from_dlpack: x must have the method __dlpack__; got {type(wrong).__name__}"):
        gconv.from_dlpack(wrong)


def test_other_devices_are_refused():
    class Vulkan:
        def __dlpack__(self):
            raise AssertionError("must not be asked")

        def __dlpack_device__(self):
            return (7, 0)

    with pytest.raises(TypeError, match="CPU or of a CUDA device; got DLPack's device 7"):
        gconv.from_dlpack(Vulkan())


def test_a_cuda_tensor_without_a_device_says_what_is_missing():
    class Cuda:
        def __dlpack__(self):
            raise AssertionError("must not be asked")

        def __dlpack_device__(self):
            return (2, 0)

    if "gpu" in gconv.available_backends():
        pytest.skip("there is a device")
    with pytest.raises(gconv.BackendUnavailableError, match="the gpu backend can't run"):
        gconv.from_dlpack(Cuda())


@pytest.mark.peers
def test_pytorch_s_tensors_go_in_and_results_come_out(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    kind = getattr(torch, dtype.name)
    x, w = torch.randn(2, 3, 7, 8, dtype=kind), torch.randn(4, 3, 3, 3, dtype=kind, requires_grad=True)
    b = torch.randn(4, dtype=kind)
    arrays = [gconv.from_dlpack(t) for t in (x, w.detach(), b)]
    assert arrays[0].__array_interface__["data"][0] == x.data_ptr()
    out, cache = conv_forward_fast(*arrays, {"stride": 1, "pad": 1})
    expected = torch.nn.functional.conv2d(x, w, b, padding=1)
    limit = 1e-12 if dtype == np.float64 else 1e-5
    assert torch.allclose(torch.from_dlpack(out), expected, atol=limit)
    dout = torch.randn_like(expected)
    expected.backward(dout)
    _, dw, _ = conv_backward_fast(gconv.from_dlpack(dout), cache)
    assert torch.allclose(torch.from_dlpack(dw), w.grad, atol=10 * limit)


@pytest.mark.peers
def test_results_in_recycled_memory_outlive_their_arrays():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tensor = torch.from_dlpack(relu_forward(np.full((512, 512), 3.0))[0])
    for _ in range(5):
        relu_forward(np.full((512, 512), 7.0))
    assert bool((tensor == 3).all())


@pytest.mark.peers
def test_tensors_that_can_t_be_shared_say_why():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for tensor, text in ((torch.ones(2, requires_grad=True), "detach"), (torch.ones(2, dtype=torch.bfloat16), "")):
        with pytest.raises(
            TypeError, match=f"from_dlpack: x must be a tensor whose memory can be shared; got .*{text}"
        ):
            gconv.from_dlpack(tensor)


# State dictionaries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_state_goes_into_another_model(name):
    model, other = trained(name), MODELS[name]()
    state = model.state_dict()
    assert all(type(array) is np.ndarray and array.flags.c_contiguous for array in state.values())
    other.load_state_dict(state)
    X = gconv.get_backend().asarray(np.random.default_rng(1).standard_normal((6, *size(model))).astype(np.float32))
    np.testing.assert_array_equal(as_numpy(other.loss(X)), as_numpy(model.loss(X)))
    first = next(iter(state))
    state[first][...] = 0  # a copy, on both ways
    assert as_numpy(other.state_dict()[first]).any()
    assert as_numpy(model.state_dict()[first]).any()


def test_names_and_layouts():
    shapes = {name: w.shape for name, w in MODELS["convnet"]().state_dict().items()}
    assert shapes == {
        "conv1.weight": (5, 3, 3, 3),
        "conv1.bias": (5,),
        "fc1.weight": (7, 80),
        "fc1.bias": (7,),
        "fc2.weight": (4, 7),
        "fc2.bias": (4,),
    }
    untrained = MODELS["batchnorm"]().state_dict()
    assert {"norm2.weight", "norm2.bias", "norm2.running_mean", "norm2.running_var"} <= set(untrained)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda s: s.pop("fc1.bias"), ValueError, r"missing \['fc1.bias'\], unknown \[\]"),
        (lambda s: s.update({"fc9.bias": s["fc1.bias"]}), ValueError, r"missing \[\], unknown \['fc9.bias'\]"),
        (lambda s: s.update({"fc2.weight": s["fc2.weight"].T}), ValueError, r"state\['fc2.weight'\] must have shape \(4, 7\); got \(7, 4\)"),
        (lambda s: s.update({"fc2.bias": [1, 2, 3, 4]}), TypeError, "must have the method __dlpack__; got list"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_changes_nothing(change, error, text):
    model = MODELS["convnet"]()
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(error, match=text):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def twin(torch, name, model):
    """The same network of PyTorch's layers, under the names that the docstrings give."""
    nn, p = torch.nn, model.params
    if name in ("convnet", "even filters"):
        layers = {
            "conv1": nn.Conv2d(p["W1"].shape[1], p["W1"].shape[0], p["W1"].shape[2], padding=model.conv_param["pad"]),
            "relu1": nn.ReLU(),
            "pool": nn.MaxPool2d(2),
            "flat": nn.Flatten(),
            "fc1": nn.Linear(*p["W2"].shape),
            "relu2": nn.ReLU(),
            "fc2": nn.Linear(*p["W3"].shape),
        }
    else:
        count, layers = sum(key.startswith("W") for key in p), {}
        for i in range(1, count + 1):
            layers[f"fc{i}"] = nn.Linear(*p[f"W{i}"].shape)
            if f"gamma{i}" in p:
                kind = nn.BatchNorm1d if model.normalization == "batchnorm" else nn.LayerNorm
                layers[f"norm{i}"] = kind(len(p[f"gamma{i}"]))
            if i < count:
                layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(__import__("collections").OrderedDict(layers)).eval()


@pytest.mark.peers
@pytest.mark.parametrize("name", MODELS)
def test_a_pytorch_twin_gives_the_same_scores_and_its_weights_come_back(name, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = trained(name, dtype)
    other = twin(torch, name, model).to(getattr(torch, dtype.name))
    other.load_state_dict({key: torch.from_numpy(w) for key, w in model.state_dict().items()})
    X = np.random.default_rng(1).standard_normal((50, *size(model))).astype(dtype)
    with torch.no_grad():
        theirs = other(torch.from_numpy(X)).numpy()
    ours = as_numpy(model.loss(gconv.get_backend().asarray(X)))
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    print(f"largest difference {name} {dtype.name}: {difference:.1e} of the largest score")
    assert difference < (1e-12 if dtype == np.float64 else 3e-6)
    fresh = MODELS[name](dtype)
    fresh.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(as_numpy(fresh.loss(gconv.get_backend().asarray(X))), ours)


# ONNX -----------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_gives_the_same_scores(name, dtype, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    model = trained(name, dtype)
    path = export_onnx(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n in (1, 50):
        X = np.random.default_rng(n).standard_normal((n, *size(model))).astype(np.float32)
        (theirs,) = session.run(["scores"], {"images": X})
        ours = as_numpy(model.loss(gconv.get_backend().asarray(X)))
        difference = float(np.abs(ours - theirs).max() / np.abs(ours).max())
        print(f"largest difference {name} {dtype.name}: {difference:.1e} of the largest score")
        assert theirs.shape == (n, 4)
        assert difference < 3e-6


def test_other_models_are_refused(tmp_path):
    with pytest.raises(TypeError, match="export_onnx: model must be one of gconv's models; got object"):
        export_onnx(object(), tmp_path / "x.onnx")


def test_onnx_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'gconv[onnx]'")):
        export_onnx(MODELS["two layers"](), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
