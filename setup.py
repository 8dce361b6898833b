"""Builds the Cython extension; everything else about the package stands in pyproject.toml."""

import gzip
import os
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError
from setuptools.modified import newer_group

KERNELS = Path("kernels") / "cpu"

# The flags of each instruction set for which level.cpp is compiled; the processor at hand chooses when gconv is loaded.
LEVELS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"),
        "-mprefer-vector-width=512",
    ],
}
PROBES = {
    "baseline": "typedef float V __attribute__((vector_size(16))); V f(V a) { return a < 0 ? -a : a; }",
    "avx2": "#include <immintrin.h>\n__m256 f(__m256 a) { return _mm256_fmadd_ps(a, a, a); }",
    "avx512": "#include <immintrin.h>\n__m512 f(__m512 a) { return _mm512_fmadd_ps(a, a, a); }",
}


class BuildKernels(build_ext):
    """Picks the flags that the compiler at hand accepts, and compiles the kernels for each instruction set.

    No -march=native (the build may travel) and no -ffast-math (NaN must stay NaN in pooling).
    """

    def build_extensions(self) -> None:
        """Add the flags, then build."""
        # Fused multiply-add; square roots as an instruction; selection instead of branches; no call to write two zeros.
        wanted = ["-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
        wanted.append("-fno-tree-loop-distribute-patterns")
        wanted.append(f"-ffile-prefix-map={Path.cwd()}=.")  # the same bytes wherever it is built
        flags = [flag for flag in wanted if self._compiles([flag])]
        linked = ["-fopenmp"] if self._compiles(["-fopenmp"], link=True) else []
        for extension in self.extensions:
            extension.extra_compile_args += [*flags, *linked]
            extension.extra_link_args += linked
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        """Compile the levels, side by side, then the rest."""
        flags = extension.extra_compile_args
        levels = {name: more for name, more in LEVELS.items() if self._compiles([*flags, *more], PROBES[name])}
        if "baseline" not in levels:
            raise CompileError("the kernels need GCC or Clang: this compiler has no vector types")
        with ThreadPoolExecutor() as pool:
            objects = pool.map(lambda name: self._compile_level(extension, name, levels[name]), levels)
            extension.extra_objects += [path for paths in objects for path in paths]
        extension.define_macros += [(f"GCONV_HAS_{name.upper()}", "1") for name in levels]
        super().build_extension(extension)

    def _compile_level(self, extension: Extension, name: str, flags: list[str]) -> list[str]:
        folder, source = Path(self.build_temp, name), str(KERNELS / "level.cpp")
        objects: list[str] = self.compiler.object_filenames([source], output_dir=str(folder))
        if not self.force and not newer_group([__file__, *extension.depends], objects[0]):
            return objects  # from an earlier build in this folder
        return self.compiler.compile(
            [source],
            output_dir=str(folder),
            macros=[("GCONV_LEVEL", name)],
            include_dirs=extension.include_dirs,
            extra_postargs=[*extension.extra_compile_args, *flags],
            depends=extension.depends,
        )

    def _compiles(self, flags: list[str], text: str = "int main() { return 0; }", link: bool = False) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.cpp")
            source.write_text(f"{text}\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                if link:
                    self.compiler.link_executable(
                        objects, "probe", output_dir=folder, extra_postargs=flags, target_lang="c++"
                    )
            except Exception:  # each compiler class raises its own; without the flag the build still works
                return False
        return True


class ReproducibleSdist(sdist):
    """Writes the same archive whenever it is built: with SOURCE_DATE_EPOCH that is every file's time."""

    def make_archive(
        self, base_name: str, format: str, root_dir: str | None = None, base_dir: str | None = None, **_: object
    ) -> str:
        """Pack the files in order, without their owners and times; other formats as ever."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if format != "gztar" or epoch is None or base_dir is None:
            return super().make_archive(base_name, format, root_dir, base_dir)
        path = Path(f"{base_name}.tar.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for member in sorted(path for path in Path(base_dir).rglob("*") if path.is_file()):
                entry = tar.gettarinfo(member)
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = int(epoch), 0, 0, "", ""
                entry.mode = 0o755 if entry.mode & 0o100 else 0o644
                with member.open("rb") as content:
                    tar.addfile(entry, content)
        return str(path)


def kernel_modules() -> list[Extension]:
    """Return the extension, optional: without a compiler the package installs and runs on NumPy alone."""
    extension = Extension(
        "gconv.kernels.cpu._kernels",
        sources=[str(KERNELS / "_kernels.pyx"), str(KERNELS / "dispatch.cpp")],
        depends=[str(path) for kind in ("hpp", "cpp", "pxi") for path in sorted(KERNELS.glob(f"*.{kind}"))],
        include_dirs=[str(KERNELS)],
        language="c++",
    )
    extensions = cythonize([extension], build_dir="build/cython", language_level=3)
    for built in extensions:
        built.optional = True  # cythonize makes new objects and drops the flag
    return extensions


setup(ext_modules=kernel_modules(), cmdclass={"build_ext": BuildKernels, "sdist": ReproducibleSdist})
