"""Networks as C: what they compute, how they compile, and what they refuse."""

import ctypes
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import nn
from fastconv.cexport import writer
from fastconv.cexport.places import loops, runs
from fastconv.cli import main

GCC = shutil.which("gcc")
needs_compiler = pytest.mark.skipif(GCC is None, reason="there is no gcc")
FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
SIZES = {1: (13,), 2: (9, 10), 3: (5, 6, 4)}
LIMITS = {np.float32: 1e-5, np.float64: 1e-12}
OK, NULL, SIZE, THREADS, OVERFLOW, WORKSPACE, MEMORY, READ, WEIGHTS = range(9)


class Outputs(nn.Module):
    """The results of several functions of one input, all returned."""

    def __init__(self, layers, functions=()):
        super().__init__()
        self.layers, self.functions = nn.ModuleList(layers), functions

    def forward(self, x):
        return tuple([layer(x) for layer in self.layers] + [f(x) for f in self.functions])


def chain(*layers):
    return nn.Sequential(*layers)


def every_layer(n):
    """A network of every layer of `n` axes, each with an output of its own."""

    def of(name, *arguments, **options):
        return getattr(nn, f"{name}{n}d")(*arguments, **options)

    def conv(*arguments, **options):
        return of("Conv", *arguments, **options)

    layers = [
        conv(8, 5, 3),
        conv(8, 19, 3, padding=2, stride=2, bias=False),
        conv(8, 6, 2, padding="same", dilation=2, groups=2),
        conv(8, 16, 3, padding=1, groups=8),
        chain(conv(8, 8, 3, padding=1, groups=8, bias=False), of("BatchNorm", 8), nn.ReLU6()),
        conv(8, 33, 1),
        chain(conv(8, 8, 3, padding=1, padding_mode="reflect"), nn.LeakyReLU(0.2)),
        nn.Residual(chain(conv(8, 8, 3, padding=1), of("BatchNorm", 8), nn.ReLU(), conv(8, 8, 1))),
        chain(of("BatchNorm", 8), nn.ReLU()),
        chain(nn.ReLU(), of("MaxPool", 3, 2, padding=1, ceil_mode=True)),
        of("MaxPool", 2, dilation=2, stride=1),
        of("AvgPool", 3, 2, padding=1),
        of("AvgPool", 2, ceil_mode=True, count_include_pad=False),
        of("LPPool", 2, 2),
        chain(nn.Softplus(), of("LPPool", 1.5, 3, 2)),
        of("AdaptiveAvgPool", 3),
        of("AdaptiveMaxPool", 2),
        of("ConvTranspose", 8, 6, 3, stride=2, padding=1, output_padding=1),
        chain(of("ConvTranspose", 8, 4, 2, stride=3, groups=2), nn.ReLU()),
        chain(of("AdaptiveAvgPool", 2), nn.Flatten(), nn.Linear(8 * 2**n, 7), nn.Softmax(1)),
        chain(nn.Flatten(2), nn.LogSoftmax(2)),
        nn.Upsample(scale_factor=2),
        nn.Upsample(size=4, mode=("linear", "bilinear", "trilinear")[n - 1], align_corners=True),
        of("ConstantPad", 1, 2.5),
        of("InstanceNorm", 8, affine=True),
        nn.GroupNorm(2, 8),
        nn.LayerNorm([8, *SIZES[n]]),
        nn.PReLU(8),
    ]
    functions = [
        lambda x: fastconv.concatenate([x, F.relu(x), x[:, 2:5]], dim=1),
        lambda x: fastconv.concatenate([x, x * 2 + 1], dim=-1),
        lambda x: F.interpolate(x, size=3, mode="area"),
        lambda x: x * F.sigmoid(x.mean(dim=tuple(range(2, n + 2)), keepdim=True)) - abs(x),
        lambda x: x.sum(dim=-1),
        lambda x: x[..., 1:] / (x[..., :-1] ** 2 + 1),
    ]
    return Outputs(layers, functions)


def activations():
    layers = [
        nn.ELU(), nn.SELU(), nn.CELU(0.7), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(),
        nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.Softplus(2.0, 3.0), nn.Softsign(),
        nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-0.5, 0.7), nn.ReLU(), nn.ReLU6(),
        nn.LeakyReLU(0.1), nn.PReLU(), nn.Softmax(-1), nn.Softmin(1), nn.LogSoftmax(1),
        nn.Linear(12, 1), nn.Linear(12, 40), nn.BatchNorm1d(12), nn.LayerNorm(12),
    ]  # fmt: skip
    functions = [
        lambda x: fastconv.exp(x) + fastconv.log(abs(x) + 1) - fastconv.sqrt(abs(x)),
        lambda x: fastconv.clamp(x, -0.3, 0.2),
        lambda x: fastconv.maximum(x, 0.1) * fastconv.minimum(x, 0.5),
        lambda x: x.mean(dim=1, keepdim=True),
    ]
    return Outputs(layers, functions)


class Images(nn.Module):
    """What only two axes have; two inputs."""

    def forward(self, x, y):
        z = F.pixel_unshuffle(F.channel_shuffle(x, 2), 2)
        return z, F.pixel_shuffle(z, 2) + x, F.interpolate(y, size=(7, 3), mode="bicubic"), y * x


class Shapes(nn.Module):
    """A wide product, which a CBLAS multiplies, and a step that mixes axes."""

    def __init__(self):
        super().__init__()
        self.wide, self.dense = nn.Conv2d(130, 70, 3, padding=1), nn.Linear(1400, 33)

    def forward(self, x):
        return self.wide(x), self.dense(x.permute((0, 2, 3, 1)).reshape((-1, 130 * 16))[:, :1400])


def tiles():
    """Whatever Winograd's algorithm has in C: kernels, borders, spacing, ends of panels."""
    layers = [
        nn.Conv2d(24, 19, 3, padding=1),
        nn.Conv2d(24, 16, 5, padding=(2, 0), bias=False),
        nn.Conv2d(24, 5, 3, padding=2, dilation=2),
        nn.Conv2d(24, 19, (3, 5), padding=(1, 2)),
        chain(nn.Conv2d(24, 21, (5, 3)), nn.Conv2d(21, 16, (3, 1))),
        nn.ConvTranspose2d(24, 16, 3),
        chain(
            nn.Conv2d(24, 16, 5),
            nn.Residual(chain(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))),
            nn.ReLU(),
        ),
        chain(nn.Flatten(2), nn.Conv1d(24, 33, 3, padding=4, dilation=3), nn.LeakyReLU(0.1)),
        chain(nn.Flatten(2), nn.Conv1d(24, 16, 5)),
    ]
    return Outputs(layers)


SCHEMES = 11  # of those layers


def randomised(model, dtype):
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) / 2
    for module in model.modules():
        if hasattr(module, "running_mean") and module.running_mean is not None:
            module.running_mean[...] = rng.standard_normal(module.running_mean.shape)
            module.running_var[...] = rng.random(module.running_var.shape) + 0.5
    model = model.double() if dtype is np.float64 else model
    return model.eval()


NETWORKS = {
    "one": (lambda: every_layer(1), [(8, 13)]),
    "two": (lambda: every_layer(2), [(8, 9, 10)]),
    "three": (lambda: every_layer(3), [(8, 5, 6, 4)]),
    "rows": (activations, [(12,)]),
    "images": (Images, [(4, 8, 6), (4, 8, 6)]),
    "shapes": (Shapes, [(130, 4, 4)]),
    "tiles": (tiles, [(24, 13, 11)]),
}


def export(folder, name, dtype, images=2, **options):
    build, shapes = NETWORKS[name]
    model = randomised(build(), dtype)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((images, *shape)).astype(dtype) for shape in shapes]
    if name == "tiles":  # of which the self-test has a tile by the definition
        inputs[0][1, 3, 6, 5] = np.inf
    example = tuple(inputs) if len(inputs) > 1 else inputs[0]
    with fastconv.algorithm("winograd" if name == "tiles" else "auto"):
        fastconv.export_c(model, example, folder / name, name=name, **options)
    return model


def compiled(*command):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def sources(folder, name):
    return [folder / name / f"{name}.c", *folder.glob(f"{name}/{name}_weights.c")]


class Library:
    """The functions of a network, as C has them."""

    def __init__(self, folder, name, dtype, *options, compiler=GCC):
        target = folder / f"{name}.so"
        files = sources(folder, name)
        compiled(compiler, "-std=c99", "-O1", "-fPIC", "-shared", *FLAGS, *files, "-o", target,
                 *options, "-lm")  # fmt: skip
        self.name, self.dtype, self.path = name, dtype, folder / name
        self.functions = ctypes.CDLL(str(target))
        getattr(self.functions, f"{name}_status_text").restype = ctypes.c_char_p
        self.model = ctypes.c_void_p()

    def call(self, function, *arguments):
        """A status; ints go as int64, arrays as their addresses."""

        def given(x):
            if isinstance(x, np.ndarray):
                return ctypes.c_void_p(x.ctypes.data)
            return ctypes.c_int64(x) if isinstance(x, int) else x

        return getattr(self.functions, f"{self.name}_{function}")(*map(given, arguments))

    def init(self, *path):
        return self.call("init", ctypes.byref(self.model), *(str(p).encode() for p in path))

    def workspace(self, images, threads=1):
        size = ctypes.c_int64(-7)
        status = self.call("workspace_size", images, ctypes.c_int(threads), ctypes.byref(size))
        return status, size.value

    def run(self, inputs, shapes, threads=1):
        images = len(inputs[0])
        outputs = [np.full(shape, 99, self.dtype) for shape in shapes]
        status, size = self.workspace(images, threads)
        assert status == OK
        # guards around a workspace of odd alignment
        memory = np.full(size + 64 + 3, 77, np.uint8)
        part = memory[35 : 35 + size]
        arguments = self.model, images, *inputs, *outputs, part, size, ctypes.c_int(threads)
        assert self.call("run", *arguments) == OK
        assert (memory[:35] == 77).all()
        assert (memory[35 + size :] == 77).all()
        return outputs


def results(model, inputs):
    found = model(*inputs)
    return [np.asarray(y) for y in (found if isinstance(found, tuple) else (found,))]


def assert_close(found, truth, dtype):
    for i, (y, expected) in enumerate(zip(found, truth, strict=True)):
        limit = LIMITS[dtype] * np.abs(expected).max()
        assert np.abs(y - expected).max() <= limit, i


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"tiles"}))
def test_c_computes_what_python_does(name, dtype, tmp_path, monkeypatch, rng):
    monkeypatch.setattr(writer, "CACHE", 0)  # an image at a time
    images = 3
    in_file = name == "rows"
    model = export(tmp_path, name, dtype, weights="file" if in_file else "arrays")
    library = Library(tmp_path, name, dtype)
    assert library.init(*[tmp_path / name / f"{name}.weights"] * in_file) == OK
    inputs = [rng.standard_normal((images, *shape)).astype(dtype) for shape in NETWORKS[name][1]]
    with fastconv.algorithm("gemm"):
        truth = results(model.double(), [x.astype(np.float64) for x in inputs])
    found = library.run(inputs, [y.shape for y in truth])
    assert_close(found, truth, dtype)
    library.call("free", library.model)


# How it compiles ----------------------------------------------------------------------------------

CLANG = shutil.which("clang")
MANY = ("two", "rows", "shapes", "images", "tiles")
BUILDS = {
    "sanitised": (GCC, ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined",
                        "-fno-sanitize-recover=all"]),
    "vectors": (GCC, ["-std=c99", "-O3", "-mavx2", "-mfma", "-fopenmp"]),
    "plain loops": (GCC, ["-std=c99", "-O2", "-DTWO_PLAIN_LOOPS", "-DIMAGES_PLAIN_LOOPS",
                          "-DTILES_PLAIN_LOOPS"]),
    "c++": (shutil.which("g++"), ["-x", "c++", "-O1"]),
    "clang": (CLANG, ["-std=c99", "-O2"]),
    "clang c++": (shutil.which("clang++"), ["-x", "c++", "-O1"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Networks in files, one of them with weights beside it."""
    folder = tmp_path_factory.mktemp("networks")
    for name in MANY:
        export(folder, name, np.float32, weights="file" if name == "images" else "arrays")
    export(folder, "three", np.float64)
    return folder


@needs_compiler
@pytest.mark.parametrize("build", BUILDS)
def test_the_self_tests_pass(build, folders, tmp_path):
    compiler, options = BUILDS[build]
    if compiler is None:
        pytest.skip("there is no such compiler")
    if build == "vectors" and not re.search(r"\bavx2\b", Path("/proc/cpuinfo").read_text()):
        pytest.skip("the processor has no AVX2")
    names = [*MANY, "three"] if build == "sanitised" else ["two", "images", "tiles"]
    for name in names:
        files = [*sources(folders, name), folders / name / f"{name}_test.c"]
        program = tmp_path / name
        compiled(compiler, *options, *FLAGS, *files, "-o", program, "-lm")
        done = subprocess.run(
            [program], cwd=folders / name, capture_output=True, encoding="utf-8", check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert "pass" in done.stdout
        assert "FAIL" not in done.stdout


@needs_compiler
def test_a_self_test_fails_where_weights_are_others(folders, tmp_path):
    shutil.copytree(folders / "rows", tmp_path / "rows")
    file = tmp_path / "rows" / "rows_weights.c"
    text, changed = re.subn(r"= \{\n[^,]*,", "= {\n1e4f,", file.read_text())
    assert changed == 1
    file.write_text(text)
    files = [*sources(tmp_path, "rows"), tmp_path / "rows" / "rows_test.c"]
    compiled(GCC, "-std=c99", "-O1", *files, "-o", tmp_path / "run", "-lm")
    done = subprocess.run([tmp_path / "run"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "FAIL" in done.stdout


@needs_compiler
def test_weights_that_are_not_finite_stay_so(tmp_path):
    model = chain(nn.Conv2d(2, 3, 3), nn.ReLU()).double()
    model[0].weight.data[0, 0, 0, 0] = np.nan
    model[0].weight.data[1, 0, 0, 0] = -np.inf
    fastconv.export_c(model.eval(), np.ones((2, 2, 6, 6)), tmp_path)
    files = [tmp_path / f"net{end}.c" for end in ("", "_weights", "_test")]
    compiled(GCC, "-std=c99", "-O1", *FLAGS, *files, "-o", tmp_path / "run", "-lm")
    done = subprocess.run([tmp_path / "run"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


def has_cblas(folder):
    """The options of a CBLAS, if there is one."""
    probe = folder / "probe.c"
    probe.write_text("#include <cblas.h>\nint main(void) { return cblas_sgemm == 0; }\n")
    done = subprocess.run(
        [GCC, probe, "-o", folder / "probe", "-lopenblas"], capture_output=True, check=False
    )
    return done.returncode == 0


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_cblas_multiplies_wide_matrices(dtype, tmp_path, rng):
    if not has_cblas(tmp_path):
        pytest.skip("there is no OpenBLAS with its headers")
    model = export(tmp_path, "shapes", dtype)
    library = Library(tmp_path, "shapes", dtype, "-DSHAPES_USE_CBLAS", "-lopenblas")
    assert library.init() == OK
    x = rng.standard_normal((11, 130, 4, 4)).astype(dtype)
    truth = results(model.double(), [x.astype(np.float64)])
    assert_close(library.run([x], [y.shape for y in truth]), truth, dtype)
    library.call("free", library.model)


@needs_compiler
def test_threads_change_no_bit(folders, tmp_path, rng):
    library = Library(folders, "two", np.float32, "-fopenmp", "-O2")
    assert library.init() == OK
    x = rng.standard_normal((70, 8, 9, 10)).astype(np.float32)
    truth = results(randomised(every_layer(2), np.float32), [x])
    shapes = [y.shape for y in truth]
    one, two, five = (library.run([x], shapes, threads) for threads in (1, 2, 5))
    for a, b, c in zip(one, two, five, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
    # and several calls at a time do not meet
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: library.run([x[i:]], [
            (len(x) - i, *shape[1:]) for shape in shapes])}))
        for i in range(3)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        for a, b in zip(one, found[i], strict=True):
            assert a[i:].tobytes() == b.tobytes()
    library.call("free", library.model)


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_winograd_in_tiles_of_all_images(dtype, tmp_path, rng):
    model = export(tmp_path, "tiles", dtype)
    assert (tmp_path / "tiles" / "tiles.c").read_text().count(" conv_winograd(&") == SCHEMES
    library = Library(tmp_path, "tiles", dtype, "-fopenmp", "-O2")
    assert library.init() == OK
    x = rng.standard_normal((7, 24, 13, 11)).astype(dtype)
    wild = x.copy()
    wild[2, 3, 6, 5], wild[4, 23, 0, 10], wild[5, 0, 12, 0] = np.inf, np.nan, -np.inf
    with fastconv.algorithm("gemm"):
        model = model.double()
        truth, wild_truth = (results(model, [x.astype(np.float64)]) for x in (x, wild))
    shapes = [y.shape for y in truth]
    one, two, five = (library.run([x], shapes, threads) for threads in (1, 2, 5))
    assert_close(one, truth, dtype)
    found = library.run([wild], shapes)
    last = library.run([x[6:]], [(1, *shape[1:]) for shape in shapes])
    for i, (y, expected) in enumerate(zip(found, wild_truth, strict=True)):
        assert one[i].tobytes() == two[i].tobytes() == five[i].tobytes()
        assert one[i][6:].tobytes() == last[i].tobytes()
        known = np.isfinite(expected)
        assert 0 < known.sum() < known.size
        np.testing.assert_array_equal(y[~known], expected[~known], str(i))
        assert_close([y[known]], [expected[known]], dtype)
    library.call("free", library.model)


def test_the_algorithm_that_is_asked_for_is_respected(tmp_path):
    x = np.ones((8, 32, 16, 16), np.float32)
    for given, count in ((None, 1), ("direct", 0), ("gemm", 0), ("winograd", 1)):
        fastconv.export_c(nn.Conv2d(32, 32, 3, algorithm=given).eval(), x, tmp_path)
        text = (tmp_path / "net.c").read_text()
        assert text.count(" conv_winograd(&") == count, given
        assert ("Winograd" in text) == bool(count)


# What it refuses ----------------------------------------------------------------------------------


@needs_compiler
def test_bad_arguments_have_their_status_and_touch_nothing(folders, rng):
    library = Library(folders, "shapes", np.float32)
    assert library.call("init", None) == NULL
    assert library.init() == OK
    assert library.workspace(-1) == (SIZE, -7)
    assert library.workspace(1, 0) == (THREADS, -7)
    assert library.workspace(1, -3) == (THREADS, -7)
    assert library.workspace(2**62) == (OVERFLOW, -7)
    assert library.workspace(2**63 // (4 * 130 * 16) + 1) == (OVERFLOW, -7)
    assert library.call("workspace_size", 1, ctypes.c_int(1), None) == NULL
    assert library.workspace(0)[0] == OK
    _, size = library.workspace(1)
    x = rng.standard_normal((1, 130, 4, 4)).astype(np.float32)
    y, z = np.full((1, 70, 4, 4), 9, np.float32), np.full((1, 33), 9, np.float32)
    memory = np.full(size, 7, np.uint8)
    good = [library.model, 1, x, y, z, memory, size, ctypes.c_int(1)]
    cases = [(i, None, NULL) for i in (0, 2, 3, 4, 5)]
    cases += [(1, -1, SIZE), (1, -(2**62), SIZE), (1, 2**61, OVERFLOW), (6, -1, SIZE)]
    cases += [(6, size - 1, WORKSPACE), (6, 0, WORKSPACE)]
    cases += [(7, ctypes.c_int(n), THREADS) for n in (0, -1)]
    for place, value, status in cases:
        arguments = [*good[:place], value, *good[place + 1 :]]
        assert library.call("run", *arguments) == status, (place, value)
        assert (memory == 7).all()
        assert (y == 9).all()
        assert (z == 9).all()
    assert library.call("run", *good[:1], 0, *good[2:]) == OK
    assert (y == 9).all()
    assert library.call("run", *good) == OK
    assert not (y == 9).any()
    library.call("free", library.model)
    library.call("free", None)
    texts = [library.call("status_text", ctypes.c_int(status)) for status in range(-1, 10)]
    assert len(set(texts)) == 10  # one for both that are unknown
    assert texts[0] == texts[-1] == b"unknown status"


@needs_compiler
def test_damaged_weights_are_refused(folders, tmp_path):
    library = Library(folders, "images", np.float32)
    path = folders / "images" / "images.weights"
    content, damaged = path.read_bytes(), tmp_path / "damaged"
    assert library.call("init", ctypes.byref(library.model), None) == NULL
    assert library.init(tmp_path / "missing") == READ
    assert library.init(tmp_path) == READ  # a folder
    for size in (0, 10, 31, 32, len(content) - 1):
        damaged.write_bytes(content[:size])
        assert library.init(damaged) == READ, size
    damaged.write_bytes(content + b"\0")
    assert library.init(damaged) == WEIGHTS
    for place in (0, 16, 18, 20, 27, 29, 32, len(content) - 1):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert library.init(damaged) == WEIGHTS, place
    assert library.model.value is None
    assert library.init(path) == OK
    library.call("free", library.model)


def test_what_has_no_c_is_listed_and_nothing_written(tmp_path):
    class Stacks(nn.Module):
        def forward(self, x):
            y = F.linear(x.reshape((-1, 2, 2)), np.ones((3, 2), np.float32))
            return y @ np.ones((1, 3, 2), np.float32)

    x = np.ones((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"there is no C for: linear_rule; matmul"):
        fastconv.export_c(Stacks(), x, tmp_path / "net")
    mixing = [
        (r"index that gives \(1, 4\) for two images", lambda x: x - x[:1]),
        (r"gives \(4, 4\) for two images", lambda x: fastconv.concatenate([x, x], dim=0)),
        ("any number of images", lambda x: x.reshape((2, 2, 2))),
        (r"sum that gives \(4,\) for two images", lambda x: x.sum(dim=0)),
        ("softmax that mixes images", lambda x: F.softmax(x, 0)),
        ("index that mixes images", lambda x: x[::-1]),
        ("depends on no input", lambda x: (x, fastconv.Tensor(np.ones((2, 3), np.float32)))),
    ]
    for message, function in mixing:
        with pytest.raises(ValueError, match=message):
            fastconv.export_c(function, x, tmp_path / "net")
    assert os.listdir(tmp_path) == []


def test_bad_options_are_refused(tmp_path):
    model, x = nn.Linear(4, 3), np.ones((2, 4), np.float32)
    for name in ("", "Net", "1net", "a b", "x" * 41, "math", 3, "net;"):
        with pytest.raises(ValueError, match="name must be"):
            fastconv.export_c(model, x, tmp_path / "net", name=name)
    with pytest.raises(ValueError, match="weights must be"):
        fastconv.export_c(model, x, tmp_path / "net", weights="both")
    with pytest.raises(TypeError, match="one dtype, float32 or float64, got int32"):
        fastconv.export_c(lambda x: x + 1, np.ones((2, 4), np.int32), tmp_path / "net")
    with pytest.raises(ValueError, match="as many images"):
        fastconv.export_c(lambda x: x, np.ones((0, 4), np.float32), tmp_path / "net")
    plan = fastconv.compile(model, x)
    with pytest.raises(ValueError, match="example must hold 1 arrays"):
        fastconv.export_c(plan, (x, x), tmp_path / "net")
    with pytest.raises(TypeError, match="must have dtype float32"):
        fastconv.export_c(plan, x.astype(np.float64), tmp_path / "net")
    with pytest.raises(TypeError, match="example must be ndarrays"):
        fastconv.export_c(plan, [1.0], tmp_path / "net")
    with pytest.raises(ValueError, match="the plan's shape"):
        fastconv.export_c(plan, np.ones((2, 5), np.float32), tmp_path / "net")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file"):
        fastconv.export_c(model, x, tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="no folder"):
        fastconv.export_c(model, x, tmp_path / "no" / "net")
    assert os.listdir(tmp_path) == ["file"]


def test_files_are_replaced_all_or_none(tmp_path, monkeypatch):
    model, x = nn.Linear(4, 3), np.ones((2, 4), np.float32)
    written = fastconv.export_c(model, x, tmp_path / "net")
    assert sorted(os.listdir(tmp_path / "net")) == sorted(path.name for path in written)
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in fastconv.export_c(model, x, tmp_path / "net")} == {
        **before
    }  # the same bytes for the same network
    fastconv.export_c(fastconv.compile(model, x), x, tmp_path / "net")  # from a plan as well
    assert {path: path.read_bytes() for path in written} == before
    model.weight.data += 1
    monkeypatch.setattr(writer, "_test", lambda *arguments: object())  # which cannot be written
    with pytest.raises(AttributeError):
        fastconv.export_c(model, x, tmp_path / "net")
    with pytest.raises(AttributeError):
        fastconv.export_c(model, x, tmp_path / "new")
    assert {path: path.read_bytes() for path in written} == before
    assert sorted(os.listdir(tmp_path / "net")) == sorted(path.name for path in written)
    assert os.listdir(tmp_path) == ["net"]


def test_loops_through_places():
    places = np.arange(24).reshape(2, 3, 4)
    assert loops(places.reshape(1, -1)) == [(24, 1)]
    assert loops(places.transpose(2, 0, 1).reshape(1, -1)) == [(4, 1), (6, 4)]
    assert loops(places[:, ::-1].reshape(1, -1)) == [(2, 12), (3, -4), (4, 1)]
    assert loops(np.array([[0, 1, 3, 4, 9, 10, 11, 12]])) is None
    first, length = runs(np.array([4, 5, 6, -1, -1, -1, 0, 1, 2]))
    assert (first.tolist(), length) == ([4, -1, 0], 3)


# From the command line ----------------------------------------------------------------------------


@needs_compiler
def test_a_trained_network_goes_from_the_command_line(tmp_path, capsys):
    model = fastconv.models.build("lenet", {"in_channels": 1, "num_classes": 3})
    fastconv.save(model, tmp_path / "model.npz")
    arguments = [
        "export",
        str(tmp_path / "model.npz"),
        "--c",
        str(tmp_path / "c"),
        "--size",
        "12,10",
    ]
    assert main([*arguments, "--name", "digits"]) == 0
    assert "digits_test.c" in capsys.readouterr().out
    files = [*(tmp_path / "c" / f"digits{end}.c" for end in ("", "_weights", "_test"))]
    compiled(GCC, "-std=c99", "-O1", *FLAGS, *files, "-o", tmp_path / "run", "-lm")
    done = subprocess.run([tmp_path / "run"], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert main([*arguments, "--output", str(tmp_path / "x.onnx")]) == 2
    assert "--output or --c" in capsys.readouterr().err
    assert main(arguments[:2]) == 2
    assert "--output or --c" in capsys.readouterr().err
    assert main([*arguments, "--opset", "18"]) == 2
    assert "--opset" in capsys.readouterr().err
    assert main([*arguments[:2], "--output", str(tmp_path / "x.onnx"), "--name", "x"]) == 2
    assert "--name" in capsys.readouterr().err


@needs_compiler
def test_fortran_and_cmake_build_it(tmp_path):
    fortran, cmake = shutil.which("gfortran"), shutil.which("cmake")
    if fortran is None or cmake is None:
        pytest.skip("there is no gfortran or no cmake")
    export(tmp_path, "images", np.float64, weights="file")
    compiled(cmake, "-S", tmp_path / "images", "-B", tmp_path / "build", "-DIMAGES_FORTRAN=ON",
             "-DIMAGES_NATIVE=OFF")  # fmt: skip
    compiled(cmake, "--build", tmp_path / "build")
    done = subprocess.run(
        [tmp_path / "build" / "images_test"], cwd=tmp_path / "images", capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    compiled(fortran, "-c", "-Wall", "-Wextra", "-Werror", "-std=f2008", "-J", tmp_path,
             tmp_path / "images" / "images.f90", "-o", tmp_path / "images.o")  # fmt: skip
