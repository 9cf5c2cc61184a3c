"""Compiles the kernels; everything declarative stands in pyproject.toml.

Environment switches, for testing builds:

FASTCONV_OPENMP=0   build without OpenMP (single-threaded kernels)
FASTCONV_BOUNDS=1   check every memoryview index in the kernels
FASTCONV_LEVELS=0   build for the platform's baseline alone
"""

import copy
import gzip
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import scipy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError, LinkError

HERE = Path(__file__).parent
KERNELS = [
    "_blas",
    "_build",
    "_memory",
    "_team",
    "activation",
    "capi",
    "conv",
    "direct",
    "grouped",
    "im2col",
    "interpolate",
    "layout",
    "norm",
    "optim",
    "pointwise",
    "planes",
    "pool",
    "small",
    "sparse",
    "winograd",
]
# Instruction sets beyond the platform's baseline: kernels are built once more for each, into a
# folder of that name, and fastconv.kernels chooses when it is imported.
LEVELS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512cd", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
}
# Kernels that AVX-512 is for: products, and what shares their vectors. Memory bounds the others,
# which are those for AVX2.
WIDE = ["capi", "direct", "grouped", "planes", "pool", "winograd"]
OPTIMISE = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
ONCE = ["_build", "_memory", "_team"]  # tells what the processor has; have no loops
# What Cython's memoryviews need, compiled once instead of in every kernel.
SHARED = "fastconv.kernels._cyutility"
CHECK_BOUNDS = os.environ.get("FASTCONV_BOUNDS", "0") == "1"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": CHECK_BOUNDS,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "freethreading_compatible": True,
}


def write_blas_int():
    """Take ``blas_int`` from SciPy >= 1.18, define it for older releases."""
    declarations = Path(scipy.__file__).parent / "linalg" / "cython_blas.pxd"
    if "blas_int" in declarations.read_text(encoding="utf-8"):
        text = "from scipy.linalg.cython_blas cimport blas_int\n"
    else:
        text = "ctypedef int blas_int\n"
    target = HERE / "fastconv" / "kernels" / "_blas_int.pxd"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def date_archives():
    """Give archives the date of the commit, so that all builds of it are the same bytes."""
    command = ["git", "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return  # not a checkout
    os.environ.setdefault("SOURCE_DATE_EPOCH", done.stdout.strip())


class ArchiveSource(sdist):
    """Makes archives that tell what the files are, not who packed them where and when."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owner):
        if format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, **owner)
        date = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def entry(info):
            info.mtime = date
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            return info

        self.mkpath(self.dist_dir)
        path = f"{base_name}.tar.gz"
        with (
            gzip.GzipFile(path, "wb", mtime=date) as file,
            tarfile.open(fileobj=file, mode="w") as archive,
        ):
            archive.add(base_dir, filter=entry)
        return path


class BuildKernels(build_ext):
    """Adds optimisation flags, OpenMP and instruction sets where the compiler has them."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        msvc = self.compiler.compiler_type == "msvc"
        optimise = ["/O2"] if msvc else OPTIMISE
        compile_args, link_args = self.openmp_flags(msvc)
        link_args = link_args + ([] if sys.platform in ("win32", "darwin") else ["-Wl,-s"])
        if not msvc:
            # Some interpreters have what they link look for libraries in their own folder, which
            # other machines do not have, and which kernels do not need.
            command = self.compiler.linker_so
            self.compiler.linker_so = [flag for flag in command if "-rpath" not in flag]
        levels = {level: flags for level, flags in LEVELS.items() if self.builds_level(level)}
        self.extensions = [e for e in self.extensions if level_of(e) in {"": [], **levels}]
        for extension in self.extensions:
            extension.extra_compile_args += optimise + compile_args
            extension.extra_compile_args += levels.get(level_of(extension), [])
            extension.extra_link_args += link_args
        # The longest first, so that none is waited for.
        self.extensions.sort(key=lambda e: os.path.getsize(e.sources[0]), reverse=True)
        super().build_extensions()
        for level in levels:
            self.drop_if_incomplete([e for e in self.extensions if level_of(e) == level])

    def drop_if_incomplete(self, kernels):
        """Leave a level out whose kernels do not all compile: they share the vectors' length."""
        paths = [Path(self.get_ext_fullpath(extension.name)) for extension in kernels]
        if not all(path.exists() for path in paths):
            self.extensions = [e for e in self.extensions if e not in kernels]
            for path in paths:
                path.unlink(missing_ok=True)

    def build_extension(self, extension):
        # The levels' objects come from the same sources: keep them apart.
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, level_of(extension))
        build_ext.build_extension(own, extension)

    def copy_extensions_to_source(self):
        for level in {level_of(extension) for extension in self.extensions}:
            self.mkpath(f"fastconv/kernels/{level}")
        super().copy_extensions_to_source()

    def builds_level(self, level):
        """Whether the compiler has this instruction set, and can ask for it at run time."""
        if os.environ.get("FASTCONV_LEVELS", "1") == "0":
            return False
        asked = " && ".join(
            f'__builtin_cpu_supports("{flag.removeprefix("-m")}")' for flag in LEVELS[level]
        )
        return self.builds(f"int main(void) {{ return {asked}; }}\n", LEVELS[level], [])

    def openmp_flags(self, msvc):
        """(compile, link) flags of a compiler that builds an OpenMP program, or none."""
        if os.environ.get("FASTCONV_OPENMP", "1") == "0":
            return [], []
        source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        for compile_args, link_args in (
            [(["/openmp"], [])]
            if msvc
            else [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]
        ):
            if self.builds(source, compile_args, link_args):
                return compile_args, link_args
        print("fastconv: no OpenMP found, building single-threaded kernels")
        return [], []

    def builds(self, source, compile_args, link_args):
        """Whether the compiler makes a program of `source` with these flags."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.c"
            path.write_text(source, encoding="utf-8")
            try:
                objects = self.compiler.compile(
                    [str(path)], output_dir=folder, extra_postargs=compile_args
                )
                self.compiler.link_executable(
                    objects, str(Path(folder) / "probe"), extra_postargs=link_args
                )
            except (CompileError, LinkError):
                return False
        return True


def level_of(extension):
    """The folder below fastconv/kernels, empty for the baseline."""
    return "/".join(extension.name.split(".")[2:-1])


def extensions():
    """Every kernel for the baseline, and once more for each level it gains by, from the same C."""
    utility = Extension(SHARED, [f"{SHARED.replace('.', '/')}.c"])
    utility, *baseline = cythonize(
        [utility]
        + [
            Extension(
                f"fastconv.kernels.{name}",
                [f"fastconv/kernels/{name}.pyx"],
                include_dirs=["fastconv/kernels", "fastconv/include"],
                depends=[str(header) for header in Path("fastconv").glob("*/*.h")],
                define_macros=[("FASTCONV_BOUNDS", str(int(CHECK_BOUNDS)))],
            )
            for name in KERNELS
        ],
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
    )
    levels = [
        Extension(
            f"fastconv.kernels.{level}.{name}",
            extension.sources,
            include_dirs=extension.include_dirs,
            depends=extension.depends,
            define_macros=extension.define_macros,
            optional=True,
        )
        for level in LEVELS
        for name, extension in zip(KERNELS, baseline, strict=True)
        if name in (WIDE if level == "avx512" else KERNELS) and name not in ONCE
    ]
    return [utility, *baseline, *levels]


if __name__ == "__main__":  # builds run this file; a test reads its constants
    write_blas_int()
    date_archives()
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels, "sdist": ArchiveSource})
