"""The notebooks run with small settings, and were committed with the outputs of a whole run."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: pip install 'gconv[notebooks]'")
pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'gconv[notebooks]'")
pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'gconv[demo]'")

FOLDER = Path(__file__).parents[1] / "notebooks"
spec = importlib.util.spec_from_file_location("run_notebooks", FOLDER / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)

# What a run must print, to show that the notebook did what it is for.
EXPECTED = {
    "convolutional_networks": [r"difference 2\.2e-08|difference 2\.21e-08", r"reg 0\.0: loss 2\.30", r"speed-up"],
    "cupy_arrays": [r"out: largest difference \d", "ValueError: conv_forward_fast: w must have 3 channels"],
    "hyperparameters": [],
    "modular_nets": ["svm", r"reg 0\.7  W1 relative error", "batchnorm_backward_alt"],
    "own_layer": [r"wrong: error [0-9.]+e[-+]0[0-3]", "test accuracy"],
    "speed": ["measured here:", "step, batch 50"],
}


def test_every_notebook_is_known():
    assert sorted(EXPECTED) == run.NAMES


@pytest.mark.parametrize("name", run.NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_notebook_runs(name, monkeypatch):
    monkeypatch.delenv("GCONV_DATA_DIR", raising=False)
    monkeypatch.setenv("GCONV_BACKEND", "cpu")
    text = run.printed(run.executed(name, small=True, timeout=200))
    for pattern in EXPECTED[name]:
        assert re.search(pattern, text), f"{pattern} is not in\n{text}"
    # What a gradient check prints: every one of them small.
    errors = [float(e) for e in re.findall(r"(?m)^(?:d\w+|(?:reg \S+  )?\w+ relative) +error (\S+)$", text)]
    assert all(error < 2e-5 for error in errors), errors
    assert errors or name in ("cupy_arrays", "hyperparameters", "speed")


@pytest.mark.parametrize("name", run.NAMES)
def test_the_committed_outputs_are_whole(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "not executed from top to bottom"
    first = notebook.cells[0].source
    assert first.startswith("# ")
    assert re.search(r"takes about .* (s|seconds|min|minutes)", first), "does not say how long it takes"
    text = "".join(cell.source for cell in notebook.cells) + run.printed(notebook)
    for word in (os.sep + "tmp" + os.sep, os.sep + "home" + os.sep, os.sep + "root" + os.sep, "Traceback", "Warning"):
        assert word not in text
    pictures = [out for cell in code for out in cell.outputs if "image/png" in out.get("data", {})]
    assert pictures or name == "cupy_arrays"
