"""Several arrays in one launch against one at a time, of sizes and layouts of every kind."""

import numpy as np
import pytest

import minigen as mg
from minigen import kernels
from tests.cuda.comparing import _to_device as to_device
from tests.cuda.comparing import reference

SIZES = (5, 1, 0, 2049, 33, 4096)


def arrays_of(dtype, count):
    rng = np.random.default_rng(0)
    return [rng.integers(-9, 9, SIZES[i % len(SIZES)]).astype(dtype) for i in range(count)]


def last(array):
    """Channels-last in memory."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def layouts():
    """Pairs that lie in memory alike, and pairs that do not."""
    images = np.random.default_rng(1).normal(size=(4, 2, 3, 3, 2)).astype(np.float32)
    images = images.transpose(0, 1, 4, 2, 3)
    a, b = images[0], images[1]
    return [
        (a, b),  # channels-last both
        (a, np.ascontiguousarray(b)),
        (np.asfortranarray(a[0, 0]), np.asfortranarray(b[0, 0])),
        (a[:, :, ::2], b[:, :, ::2]),  # with gaps
        (np.broadcast_to(np.float32(2), (3, 2)), np.broadcast_to(np.float32(3), (3, 2))),
        (np.float32([[1, 2]]), np.float32([[3, 4]]).astype(np.float64)),
        (np.array(1, np.float32), np.array(2, np.float32)),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
@pytest.mark.parametrize("count", [1, 16, 17])
def test_copies_of_any_dtype_and_number(gpu, dtype, count):
    sources = arrays_of(dtype, count)
    targets = [gpu.asarray(np.zeros_like(a)) for a in sources]
    given = [gpu.asarray(a) for a in sources]
    kernels.copy_each(*[a for pair in zip(targets, given, strict=True) for a in pair])
    for target, source in zip(targets, sources, strict=True):
        np.testing.assert_array_equal(target.get(), source)


def test_copies_into_views_leave_what_lies_between(gpu):
    buffer = gpu.asarray(np.zeros(40, np.float32))
    images = buffer[8:20].reshape(1, 2, 3, 2).transpose(0, 3, 1, 2)
    views = [buffer[1:4], images, buffer[30:31].reshape(())]
    sources = [gpu.asarray(np.full(v.shape, i + 1, np.float32)) for i, v in enumerate(views)]
    sources[1] = to_device(gpu, last(np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)))
    assert sources[1].strides == views[1].strides
    kernels.copy_each(*[a for pair in zip(views, sources, strict=True) for a in pair])
    expected = np.zeros(40, np.float32)
    expected[1:4], expected[30] = 1, 3
    expected[8:20] = np.arange(12).reshape(2, 2, 3).transpose(1, 2, 0).ravel()
    np.testing.assert_array_equal(buffer.get(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_sums_of_any_dtype_and_number(gpu, dtype):
    arrays = [a for pair in zip(*[arrays_of(dtype, 19)] * 2, strict=True) for a in pair]
    found = kernels.add_each(*map(gpu.asarray, arrays))
    for f, expected in zip(found, reference("add_each")(*arrays), strict=True):
        assert f.dtype == dtype
        np.testing.assert_array_equal(f.get(), expected)


def test_any_layout(gpu):
    flat = [a for pair in layouts() for a in pair]
    expected = reference("add_each")(*flat)
    given = [to_device(gpu, a) for a in flat]
    found = kernels.add_each(*given)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        np.testing.assert_array_equal(f.get(), e)
    assert found[0].strides == expected[0].strides  # channels-last
    targets = [gpu.asarray(np.zeros(a.shape, np.float32)) for a in flat[1::2]]
    kernels.copy_each(*[a for pair in zip(targets, given[1::2], strict=True) for a in pair])
    for target, source in zip(targets, flat[1::2], strict=True):
        np.testing.assert_array_equal(target.get(), source)


def test_nothing_is_launched_for_nothing(gpu):
    empty = gpu.asarray(np.zeros((0, 3), np.float32))
    kernels.copy_each(empty, empty)
    assert kernels.add_each(empty, empty)[0].shape == (0, 3)
    assert kernels.implementation("add_each", empty)[0]() == ()


@pytest.fixture
def launched(gpu, monkeypatch):
    """The names of kernels that have been launched since."""
    from minigen.kernels.cuda import many

    names, run = [], many.launch

    def launch(name, *args, **named):
        names.append(name)
        run(name, *args, **named)

    monkeypatch.setattr(many, "launch", launch)
    return names


@pytest.mark.parametrize("large", [False, True])
def test_terms_of_gradients_by_leaves_are_added_together(launched, monkeypatch, large):
    from minigen import sweep

    if large:
        monkeypatch.setattr(sweep, "LATER", 0)
    values = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)

    def gradients(device):
        a, b, c = (mg.tensor(v, device=device, requires_grad=True) for v in values)
        loss = ((a * b).sum() + (a * a * c).sum()) + (b / 3).sum()
        return [g.numpy() for g in mg.grad(loss, [a, b, c])]

    for found, expected in zip(gradients("cuda"), gradients("cpu"), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert launched.count("many.add") == (0 if large else 2)  # three terms of a, two of b


def test_second_gradients_of_terms_of_leaves(gpu):
    x = mg.tensor(np.float32([1, 2]), device="cuda", requires_grad=True)
    (g,) = mg.grad((x**3 + x**2).sum(), [x], create_graph=True)
    (second,) = mg.grad(g.sum(), [x])
    np.testing.assert_array_equal(second.numpy(), np.float32([8, 14]))


def test_an_optimizer_gathers_gradients_in_one_launch(launched):
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((2, 3, 2, 2), (5,), (4, 3), ())]
    arrays[0] = last(arrays[0])

    def stepped(device):
        parameters = [mg.tensor(a, device=device, requires_grad=True) for a in arrays]
        adam = mg.optim.Adam(parameters, lr=0.1)
        adam.step([mg.tensor(last(a) if a.ndim == 4 else a, device=device) for a in arrays])
        return [p.numpy() for p in parameters]

    for found, expected in zip(stepped("cuda"), stepped("cpu"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert launched == ["many.copy"]
