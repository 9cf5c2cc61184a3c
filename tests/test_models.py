"""The named architectures, and networks rebuilt from files."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastconv
from fastconv import models, nn

RESNET = {"in_channels": 2, "num_classes": 5, "widths": (4, 6), "blocks": 1, "stem_stride": 2}
LENET = {"in_channels": 1, "num_classes": 3, "widths": (4, 6), "hidden": 7}

every_suffix = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
every_architecture = pytest.mark.parametrize(
    ("name", "arguments"), [("resnet", RESNET), ("lenet", LENET)]
)


def count(module):
    return sum(parameter.size for parameter in module.parameters())


def resnet_size(inputs, classes, widths, blocks, taps, spatial_dims):
    """Number of parameters by the formula: no bias but of the norms and the last layer."""
    norm = 2
    taps = taps**spatial_dims
    total = inputs * widths[0] * taps + norm * widths[0]
    width = widths[0]
    for stage, wider in enumerate(widths):
        for block in range(blocks):
            total += width * wider * taps + wider * wider * taps + 2 * norm * wider
            if (stage > 0 and block == 0) or width != wider:
                total += width * wider + norm * wider
            width = wider
    return total + width * classes + classes


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@pytest.mark.parametrize(("widths", "blocks"), [((4,), 1), ((4, 6), 2), ((3, 3, 5), 1)])
def test_resnet_has_the_parameters_of_its_description(spatial_dims, widths, blocks):
    net = models.resnet(2, 5, widths, blocks, spatial_dims=spatial_dims)
    assert count(net) == resnet_size(2, 5, widths, blocks, 3, spatial_dims)


def test_default_sizes():
    assert count(models.resnet(3, 10)) == resnet_size(3, 10, (16, 32, 64), 2, 3, 2)
    first, second, dense = 32 * 25 + 32, 32 * 64 * 25 + 64, 64 * 16 * 128 + 128
    assert count(models.lenet(1, 10)) == first + second + dense + 128 * 10 + 10


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_resnet_takes_inputs_of_any_size(spatial_dims, rng):
    net = models.resnet(2, 5, (4, 6), 1, spatial_dims=spatial_dims).eval()
    for size in ((9, 8, 7), (12, 5, 4), (1, 1, 1)):
        x = rng.standard_normal((3, 2, *size[:spatial_dims])).astype(np.float32)
        logits = net(x)
        assert logits.shape == (3, 5)
        assert np.isfinite(logits.data).all()


@pytest.mark.parametrize(("stride", "size"), [(1, (13, 10)), (2, (7, 5)), (3, (5, 4))])
def test_stem_stride_shrinks_the_maps_of_the_first_stage(stride, size, rng):
    net = models.resnet(2, 5, (4,), 1, stem_stride=stride)
    x = rng.standard_normal((1, 2, 13, 10)).astype(np.float32)
    assert net[0](x).shape == (1, 4, *size)
    assert net[:4](x).shape == (1, 4, *size)
    assert net(x).shape == (1, 5)
    assert count(net) == count(models.resnet(2, 5, (4,), 1))


def test_lenet_takes_images_of_any_size(rng):
    net = models.lenet(**LENET)
    for size in ((28, 28), (17, 40), (4, 4)):
        x = rng.standard_normal((2, 1, *size)).astype(np.float32)
        assert net(x).shape == (2, 3)


@every_architecture
def test_all_parameters_are_trained(name, arguments, rng):
    net = models.build(name, arguments)
    x = rng.standard_normal((4, arguments["in_channels"], 12, 11)).astype(np.float32)
    fastconv.functional.cross_entropy(net(x), np.array([0, 1, 2, 1])).backward()
    for key, parameter in net.named_parameters():
        assert np.abs(parameter.grad).max() > 0, key


@every_architecture
def test_build_remembers_name_and_arguments(name, arguments):
    given = dict(arguments)
    net = models.build(name, given)
    assert net.architecture == {"name": name, "arguments": arguments}
    given["widths"] = (1, 1)
    assert net.architecture["arguments"] == arguments
    fastconv.manual_seed(0)
    built = models.build(name, arguments).state_dict()
    fastconv.manual_seed(0)
    direct = models.ARCHITECTURES[name](**arguments).state_dict()
    assert list(built) == list(direct)
    for key, array in built.items():
        assert_array_equal(array, direct[key])


BAD_CALLS = [
    (lambda: models.build("vgg", {}), ValueError, ["architecture", "'vgg'", "'resnet'"]),
    (lambda: models.build("resnet", {"in_channels": 1}), ValueError, ["resnet", "num_classes"]),
    (lambda: models.build("lenet", LENET | {"blocks": 2}), ValueError, ["lenet", "blocks"]),
    (lambda: models.build("resnet", {"in_channels": 1, "num_classes": "2"}), ValueError, ["'2'"]),
    (lambda: models.resnet(0, 2), ValueError, ["in_channels", "0"]),
    (lambda: models.resnet(1, 0), ValueError, ["0"]),
    (lambda: models.resnet(1, 2, widths=()), ValueError, ["widths", "()"]),
    (lambda: models.resnet(1, 2, widths=(4, 0)), ValueError, ["widths", "0"]),
    (lambda: models.resnet(1, 2, widths=4), (TypeError, ValueError), ["widths", "4"]),
    (lambda: models.resnet(1, 2, blocks=0), ValueError, ["blocks", "0"]),
    (lambda: models.resnet(1, 2, stem_stride=0), ValueError, ["stem_stride", "0"]),
    (lambda: models.resnet(1, 2, stem_stride=1.5), TypeError, ["stem_stride", "1.5"]),
    (lambda: models.resnet(1, 2, spatial_dims=4), ValueError, ["spatial_dims", "4"]),
    (lambda: models.resnet(1, 2, spatial_dims=2.0), TypeError, ["spatial_dims", "2.0"]),
    (lambda: models.lenet(1, 2, widths=(4, 6, 8)), ValueError, ["widths", "(4, 6, 8)"]),
    (lambda: models.lenet(1, 2, hidden=0), ValueError, ["0"]),
]


@pytest.mark.parametrize(
    ("call", "error", "words"), BAD_CALLS, ids=[" ".join(row[2]) for row in BAD_CALLS]
)
def test_bad_arguments_are_named_with_their_values(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


# load_model


@every_suffix
@every_architecture
def test_saved_network_is_rebuilt(name, arguments, suffix, tmp_path, rng):
    net = models.build(name, arguments)
    x = rng.standard_normal((4, arguments["in_channels"], 12, 11)).astype(np.float32)
    net(x)  # moves running statistics
    path = tmp_path / f"net{suffix}"
    fastconv.save(net, path)
    same = fastconv.load_model(path)
    assert type(same) is type(net)
    assert not any(module.training for module in same.modules())
    assert list(same.state_dict()) == list(net.state_dict())
    for key, array in same.state_dict().items():
        assert_array_equal(array, net.state_dict()[key])
    assert_array_equal(same(x).data, net.eval()(x).data)
    # and it is saved again as the same file
    again = tmp_path / f"again{suffix}"
    fastconv.save(same, again)
    assert again.read_bytes() == path.read_bytes()


@every_suffix
def test_metadata_of_the_caller_is_kept_beside_the_architecture(suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    fastconv.save(models.build("resnet", RESNET), path, metadata={"classes": ["a", "b"]})
    assert fastconv.load_metadata(path)["classes"] == ["a", "b"]
    assert count(fastconv.load_model(path)) == count(models.resnet(**RESNET))


def test_networks_of_double_precision_come_back_as_such(tmp_path):
    net = models.build("resnet", RESNET).double()
    fastconv.save(net, tmp_path / "net.npz")
    same = fastconv.load_model(tmp_path / "net.npz")
    for key, array in same.state_dict().items():
        assert array.dtype == net.state_dict()[key].dtype
        assert_array_equal(array, net.state_dict()[key])


def test_file_without_architecture(tmp_path):
    path = tmp_path / "net.npz"
    fastconv.save(nn.Linear(2, 3), path)
    with pytest.raises(ValueError, match="architecture") as caught:
        fastconv.load_model(path)
    assert str(path) in str(caught.value)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        fastconv.load_model(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not an archive", encoding="utf-8")
    with pytest.raises(ValueError, match=r"text\.npz"):
        fastconv.load_model(tmp_path / "text.npz")
    with pytest.raises(ValueError, match=r"net\.pt"):
        fastconv.load_model(tmp_path / "net.pt")


def save_with(path, architecture, state=None):
    """A file whose metadata name this architecture, as another program might write it."""
    state = models.build("resnet", RESNET).state_dict() if state is None else state
    fastconv.save(state, path, metadata={"architecture": architecture})


@pytest.mark.parametrize(
    ("architecture", "word"),
    [
        ("resnet", "architecture"),
        (None, "architecture"),
        ({"name": "resnet"}, "architecture"),
        ({"name": 3, "arguments": RESNET}, "architecture"),
        ({"name": "resnet", "arguments": [1, 2]}, "architecture"),
        ({"name": "vgg", "arguments": RESNET}, "'vgg'"),
        ({"name": "resnet", "arguments": RESNET | {"depth": 3}}, "depth"),
        ({"name": "resnet", "arguments": {"in_channels": 1}}, "num_classes"),
        ({"name": "resnet", "arguments": RESNET | {"widths": "wide"}}, "widths"),
        ({"name": "resnet", "arguments": RESNET | {"widths": []}}, "widths"),
        ({"name": "resnet", "arguments": RESNET | {"blocks": -1}}, "blocks"),
        ({"name": "resnet", "arguments": RESNET | {"spatial_dims": None}}, "spatial_dims"),
    ],
)
def test_metadata_that_nobody_vouches_for(architecture, word, tmp_path):
    path = tmp_path / "net.npz"
    save_with(path, architecture)
    with pytest.raises(ValueError, match=word) as caught:
        fastconv.load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("change", ["shape", "missing", "unexpected"])
def test_arrays_that_do_not_fit_the_architecture(change, tmp_path):
    state = dict(models.build("resnet", RESNET).state_dict())
    key = "0.weight"
    if change == "shape":
        state[key] = np.zeros((4, 3, 3, 3), np.float32)
        words = [key, "(4, 3, 3, 3)", "(4, 2, 3, 3)"]
    elif change == "missing":
        del state[key]
        words = [key, "missing"]
    else:
        state["99.weight"] = np.zeros(3, np.float32)
        words = ["99.weight", "unexpected"]
    path = tmp_path / "net.npz"
    save_with(path, {"name": "resnet", "arguments": RESNET}, state)
    with pytest.raises(ValueError, match="net") as caught:
        fastconv.load_model(path)
    for word in (str(path), *words):
        assert word in str(caught.value)
