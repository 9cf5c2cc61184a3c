"""Compiles the kernels; everything declarative stands in pyproject.toml.

Environment switches, for testing builds:

FASTCONV_OPENMP=0   build without OpenMP (single-threaded kernels)
FASTCONV_BOUNDS=1   check every memoryview index in the kernels
"""

import os
import tempfile
from pathlib import Path

import scipy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

HERE = Path(__file__).parent
KERNELS = [
    "_blas",
    "_build",
    "activation",
    "conv",
    "depthwise",
    "direct",
    "im2col",
    "layout",
    "norm",
    "pool",
    "winograd",
]
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


class BuildKernels(build_ext):
    """Adds optimisation flags and OpenMP where the compiler has them."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        msvc = self.compiler.compiler_type == "msvc"
        optimise = ["/O2"] if msvc else ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
        compile_args, link_args = self.openmp_flags(msvc)
        for extension in self.extensions:
            extension.extra_compile_args += optimise + compile_args
            extension.extra_link_args += link_args
        super().build_extensions()

    def openmp_flags(self, msvc):
        """(compile, link) flags of a compiler that builds an OpenMP program, or none."""
        if os.environ.get("FASTCONV_OPENMP", "1") == "0":
            return [], []
        for compile_args, link_args in (
            [(["/openmp"], [])]
            if msvc
            else [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]
        ):
            if self.builds_openmp(compile_args, link_args):
                return compile_args, link_args
        print("fastconv: no OpenMP found, building single-threaded kernels")
        return [], []

    def builds_openmp(self, compile_args, link_args):
        source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "openmp.c"
            path.write_text(source, encoding="utf-8")
            try:
                objects = self.compiler.compile(
                    [str(path)], output_dir=folder, extra_postargs=compile_args
                )
                self.compiler.link_executable(
                    objects, str(Path(folder) / "openmp"), extra_postargs=link_args
                )
            except (CompileError, LinkError):
                return False
        return True


write_blas_int()
setup(
    ext_modules=cythonize(
        [
            Extension(
                f"fastconv.kernels.{name}",
                [f"fastconv/kernels/{name}.pyx"],
                include_dirs=["fastconv/kernels"],
                depends=[str(header) for header in Path("fastconv/kernels").glob("*.h")],
                define_macros=[("FASTCONV_BOUNDS", str(int(CHECK_BOUNDS)))],
            )
            for name in KERNELS
        ],
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
    ),
    cmdclass={"build_ext": BuildKernels},
)
