"""Builds heat_cython in this folder: python setup.py build_ext --inplace"""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastconv

heat = Extension("heat_cython", ["heat_cython.pyx"], include_dirs=[fastconv.get_include()])
setup(name="heat", ext_modules=cythonize([heat]))
