"""CUDA without a device: NVRTC for every GPU, CuPy's disk cache, and what `gconv info` says is missing."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import gconv
from gconv.backends import gpu_diagnosis
from gconv.backends.base import BackendUnavailableError

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install 'gconv[cuda13]'")


def has_nvrtc():
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception:  # whatever a missing library raises
        return False
    return True


nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="NVRTC is missing: pip install 'cupy-cuda13x[ctk]'")


@nvrtc
@pytest.mark.timeout(600)
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_120"])
def test_every_kernel_compiles_without_a_spill(architecture):
    import nvrtc_check

    from gconv.backends.cuda_module import source_files

    if nvrtc_check.cuobjdump() is None:
        pytest.skip("cuobjdump is missing: pip install nvidia-cuda-cuobjdump")
    count = 0
    for file in source_files():
        for dtype in nvrtc_check.DTYPES:
            for kernel, usage in nvrtc_check.resources(
                nvrtc_check.compile_file(file, dtype, False, architecture)
            ).items():
                assert usage["LOCAL"] == usage["STACK"] == 0, f"{kernel} spills: {usage}"
                assert usage["REG"] <= 255
                # 48 KB are to be had everywhere; from sm_90 on 1 KB of the figure is the system's
                assert usage["SHARED"] <= 49 * 1024
                count += 1
    assert count >= 100


@nvrtc
def test_kernels_with_wide_indices_compile():
    import nvrtc_check

    from gconv.backends.cuda_module import source_files

    for file in source_files():
        assert nvrtc_check.compile_file(file, "float32", True, "sm_90")


COUNTING = """
import types
from cupy.cuda import compiler
# What needs a device is stood in for: its name, and loading the binary. Compiler and disk cache are CuPy's.
class Module:
    def load(self, binary):
        pass
    def _set_mapping(self, mapping):
        pass
compiler._get_arch = lambda: "90"
compiler._get_arch_for_options_for_nvrtc = lambda arch=None: ("-arch=sm_90", "cubin")
compiler.function = types.SimpleNamespace(Module=Module)
compiled = []
class Program(compiler._NVRTCProgram):
    def compile(self, *arguments, **options):
        if "KERNEL" in self.src:  # and not the empty file whose preprocessing is part of CuPy's key
            compiled.append(self)
        return super().compile(*arguments, **options)
compiler._NVRTCProgram = Program
from gconv.backends.cuda_module import compile_options, source_text
for file in ("im2col", "losses"):
    compiler._compile_module_with_cache(source_text(file), compile_options("float32", False), arch="90")
print(len(compiled))
"""


@nvrtc
def test_a_second_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "CUPY_CACHE_DIR": str(tmp_path)}
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", COUNTING], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts[0] >= 2
    assert counts[1] == 0


def test_the_sources_carry_what_they_include():
    """CuPy's cache knows a kernel by its text: an include would hide a change."""
    from gconv.backends.cuda_module import source_files, source_text

    for file in source_files():
        text = source_text(file)
        assert "#include" not in text
        assert text.count("typedef REAL real;") == 1


class DriverError(RuntimeError):
    pass


def fake_cupy(count=1, error=None, driver=13000, built=13000, nvrtc_error=None):
    def device_count():
        if error:
            raise DriverError(error)
        return count

    def nvrtc_version():
        if nvrtc_error:
            raise RuntimeError(nvrtc_error)
        return 13, 0

    runtime = types.SimpleNamespace(
        CUDARuntimeError=DriverError,
        getDeviceCount=device_count,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built,
    )
    return types.SimpleNamespace(
        cuda=types.SimpleNamespace(runtime=runtime, nvrtc=types.SimpleNamespace(getVersion=nvrtc_version))
    )


def missing():
    raise ImportError("No module named 'cupy'")


INSUFFICIENT = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
CASES = [
    ("no CuPy", missing, [], True, r"CuPy is not installed: pip install 'gconv\[cuda13\]'"),
    (
        "broken CuPy",
        missing,
        ["cupy-cuda13x"],
        True,
        "cupy-cuda13x is installed but can't be imported .*--force-reinstall cupy-cuda13x",
    ),
    (
        "two CuPys",
        fake_cupy,
        ["cupy-cuda12x", "cupy-cuda13x"],
        True,
        "cupy-cuda12x, cupy-cuda13x are installed together .*pip uninstall cupy-cuda12x cupy-cuda13x",
    ),
    (
        "no driver",
        lambda: fake_cupy(error=INSUFFICIENT),
        ["cupy-cuda13x"],
        False,
        "there is no NVIDIA driver .*apt-get install nvidia-driver",
    ),
    (
        "old driver",
        lambda: fake_cupy(error=INSUFFICIENT, driver=12040),
        ["cupy-cuda13x"],
        True,
        r"it runs CUDA 12.4, and CuPy was built for CUDA 13.0: .*pip install 'gconv\[cuda12\]'",
    ),
    (
        "broken driver",
        lambda: fake_cupy(error="cudaErrorUnknown"),
        ["cupy-cuda13x"],
        True,
        "CUDA does not start .*nvidia-smi",
    ),
    (
        "no device",
        lambda: fake_cupy(error="cudaErrorNoDevice: no CUDA-capable device"),
        ["cupy-cuda13x"],
        True,
        "the driver finds no device: see whether nvidia-smi",
    ),
    ("count 0", lambda: fake_cupy(count=0), ["cupy-cuda13x"], True, "the driver finds no device"),
    (
        "no NVRTC",
        lambda: fake_cupy(nvrtc_error="libnvrtc.so.13 not found"),
        ["cupy-cuda13x"],
        True,
        r"NVRTC, which compiles the kernels, is missing .*pip install -U 'cupy-cuda13x\[ctk\]'",
    ),
]


@pytest.mark.parametrize(
    ("cupy_found", "installed", "driver", "text"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_wrong_is_said_with_what_mends_it(monkeypatch, cupy_found, installed, driver, text):
    names = [types.SimpleNamespace(metadata={"Name": name}) for name in installed]
    monkeypatch.setattr(gpu_diagnosis, "distributions", lambda: names)
    monkeypatch.setattr(gpu_diagnosis, "_import_cupy", cupy_found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def load(name):
        if not driver:
            raise OSError(name)

    monkeypatch.setattr(gpu_diagnosis.ctypes, "CDLL", load)
    with pytest.raises(BackendUnavailableError, match=text) as caught:
        gpu_diagnosis.check_gpu()
    assert str(caught.value).endswith("or use the CPU: set GCONV_BACKEND=cpu or call gconv.use_backend('cpu')")


def test_hidden_devices_and_a_device_that_works(monkeypatch):
    monkeypatch.setattr(gpu_diagnosis, "distributions", list)
    monkeypatch.setattr(gpu_diagnosis, "_import_cupy", lambda: fake_cupy(count=0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BackendUnavailableError, match="CUDA_VISIBLE_DEVICES is ''; unset it"):
        gpu_diagnosis.check_gpu()
    monkeypatch.setattr(gpu_diagnosis, "_import_cupy", fake_cupy)
    gpu_diagnosis.check_gpu()


def test_the_benchmark_command_runs_on_host_memory(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path), "--shrink", "2000", "--rounds", "1"]
    rows = ["--samples", "1", "--rows", "copy|conv forward: 1x1|^sgd,|step, batch 50,"]
    project = Path(__file__).parents[2]
    done = subprocess.run([*command, *rows, "--gpu-on-cpu"], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert len(measured) == 5
    assert all(row["gconv"]["median_ms"] > 0 for row in measured.values()), measured
    assert "| sgd, 64,000,000 values |" in (tmp_path / "gpu.txt").read_text()
    if "gpu" not in gconv.available_backends():
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "error: the gpu backend can't run" in done.stderr


def test_importing_gconv_loads_no_cupy():
    program = "import gconv, sys, numpy; gconv.get_backend(numpy.ones(1)); print('cupy' in sys.modules)"
    environment = {**os.environ, "GCONV_BACKEND": "auto"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert gconv.__version__
