"""The documentation: every code block runs, every link inside it leads somewhere, every option it names exists."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import COMMAND

import gconv

PROJECT = Path(__file__).parents[1]
PAGES = sorted([PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]
# Read by people who have a clone and a development environment; its commands are CI's.
DEVELOPERS = "CONTRIBUTING.md"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (PROJECT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def pages_with(language):
    return [
        pytest.param(name, marks=pytest.mark.peers if "import torch" in "".join(blocks(name, language)) else ())
        for name in NAMES
        if blocks(name, language) and name != DEVELOPERS
    ]


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    """Blocks of one page may use what those above have made; those with CuPy are tested below."""
    code = "\n".join(block for block in blocks(page, "python") if "import cupy" not in block)
    for module, import_ in (("torch", "import torch"), ("onnxruntime", "import onnxruntime")):
        if import_ in code:
            pytest.importorskip(module, reason=f"{module} is not installed")
    if "get_digits_data" in code:
        pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'gconv[demo]'")
    if "CIFAR" in code and not os.environ.get("GCONV_DATA_DIR"):
        pytest.skip("GCONV_DATA_DIR is not set: no real CIFAR-10 at hand")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:gconv runs on NumPy alone", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GCONV_BACKEND": "cpu"},
    )
    assert done.returncode == 0, done.stderr


# Read for one of their blocks, which is pasted alone.
@pytest.mark.parametrize("page", ["docs/from_cs231n.md", "docs/faq.md"])
def test_each_block_of_these_pages_runs_alone(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = np.random.get_state()
    with gconv.use_backend("cpu"):
        for block in blocks(page, "python"):
            exec(block, {})
    np.random.set_state(state)


@pytest.mark.parametrize("page", [name for name in NAMES if "import cupy" in "".join(blocks(name, "python"))])
def test_the_cupy_blocks_run(page, capsys):
    if gconv.get_backend().name != "gpu":
        pytest.skip("needs GCONV_BACKEND=gpu, on a device or with --gpu-on-cpu")
    (block,) = [block for block in blocks(page, "python") if "import cupy" in block]
    exec(block, {})
    printed = capsys.readouterr().out.strip()
    assert not printed or f"# {printed}" in block


def test_the_readme_s_cupy_script_is_short():
    (block,) = [block for block in blocks("README.md", "python") if "import cupy" in block]
    assert len(block.splitlines()) <= 12


def shell_lines(page):
    return [line for block in blocks(page, "bash") for line in block.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("page", [p.values[0] for p in pages_with("bash")])
def test_the_commands_of_a_page_run(page, tmp_path):
    """gconv's own commands are run; of the others it is checked that what they name exists."""
    extras = importlib.metadata.metadata("gconv").get_all("Provides-Extra")
    environment = {**os.environ, "GCONV_BACKEND": "cpu"}
    for line in shell_lines(page):
        for command in line.split(" && "):
            words = [word for word in command.split() if not re.match(r"[A-Z_]+=", word)]
            if words[0] == "gconv":
                # A backend that a line asks for may not be here, and the first example trains longest.
                short = (
                    ["--epochs", "1"]
                    if words[1] == "train" and "--epochs" not in words and "--resume" not in words
                    else []
                )
                arguments = [word.strip("\"'") for word in words[1:]] + short
                pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'gconv[demo]'")
                done = subprocess.run(
                    [*COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
                )
                assert done.returncode == 0, f"{command}\n{done.stderr}"
            elif words[:2] == ["pip", "install"]:
                named = re.findall(r"\[([\w,-]+)\]", command)
                assert all(extra in extras for names in named for extra in names.split(",")), command
            elif words[:2] == ["python", "notebooks/run.py"] or words[:2] == ["jupyter", "lab"]:
                assert (PROJECT / "notebooks").is_dir()
            else:
                assert words[0] in ("pytest",) or words[:2] == ["python", "-m"], f"{page}: what is {command!r}?"


def heading_anchors(path):
    headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", NAMES)
def test_links_inside_the_project_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", (PROJECT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (PROJECT / page).parent / path if path else PROJECT / page
        assert place.exists(), f"{page} links to {target}"
        assert not anchor or anchor in heading_anchors(place), f"{page} links to {target}"


def test_every_page_is_in_the_contents():
    listed = set()
    for page in (PROJECT / "docs").rglob("*.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), flags=re.DOTALL):
            names = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    pages = {path.resolve() for path in (PROJECT / "docs").rglob("*.md")}
    assert pages - listed == {(PROJECT / "docs" / "index.md").resolve()}


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("sphinx", "myst_parser", "furo"))),
    reason="Sphinx is not installed: pip install 'gconv[docs]'",
)
def test_the_documentation_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    done = subprocess.run(
        [*command, PROJECT / "docs", tmp_path / "html"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "api" / "layers.html").read_text()
    for name in ("conv_forward_naive", "spatial_groupnorm_backward", "max_pool_forward_fast"):
        assert name in page
