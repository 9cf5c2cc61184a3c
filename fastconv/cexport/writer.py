"""``export_c``: a model as C, Fortran and CMake files, with a test of its own."""

import math
import re
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fastconv import _checks
from fastconv.cexport.emission import Emission, Unsupported, number
from fastconv.cexport.emitters import EMITTERS
from fastconv.compiler.plan import InferencePlan, _arrays, compile, describe
from fastconv.compiler.program import Stage
from fastconv.compiler.step import Spec
from fastconv.io import replacement

__all__ = ["export_c"]

WEIGHTS = ("arrays", "file")
LIMITS = {"float32": 1e-5, "float64": 1e-12}  # of errors, by the largest value
PATH = "      character(kind=c_char), intent(in) :: path(*)  ! ends with c_null_char\n"
MAGIC, VERSION = b"fastconv weights", 1
STORED = 2  # images of the self-test
# So many images at a time pass through the network, as far as their values take so many bytes: more
# would leave the cache, fewer read the weights of dense layers more often.
MOST_IMAGES, CACHE = 64, 1 << 20
# What the names of the files would hide from the C that includes them.
TAKEN = {"cblas", "math", "omp", "stdint", "stdio", "stdlib", "string", "strings"}


def export_c(model, example, folder, *, name="net", weights="arrays"):
    """Write a trained network as C99 that needs no Python, and no library but C's own.

    Parameters
    ----------
    model : Module, callable or InferencePlan
        As for :func:`fastconv.compile`.
    example : ndarray or tuple of ndarray
        The inputs, (N, ...) each, of the dtype that the model's parameters have. The C takes any
        number of images of these sizes; its convolutions are chosen as the plan's for N of them.
    folder : str or os.PathLike
        Made if there is none; files of the same names in it are replaced, all or none.
    name : str, default "net"
        What the names of files and functions begin with: a letter, then letters, digits and
        underscores, in lower case.
    weights : {"arrays", "file"}, default "arrays"
        Compiled into the program, or in a file ``net.weights`` that ``net_init`` reads.

    Returns
    -------
    list of pathlib.Path
        The files: ``net.h``, ``net.c``, ``net_weights.c`` or ``net.weights``, ``net.f90``,
        ``net_test.c`` and ``CMakeLists.txt``.

    Raises
    ------
    ValueError
        If the model has operators that have no C (the message lists them), images that are not
        treated apart, or something else that :func:`fastconv.compile` refuses; if `name` is no
        such name. Nothing is written.
    TypeError
        If `example` does not hold arrays of one dtype, float32 or float64.
    NotADirectoryError, FileNotFoundError
        If `folder` is a file, or the folder that it is to be made in does not exist.

    Notes
    -----
    ``docs/export_c.md`` has the functions, how to build them, and what is covered.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, fastconv
    >>> net = fastconv.models.lenet(1, 10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = fastconv.export_c(net, np.zeros((1, 1, 28, 28), np.float32), folder)
    ...     [file.name for file in files][:3]
    ['net.h', 'net.c', 'net.f90']
    """
    folder = _folder(folder)
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_]{0,39}", name) or name in TAKEN:
        raise ValueError(
            "name must be a letter and up to 39 letters, digits and underscores, in lower case, "
            f"and none of {', '.join(sorted(TAKEN))}, got {name!r}"
        )
    _checks.one_of("weights", weights, WEIGHTS)
    examples = _arrays("example", example)
    plan = model if isinstance(model, InferencePlan) else compile(model, example)
    dtype = _dtype(plan)
    _check_images(plan, examples)
    stored, truth, limit = _truth(plan, examples)
    emission = _emit(plan, dtype)
    texts = _texts(plan, emission, name, weights)
    texts |= {f"{name}_test.c": _test(name, weights, stored, truth, limit)}
    _write(folder, texts)
    return [folder / file for file in texts]


def _folder(folder):
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder must be a folder, {folder} is a file")
    if not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"folder cannot be made: there is no folder {folder.parent}")
    return folder


def _dtype(plan):
    dtypes = set(plan.input_dtypes)
    if len(dtypes) > 1 or not dtypes <= {np.dtype(t) for t in _checks.FLOATS}:
        raise TypeError(
            "example must hold arrays of one dtype, float32 or float64, got "
            f"{', '.join(sorted(map(str, dtypes)))}"
        )
    return dtypes.pop()


def _check_images(plan, examples):
    """Raise unless the example has images, as many in each array."""
    if len(examples) != len(plan.input_shapes):
        raise ValueError(
            f"example must hold {len(plan.input_shapes)} arrays, as the plan's, got {len(examples)}"
        )
    for i, (x, shape) in enumerate(zip(examples, plan.input_shapes, strict=True)):
        if x.ndim != len(shape) or x.shape[1:] != shape[1:]:
            raise ValueError(f"example {i} must have the plan's shape {shape}, got {x.shape}")
    counts = {x.shape[:1] for x in examples}
    if len(counts) > 1 or counts <= {(), (0,)}:
        raise ValueError(
            "example must hold as many images in each array, at least one, got shapes "
            f"{[x.shape for x in examples]}"
        )


def _truth(plan, examples):
    """Some images, what the network makes of them by the exact path, and the limit of errors.

    Deep networks may amplify rounding beyond the usual one: where the plan's own algorithms differ
    by more than that already, the limit is twice as much.
    """
    rng = np.random.default_rng(0)
    stored = []
    for x in examples:
        x = x[:STORED]
        constant = x.size and (x == x.flat[0]).all()
        stored.append(rng.standard_normal(x.shape).astype(x.dtype) if constant else np.array(x))
    found = []
    for graph in (_exact(plan.graph), plan.graph):
        results = InferencePlan(graph, [x.shape for x in stored])(*stored)
        found.append(results if isinstance(results, tuple) else (results,))
    limit = LIMITS[stored[0].dtype.name]
    for y, other in zip(*found, strict=True):
        known = np.isfinite(y) & np.isfinite(other)
        difference = np.abs(y[known] - other[known]).max(initial=0)
        largest = np.abs(y[known]).max(initial=0)
        limit = max(limit, 2 * float(difference) / max(float(largest), 1e-300))
    return stored, found[0], limit


def _exact(graph):
    """The graph with every convolution by the definition."""
    exact = {"algorithm": "gemm"}
    nodes = [
        node._replace(options=node.options | exact) if "algorithm" in node.options else node
        for node in graph.nodes
    ]
    return graph._replace(nodes=nodes)


def _stage(plan, count):
    shapes = zip(plan.graph.inputs, plan.input_shapes, plan.input_dtypes, strict=True)
    inputs = {value: Spec((count, *shape[1:]), dtype) for value, shape, dtype in shapes}
    try:
        return Stage(plan.graph, inputs, dict.fromkeys(_made(plan.graph)))
    except ValueError as error:
        raise ValueError(f"the model must take any number of images: {error}") from error


def _made(graph):
    return [value for node in graph.nodes for value in node.made()]


def _emit(plan, dtype):
    """The :class:`Emission` of all steps, for an image."""
    stage, two = _stage(plan, 1), _stage(plan, 2)
    emission, problems = Emission(stage, dtype, plan.input_shapes[0][0]), []
    for node, step in zip(stage.graph.nodes, stage.steps, strict=True):
        emission.calls.append(f"/* {describe(node)}: {_sizes(step.shape)} */")
        try:
            _check(node, step, stage, two, dtype)
            if not step.alias:
                EMITTERS.get(node.operator, _unknown)(emission, node, step)
        except Unsupported as error:
            problems.append(f"{describe(node)} {error}".strip())
    problems += ["an output that depends on no input"] * any(
        value in stage.known for value in stage.graph.outputs
    )
    if problems:
        raise ValueError(f"there is no C for: {'; '.join(dict.fromkeys(problems))}")
    return emission


def _unknown(emission, node, step):
    raise Unsupported("")


def _check(node, step, stage, two, dtype):
    """Raise unless images are treated apart, in the dtype of all."""
    for value in node.made():
        spec = stage.specs[value]
        if spec.dtype != dtype:
            raise Unsupported(f"that gives {spec.dtype}")
        if two.specs[value].shape != (2, *spec.shape[1:]) or spec.shape[:1] != (1,):
            raise Unsupported(f"that gives {two.specs[value].shape} for two images")
    if not step.by_image and node.operator != "call":  # of which the emitters know it
        raise Unsupported("that mixes images")


# Files --------------------------------------------------------------------------------------------


def _read(folder, name):
    return (Path(__file__).parent / folder / name).read_text(encoding="utf-8")


def _fill(template, **words):
    """A template with its words, of which some contain others."""
    text = _read("templates", template)
    for key, word in words.items():
        text = text.replace(f"@{key}@", word)
    left = re.search("@[a-z_]+@|@NAME@", text)
    assert left is None, left
    return text


def _texts(plan, emission, name, weights):
    """{file: content} but for the test."""
    from fastconv import __version__

    graph, stage, dtype = plan.graph, emission.stage, emission.dtype
    in_file = weights == "file"
    ends = [
        (f"{side}{_suffix(values, i)}", stage.specs[value])
        for side, values in (("input", graph.inputs), ("output", graph.outputs))
        for i, value in enumerate(values)
    ]
    types = {side: "const " * (side[0] == "i") + f"{name}_real *{side}" for side, _ in ends}
    each = stage.size // dtype.itemsize
    values = _values(emission)
    words = {
        "name": name,
        "NAME": name.upper(),
        "real": {"float32": "float", "float64": "double"}[dtype.name],
        "kind": {"float32": "c_float", "float64": "c_double"}[dtype.name],
        "block": str(min(max(CACHE // max(stage.size, 1), 1), MOST_IMAGES)),
        "arguments": ", ".join(types.values()),
        "version": __version__,
    }
    files = {
        f"{name}.h": _fill(
            "model.h",
            sizes="\n".join(
                f"#define {name.upper()}_{side.upper()}_SIZE {math.prod(spec.shape[1:])} "
                f"/* {_sizes(spec.shape[1:])} */"
                for side, spec in ends
            ),
            path=", const char *path" if in_file else "",
            **{"from": f" from the file {name}.weights, wherever it is now" if in_file else ""},
            **words,
        ),
        f"{name}.c": _fill(
            "model.c",
            includes="\n".join(["#include <stdio.h>"] * in_file + _cblas(emission)),
            runtime="\n".join(_read("runtime", f"{part}.c") for part in _parts(emission)),
            definitions="\n".join(emission.definitions),
            load=_load(emission, name, values) if in_file else _extern(name),
            each=str(each),
            scratch=str(emission.scratch),
            largest=str(max(each, *(spec.size for _, spec in ends))),
            calls="\n".join(f"    {call}" for call in _steps(plan, emission, ends)),
            nulls=" || ".join(f"!{side}" for side, _ in ends),
            parts=", ".join(f"{side} + done * {spec.size}" for side, spec in ends),
            path=", const char *path" if in_file else "",
            null_path=" || !path" if in_file else "",
            set_weights=_indented(_set_weights(name, in_file)),
            unpack=_indented(_unpack(emission)),
            transformed="    const real *const u = model->transformed;" * bool(emission.transforms),
            free="    free((void *)(uintptr_t)model->weights);" if in_file else "",
            **words,
        ),
        f"{name}.f90": _fill(
            "model.f90",
            sizes="\n".join(
                f"  integer(c_int64_t), parameter :: {name}_{side}_size = "
                f"{math.prod(spec.shape[1:])}_c_int64_t  ! {_sizes(spec.shape[:0:-1])}"
                for side, spec in ends
            ),
            path_name=", path" if in_file else "",
            path_type=PATH * in_file,
            names=", ".join(side for side, _ in ends),
            types="\n".join(
                f"      real({name}_real), intent({side.rstrip('_0123456789')[:-3]}) :: {side}(*)"
                for side, _ in ends
            ),
            **words,
        ),
        "CMakeLists.txt": _fill(
            "CMakeLists.txt",
            sources=f"{name}.c" + f" {name}_weights.c" * (not in_file),
            **words,
        ),
    }
    if in_file:
        return files | {f"{name}.weights": _header(values) + values.tobytes()}
    return files | {f"{name}_weights.c": _compiled_in(name, values)}


def _suffix(values, i):
    return f"_{i}" if len(values) > 1 else ""


def _sizes(shape):
    return " x ".join(map(str, shape)) or "1"


def _values(emission):
    """All weights as one array, little-endian; never empty, for C has no such arrays."""
    arrays = emission.arrays or [np.zeros(1, emission.dtype)]
    return np.concatenate(arrays).astype(emission.dtype.newbyteorder("<"))


def _parts(emission):
    """The runtime's files, those first that others need."""
    order = (
        "base", "activation", "conv", "boxes", "dense", "depthwise", "product", "winograd",
    )  # fmt: skip
    needed = {"base": None, **emission.parts}
    return [*(part for part in order if part in needed), *(p for p in needed if p not in order)]


def _cblas(emission):
    if not emission.unpacked:
        return []
    kind = {"float32": "s", "float64": "d"}[emission.dtype.name]
    return [
        "#ifdef @NAME@_USE_CBLAS",
        "#ifndef @NAME@_CBLAS_HEADER",
        "#define @NAME@_CBLAS_HEADER <cblas.h>",
        "#endif",
        "#include @NAME@_CBLAS_HEADER",
        f"#define CBLAS_GEMM cblas_{kind}gemm",
        "#define PRODUCT_BOX multiply_box",
        "#define PLAIN(at) (model->plain + (at))",
        "#else",
        "#define PRODUCT_BOX sum_box",
        "#define PLAIN(at) NULL",
        "#endif",
    ]


def _steps(plan, emission, ends):
    """The statements of a run: inputs to channels-last memory, steps, and outputs from there."""
    graph, inputs = plan.graph, len(plan.graph.inputs)
    for (side, spec), value in zip(ends[:inputs], graph.inputs, strict=True):
        if value in emission.stage.homes:
            channels, places = _matrix(spec)
            place = emission.at(value)
            yield f"transpose(n, {channels}, {places}, {side}, {place}, threads);"
    yield from emission.calls
    for (side, spec), value in zip(ends[inputs:], graph.outputs, strict=True):
        channels, places = _matrix(spec)
        place = emission.at(value)
        yield f"transpose(n, {places}, {channels}, {place}, {side}, threads);"


def _matrix(spec):
    """(channels, places) of an image; of what lies as it does in C, a single channel."""
    if not 3 <= len(spec.shape) <= 5:
        return 1, spec.size
    return spec.shape[1], spec.size // max(spec.shape[1], 1)


def _set_weights(name, in_file):
    if not in_file:
        return [f"made->weights = {name}_weights;"]
    return [
        "int status = @NAME@_NO_MEMORY;",
        "real *weights = (real *)malloc((size_t)WEIGHTS * sizeof(real));",
        "if (weights) status = load_weights(path, weights);",
        "made->weights = weights;",
        "if (status) {",
        "    @name@_free(made);",
        "    return status;",
        "}",
    ]


def _unpack(emission):
    """What is made of the weights, besides."""
    lines = ["const real *const w = made->weights;"] * bool(emission.transforms)
    if emission.transforms:
        lines += _made_of("transformed", emission.transformed, emission.transforms)
    if emission.unpacked:
        lines += [
            "#ifdef @NAME@_USE_CBLAS",
            *["const real *const w = made->weights;"] * (not emission.transforms),
            *_made_of("plain", emission.plain, emission.unpacked),
            "#endif",
        ]
    return lines


def _made_of(field, size, statements):
    return [
        f"real *const {field} = (real *)malloc({size} * sizeof(real));",
        f"if (!{field}) {{",
        "    @name@_free(made);",
        "    return @NAME@_NO_MEMORY;",
        "}",
        f"made->{field} = {field};",
        *statements,
    ]


def _indented(lines):
    return "\n".join(line if line.startswith("#") else f"    {line}" for line in lines)


def _extern(name):
    return (
        '#ifdef __cplusplus\nextern "C" {\n#endif\n'
        f"extern const {name}_real {name}_weights[];\n#ifdef __cplusplus\n}}\n#endif\n"
    )


def _literals(values):
    """Numbers of C, some to a line; each reads back as the same bits."""
    values = np.asarray(values)
    digits, suffix = (9, "f") if values.dtype.itemsize == 4 else (17, "")
    if np.isfinite(values).all():
        texts = [f"{v:.{digits}g}" for v in values.reshape(-1).tolist()]
        texts = [f"{t if '.' in t or 'e' in t else t + '.'}{suffix}" for t in texts]
    else:
        texts = [number(v) for v in values.reshape(-1)]
    return ",\n".join(", ".join(texts[i : i + 8]) for i in range(0, len(texts), 8))


def _compiled_in(name, values):
    return (
        f'#include "{name}.h"\n\n#include <math.h>\n\n{_extern(name)}\n'
        f"const {name}_real {name}_weights[{values.size}] = {{\n{_literals(values)}}};\n"
    )


def _header(values):
    checksum = zlib.crc32(values.tobytes())
    return MAGIC + struct.pack("<HHQI", VERSION, values.itemsize, values.size, checksum)


def _load(emission, name, values):
    return _fill(
        "load.c",
        count=str(values.size),
        header=", ".join(map(str, _header(values))),
        checksum=str(zlib.crc32(values.tobytes())),
        name=name,
        NAME=name.upper(),
    )


def _test(name, weights, stored, truth, limit):
    """The program that compares with stored results."""
    sides = [
        *((f"input{_suffix(stored, i)}", x) for i, x in enumerate(stored)),
        *((f"truth{_suffix(truth, i)}", y) for i, y in enumerate(truth)),
    ]
    outputs = [f"output{_suffix(truth, i)}" for i in range(len(truth))]
    inputs = [side for side, _ in sides[: len(stored)]]
    in_file = weights == "file"
    compares = [
        line
        for i, (side, output) in enumerate(zip(sides[len(stored) :], outputs, strict=True))
        for line in (
            f'wrong |= compare("{output}", {output}[0], {side[0]}, {truth[i].size});',
            f"if (memcmp({output}[0], {output}[1], sizeof {output}[0]) != 0) {{",
            f'    printf("{name} {output}: other bits on two threads: FAIL\\n");',
            "    wrong = 1;",
            "}",
        )
    ]
    return _fill(
        "test.c",
        stored="\n".join(
            f"static const {name}_real {side}[{x.size}] = {{\n{_literals(x)}}};\n"
            for side, x in sides
        ),
        images=str(len(stored[0])),
        limit=f"{limit:.3g}",
        main="int count, char **arguments" if in_file else "void",
        argument=f', count > 1 ? arguments[1] : "{name}.weights"' if in_file else "",
        outputs="\n".join(
            f"    static {name}_real {output}[2][{y.size}];"
            for output, y in zip(outputs, truth, strict=True)
        ),
        run=", ".join([*inputs, *(f"{output}[threads - 1]" for output in outputs)]),
        compares="\n".join(f"        {line}" for line in compares),
        name=name,
        NAME=name.upper(),
    )


def _write(folder, texts):
    """All files, or none: they get their names when all are written."""
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        with ExitStack() as stack:
            for file, text in texts.items():
                target = stack.enter_context(replacement(folder / file))
                target.write(text if isinstance(text, bytes) else text.encode())
    except BaseException:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise
