"""Builds the Cython extension; everything else about the package stands in pyproject.toml."""

import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("kernels") / "cpu"


class BuildKernels(build_ext):
    """Picks the flags that the compiler at hand accepts.

    No -march=native (the build may travel) and no -ffast-math (NaN must stay NaN in pooling).
    """

    def build_extensions(self) -> None:
        """Add the flags, then build."""
        if self.compiler.compiler_type == "msvc":
            wanted = [["/O2"], ["/std:c++17"], ["/openmp"]]
        else:
            wanted = [["-O3"], ["-std=c++17"], ["-fopenmp"]]
        for flags in wanted:
            if self._compiles(flags):
                for extension in self.extensions:
                    extension.extra_compile_args += flags
                    if flags == ["-fopenmp"]:
                        extension.extra_link_args += flags
        super().build_extensions()

    def _compiles(self, flags: list[str]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.cpp")
            source.write_text("int main() { return 0; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                link_flags = flags if flags == ["-fopenmp"] else None
                self.compiler.link_executable(
                    objects, "probe", output_dir=folder, extra_postargs=link_flags, target_lang="c++"
                )
            except Exception:  # each compiler class raises its own; without the flag the build still works
                return False
        return True


def kernel_modules() -> list[Extension]:
    """Return the extension, optional: without a compiler the package installs and runs on NumPy alone."""
    extension = Extension(
        "gconv.kernels.cpu._kernels",
        sources=[str(KERNELS / "_kernels.pyx")],
        depends=[str(path) for path in sorted(KERNELS.glob("*.hpp"))],
        include_dirs=[str(KERNELS)],
        language="c++",
    )
    extensions = cythonize([extension], build_dir="build/cython", language_level=3)
    for built in extensions:
        built.optional = True  # cythonize makes new objects and drops the flag
    return extensions


setup(ext_modules=kernel_modules(), cmdclass={"build_ext": BuildKernels})
