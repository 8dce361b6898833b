"""Compiles a .cu file and the emulator's runtime into a shared library, kept in a cache by its content."""

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("CUDA_ON_CPU_CACHE", Path(tempfile.gettempdir(), f"cuda-on-cpu-{os.getuid()}")))
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-gdwarf-4", "-fPIC", "-fno-extern-tls-init", "-fvisibility=hidden", f"-I{HERE}"]
RUNTIME = ("fibers.cpp", "checks.cpp")
CHECKS = [
    "-O1",
    # instrumentation only: checks.cpp defines what it calls
    "-fsanitize=thread,alignment,bounds,shift,integer-divide-by-zero,signed-integer-overflow",
    "-Werror=uninitialized",
    "-Werror=maybe-uninitialized",
]
KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^()]*\)\s*)?(\w+)\s*\(')


def run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"compile error:\n{done.stderr[:8000]}")
    return done.stdout


def kernel_names(code: str, options: list[str]) -> list[str]:
    """Return the extern "C" kernels of a source, also those that macros make."""
    return KERNEL.findall(run([COMPILER, "-std=c++17", "-E", "-P", "-x", "c++", *options, "-"], code))


def _key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def build(code: str, options: tuple[str, ...], checked: bool) -> tuple[Path, list[str]]:
    """Return the library of a source, and its kernels' names; ``checked`` adds the memory checks."""
    defines = [option for option in options if option.startswith(("-D", "-I"))]
    runtime = "".join((HERE / name).read_text() for name in ("device.hpp", "runtime.hpp", *RUNTIME))
    flags = [*FLAGS, *(["-DEMULATOR_CHECKS"] if checked else [])]
    CACHE.mkdir(parents=True, exist_ok=True)
    stem = CACHE / _key(code, runtime, flags, CHECKS, defines, COMPILER)
    library, listing = stem.with_suffix(".so"), stem.with_suffix(".names")
    if not (library.exists() and listing.exists()):
        names = kernel_names(code, defines)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            wrappers = "\n".join(f"EMU_KERNEL({name})" for name in names)
            source = Path(folder, "kernels.cpp")
            source.write_text(f'#include "device.hpp"\n{code}\n#line 1 "wrappers"\n{wrappers}\n')
            quiet = ["-Wall", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unknown-pragmas"]
            # Variables hold garbage at first, and a product and a sum are rounded each, as written.
            build_flags = [*flags, *(CHECKS if checked else ["-O2"]), *quiet, "-ftrivial-auto-var-init=pattern"]
            run([COMPILER, *build_flags, "-ffp-contract=off", *defines, "-c", str(source), "-o", f"{folder}/k.o"])
            objects = [str(_runtime_object(name, runtime, flags)) for name in RUNTIME]
            run([COMPILER, "-shared", "-Wl,-Bsymbolic", f"{folder}/k.o", *objects, "-o", f"{folder}/k.so"])
            Path(folder, "names").write_text("\n".join(names))
            Path(folder, "names").replace(listing)
            Path(folder, "k.so").replace(library)
    return library, listing.read_text().split()


def _runtime_object(name: str, runtime: str, flags: list[str]) -> Path:
    built = CACHE / f"{name}-{_key(runtime, flags, COMPILER)}.o"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            run([COMPILER, *flags, "-O2", "-c", str(HERE / name), "-o", f"{folder}/{name}.o"])
            Path(folder, f"{name}.o").replace(built)
    return built
