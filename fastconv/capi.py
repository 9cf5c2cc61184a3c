"""The C functions of fastconv, as ctypes and builds of extensions find them.

The header ``fastconv.h`` in the folder :func:`get_include` declares them, for C, C++, Fortran and
Cython; :func:`load` has them for ctypes.
"""

import ctypes
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

__all__ = ["get_include", "load"]

_TYPES = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "double": ctypes.c_double,
    "char": ctypes.c_char,
}


def get_include():
    """The folder of ``fastconv.h`` and ``fastconv.f90``.

    Returns
    -------
    str

    Examples
    --------
    >>> import fastconv, os
    >>> sorted(os.listdir(fastconv.get_include()))
    ['fastconv.f90', 'fastconv.h']
    """
    return str(Path(__file__).parent / "include")


@cache
def load():
    """What ``fastconv.h`` declares, for ctypes.

    Returns
    -------
    types.SimpleNamespace
        The functions, with the types of their arguments; the structures ``array``, ``conv`` and
        ``pool``; the constants without their prefix; and ``table``, the address of C's table of
        functions, for other languages. ctypes releases the GIL while a function runs.

    Raises
    ------
    ImportError
        If this build has no C functions: they need GCC or Clang.

    Examples
    --------
    >>> import fastconv
    >>> c = fastconv.capi.load()
    >>> c.output_size(32, 3, 2, 1, 1, 1)
    16
    >>> c.status_text(c.BAD_THREADS)
    b'threads must be from 1 to 4096'
    """
    from fastconv.kernels import capi

    header = Path(get_include(), "fastconv.h").read_text(encoding="utf-8")
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    types = dict(_TYPES)
    for body, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", header, re.S):
        fields = [_field(declaration, types) for declaration in body.split(";")[:-1]]
        types[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    constants = re.findall(r"FASTCONV_(\w+) = (-?\d+)", header)
    table = _address(capi._C_API)
    functions = types["fastconv_api"].from_address(table)
    names = {
        **{name: int(value) for name, value in constants},
        **{name.removeprefix("fastconv_"): types[name] for name in types.keys() - _TYPES.keys()},
        **{name: getattr(functions, name) for name, _ in functions._fields_},
    }
    return SimpleNamespace(table=table, **names)


def _address(capsule):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(capsule, b"fastconv.kernels.capi._C_API")


def _field(declaration, types):
    """(name, type) of a member: a value, an array or a pointer to a function."""
    if function := re.fullmatch(r"(.*)\(\*(\w+)\)\((.*)\)", declaration.strip(), re.S):
        result, name, arguments = function.groups()
        arguments = [_type(argument, types) for argument in arguments.split(",")]
        return name, ctypes.CFUNCTYPE(_type(result, types), *arguments)
    kind, name, size = re.fullmatch(r"(.*?)(\w+)(\[\d+\])?", declaration.strip(), re.S).groups()
    kind = _type(kind, types)
    return name, kind * int(size[1:-1]) if size else kind


def _type(text, types):
    """The type of a declaration such as ``const double *name``, the name being optional."""
    words = text.replace("const", "").replace("*", " * ").split()
    if "*" not in words:
        return types[words[0]]
    known = {"void": ctypes.c_void_p, "char": ctypes.c_char_p}
    return known.get(words[0]) or ctypes.POINTER(types[words[0]])
