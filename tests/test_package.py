"""The package's shape: what an import loads, which way imports run, names, doctests, the README."""

import ast
import doctest
import importlib
import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gconv

PACKAGE = Path(gconv.__file__).parent
PROJECT = Path(__file__).parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(gconv.__path__, "gconv.") if "_kernels" not in m.name)
OTHERS = [
    "cupy",
    "torch",
    "matplotlib",
    "click",
    "tqdm",
    "pooch",
    "safetensors",
    "requests",
    "sklearn",
    "threadpoolctl",
    "scipy",
    "tensorboardX",
    "onnx",
]


def test_importing_gconv_loads_numpy_alone():
    program = f"import gconv, sys; print([m for m in {[*OTHERS, 'gconv.courses']} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_using_layers_and_a_model_loads_numpy_alone():
    blocked = f"""
import sys
for name in {OTHERS}:
    sys.modules[name] = None
import numpy as np
from gconv.layers import *; from gconv.fast_layers import *; from gconv.layer_utils import *
from gconv.optim import *; from gconv.gradient_check import *; from gconv.im2col import *
from gconv.classifiers.cnn import *; from gconv.classifiers.fc_net import *; from gconv.solver import *
from gconv.data_utils import make_synthetic_data
model = ThreeLayerConvNet((3, 8, 8), 2, 3, 4, 4)
Solver(model, make_synthetic_data(), num_epochs=1, verbose=False).train()
"""
    done = subprocess.run([sys.executable, "-I", "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The layers of the design, lowest first: a module imports from its own layer or a lower one.
LAYERS = [
    ("_typing", "_checks", "_caches", "_progress", "files", "kernels", "geometry"),
    ("backends",),
    ("_arguments", "_memory", "_updates", "datasets"),
    ("layers", "im2col", "fast_layers", "optim", "gradient_check", "data_utils"),
    ("layer_utils",),
    ("classifiers", "results", "vis_utils"),
    ("training",),
    ("solver",),
    ("benchmarking",),
    ("cli",),
    ("courses",),  # nothing but its notebooks imports it
]


def level(module):
    top = module.split(".")[1] if "." in module else ""
    return next((i for i, names in enumerate(LAYERS) if top in names), None)


def imports_of_the_package():
    """Return, for each file of the package, the files that it imports; those for type checkers alone count too."""
    files = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("gconv", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        files[name] = ast.parse(path.read_text())
    graph = {}
    for name, tree in files.items():
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (inner & files.keys()) or {node.module}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = found
    return graph


def test_imports_run_down_only():
    for name, targets in imports_of_the_package().items():
        if name == "gconv":
            assert not [target for target in targets if target.startswith("gconv.courses")]
            continue
        assert level(name) is not None, f"{name} has no place in the layers"
        for target in targets:
            if target.startswith("gconv.") and not target.startswith("gconv.kernels"):
                assert level(target) <= level(name), f"{name} imports {target}, which stands above it"
            assert not (target == "cupy" and not name.startswith("gconv.backends")), f"{name} imports CuPy"


def test_no_files_import_each_other_in_a_circle():
    left = {name: {t for t in targets if t.startswith("gconv.")} for name, targets in imports_of_the_package().items()}
    del left["gconv"]  # the root re-exports
    while done := {name for name, targets in left.items() if not targets & left.keys() - {name}}:
        left = {name: targets for name, targets in left.items() if name not in done}
    assert not left


def test_no_module_reaches_for_another_one_s_private_names():
    """A name with an underscore belongs to its class (``self._x``, ``cls._x``) or its module."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gconv."):
                private = [alias.name for alias in node.names if re.match(r"_[^_]", alias.name)]
                assert not private, f"{path.name}:{node.lineno} imports {private}"
            if isinstance(node, ast.Attribute) and re.match(r"_(?!_|replace$|asdict$|fields$)", node.attr):
                owner = ast.unparse(node.value)
                assert owner in ("self", "cls", "super()"), f"{path.name}:{node.lineno} reaches for {ast.unparse(node)}"


def import_module(name):
    device = re.match(r"gconv\.backends\.(gpu|cuda)", name)
    if device and name not in ("gconv.backends.gpu_diagnosis", "gconv.backends.gpu_plan"):
        pytest.importorskip("cupy", reason="CuPy is not installed")
    if name.endswith("torch_rows"):
        pytest.importorskip("torch", reason="PyTorch is not installed")
    return importlib.import_module(name)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_exports(module):
    if module.startswith("gconv.kernels"):
        return
    imported = import_module(module)
    assert imported.__doc__, f"{module} has no docstring"
    if module not in ("gconv.datasets",):
        for name in imported.__all__:
            # A package of roots loads a root when it is asked for.
            assert hasattr(imported, name) or importlib.import_module(f"{module}.{name}")


COURSE = {
    "layers": "affine_forward affine_backward fc_forward fc_backward relu_forward relu_backward batchnorm_forward "
    "batchnorm_backward batchnorm_backward_alt layernorm_forward layernorm_backward dropout_forward dropout_backward "
    "conv_forward_naive conv_backward_naive max_pool_forward_naive max_pool_backward_naive spatial_batchnorm_forward "
    "spatial_batchnorm_backward spatial_groupnorm_forward spatial_groupnorm_backward svm_loss softmax_loss "
    "avg_pool_forward_naive avg_pool_backward_naive leaky_relu_forward leaky_relu_backward",
    "fast_layers": "conv_forward_fast conv_backward_fast max_pool_forward_fast max_pool_backward_fast "
    "conv_forward_im2col conv_backward_im2col conv_forward_strides conv_backward_strides max_pool_forward_reshape "
    "max_pool_backward_reshape max_pool_forward_im2col max_pool_backward_im2col "
    "avg_pool_forward_fast avg_pool_backward_fast",
    "im2col": "im2col_indices col2im_indices get_im2col_indices",
    "layer_utils": " ".join(
        f"{name}_{way}"
        for name in [
            "affine_relu",
            "affine_bn_relu",
            "affine_leaky_relu",
            "conv_leaky_relu",
            "conv_leaky_relu_pool",
            "conv_relu",
            "conv_bn_relu",
            "conv_relu_pool",
            "conv_bn_relu_pool",
        ]
        for way in ("forward", "backward")
    ),
    "optim": "sgd sgd_momentum rmsprop adam adamw nesterov_momentum",
    "gradient_check": "eval_numerical_gradient eval_numerical_gradient_array grad_check_sparse rel_error",
    "classifiers.cnn": "ThreeLayerConvNet",
    "classifiers.fc_net": "TwoLayerNet FullyConnectedNet",
    "classifiers.neural_net": "TwoLayerNet",
    "solver": "Solver",
    "data_utils": "get_CIFAR10_data load_CIFAR10 load_CIFAR_batch get_digits_data make_synthetic_data",
    "vis_utils": "visualize_grid vis_grid vis_nn plot_history plot_filters plot_confusion",
}


# The course's files of models import their layers with a star, and so do notebooks that import the models so.
COURSE["classifiers.fc_net"] += f" {COURSE['layers']} {COURSE['layer_utils']}"
COURSE["classifiers.cnn"] += f" {COURSE['layers']} {COURSE['fast_layers']} {COURSE['layer_utils']}"


@pytest.mark.parametrize("module", COURSE)
def test_star_imports_bring_the_course_s_names(module):
    names = {}
    exec(f"from gconv.{module} import *", names)
    assert set(COURSE[module].split()) <= set(names)


@pytest.mark.parametrize("module", MODULES)
def test_doctests(module):
    imported = import_module(module)
    with gconv.use_backend("cpu"):
        failed, _ = doctest.testmod(imported, extraglobs={"np": np}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed


def test_no_bare_asserts_in_the_package():
    for path in PACKAGE.rglob("*.py"):
        assert not [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Assert)], path


def test_the_readme_begins_with_the_two_commands():
    (first, *_) = re.findall(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)
    assert first.splitlines() == [
        'pip install ".[demo]" && gconv train',
        'pip install ".[test]" && GCONV_BACKEND=cpu pytest',
    ]


def test_the_installed_package_is_what_is_tested():
    origin = json.loads(importlib.metadata.distribution("gconv").read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("an editable install runs the source folder")
    assert PACKAGE != PROJECT / "gconv", "this is the source folder, not what `pip install .` installed"


def test_the_locked_environment_has_everything_with_hashes():
    project = Path(__file__).parents[1]
    if not (project / "requirements" / "ci.txt").is_file():
        pytest.skip("not in a checkout")
    lock = (project / "requirements" / "ci.txt").read_text()
    locked = re.findall(r"^([a-z0-9._-]+)==\S+(?: ; [^\\\n]*)? \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    listed = re.findall(r"^([a-zA-Z0-9._-]+)==", lock, re.MULTILINE)
    assert sorted(locked) == sorted(listed)
    text = (project / "pyproject.toml").read_text()
    wanted = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    wanted += "".join(
        re.search(rf"^{extra} = (.*)$", text, re.MULTILINE)[1] for extra in ("demo", "test", "dev", "docs")
    )
    names = set(re.findall(r'"([a-zA-Z0-9_-]+)[><=]', wanted))
    assert len(names) > 15
    assert {name.lower() for name in names} <= set(locked)


def test_every_package_is_installed():
    """The list in pyproject.toml has every folder of modules; an editable install would not notice one missing."""
    project = Path(__file__).parents[1]
    if not (project / "pyproject.toml").is_file():
        pytest.skip("not in a checkout")
    listed = re.search(r"^packages = \[(.*?)^\]", (project / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)[1]
    folders = {
        ".".join(path.parent.relative_to(project).parts).replace("kernels", "gconv.kernels")
        for top in ("gconv", "kernels")
        for path in (project / top).rglob("__init__.py")
    }
    assert set(re.findall(r'"([\w.]+)"', listed)) == folders


def test_workflows_pin_what_they_run():
    folder = Path(__file__).parents[1] / ".github" / "workflows"
    if not folder.is_dir():
        pytest.skip("not in a checkout")
    used = [line for path in folder.iterdir() for line in path.read_text().splitlines() if "uses:" in line]
    assert len(used) > 10
    for line in used:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
