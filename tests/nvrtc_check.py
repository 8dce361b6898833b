"""Compiles every CUDA kernel for several GPUs with NVRTC, without a device, and reads what each kernel takes.

    python -m tests.nvrtc_check            a table of registers and shared memory, as docs/gpu.md has it

Needs CuPy, NVRTC and cuobjdump: pip install "cupy-cuda13x[ctk]" nvidia-cuda-cuobjdump.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")
DTYPES = ("float32", "float64")


def compile_file(file, dtype, wide, architecture):
    """Return the binary of one .cu file; an error is NVRTC's log."""
    from cupy_backends.cuda.libs import nvrtc

    from gconv.backends.cuda_module import compile_options, source_text

    program = nvrtc.createProgram(source_text(file), f"{file}.cu", [], [])
    try:
        nvrtc.compileProgram(program, (*compile_options(dtype, wide), f"-arch={architecture}"))
    except nvrtc.NVRTCError:
        raise AssertionError(f"{file}.cu, {dtype}, {architecture}:\n{nvrtc.getProgramLog(program)}") from None
    # CuPy takes the last byte for a terminating NUL and drops it
    binary = nvrtc.getCUBIN(program) + b"\0"
    nvrtc.destroyProgram(program)
    return binary


def cuobjdump():
    site = Path(sysconfig.get_paths()["purelib"])
    wheels = sorted(site.glob("nvidia/*/bin/cuobjdump"))
    return shutil.which("cuobjdump") or (str(wheels[-1]) if wheels else None)


def resources(binary):
    """Return {kernel: {"REG": ..., "STACK": ..., "SHARED": ..., "LOCAL": ...}} in registers and bytes."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [cuobjdump(), "--dump-resource-usage", file.name]
        text = subprocess.run(command, text=True, check=True, capture_output=True).stdout
    return {
        name: {key: int(value) for key, value in re.findall(r"(\w+)(?:\[0\])?:(\d+)", usage)}
        for name, usage in re.findall(r"Function (\S+):\s*\n\s*(.+)", text)
    }


def main():
    from gconv.backends.cuda_module import source_files

    table = {}
    for architecture in ARCHITECTURES:
        for file in source_files():
            for dtype in DTYPES:
                for kernel, usage in resources(compile_file(file, dtype, False, architecture)).items():
                    table.setdefault((file, kernel), {})[architecture] = usage
    print(f"| file | kernel | {' | '.join(ARCHITECTURES)} |\n|---|---|{'---|' * len(ARCHITECTURES)}")
    spilled = []
    for (file, kernel), by_architecture in table.items():
        cells = []
        for architecture in ARCHITECTURES:
            usage = by_architecture[architecture]
            # from sm_90 on 1 KB of the figure is the system's
            cells.append(f"{usage['REG']}, {usage['SHARED']}")
            if usage["LOCAL"] or usage["STACK"]:
                spilled.append(f"{kernel} on {architecture}: {usage}")
        print(f"| {file}.cu | `{kernel}` | {' | '.join(cells)} |")
    if spilled:
        sys.exit("registers spilled to memory:\n" + "\n".join(spilled))


if __name__ == "__main__":
    main()
