"""Rows by index, unfold and fold on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check
from tests.cuda.test_max_pool import images

INT = np.int64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tail", [(), (3,), (2, 5)])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_rows_and_their_adjoint(gpu, dtype, tail, shape):
    rng = np.random.default_rng(9)
    table, indices = rng.normal(size=(4, *tail)).astype(dtype), rng.integers(0, 4, shape)
    check("gather_rows", table, np.asarray(indices))
    grad = rng.normal(size=(*shape, *tail)).astype(dtype)
    check("scatter_add_rows", grad, np.asarray(indices), 4)


@pytest.fixture
def sorting(gpu, monkeypatch):
    """Small tiles, digits and chunks, and everything is sorted."""
    from minigen.kernels.cuda import gather

    for name, value in dict(FEW=-1, TILE=32, DIGIT=2, CHUNK=8).items():
        monkeypatch.setattr(gather, name, value)
    return gather


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("count", "rows"), [(1, 1), (77, 5), (100, 40), (64, 1), (3, 100)])
def test_sums_of_sorted_rows(sorting, dtype, count, rows):
    rng = np.random.default_rng(10)
    indices = rng.integers(0, rows, count)
    indices[: count // 2] = rows // 2  # runs longer than a chunk
    grad = rng.normal(size=(count, 3)).astype(dtype)
    check("scatter_add_rows", grad, indices, rows)


def test_the_sort_is_stable_and_puts_wrong_indices_last(sorting, gpu):
    indices = np.random.default_rng(11).integers(-2, 25, 90)
    keys, places = sorting._sorted(gpu.asarray(indices), 20)
    expected = np.where((indices >= 0) & (indices < 20), indices, 20)
    np.testing.assert_array_equal(places.get(), np.argsort(expected, kind="stable"))
    np.testing.assert_array_equal(keys.get(), np.sort(expected))


@pytest.mark.parametrize("few", [-1, 1000])
def test_wrong_indices_read_and_write_nothing(sorting, gpu, monkeypatch, few):
    monkeypatch.setattr(sorting, "FEW", few)
    indices = gpu.asarray(np.array([0, 3, -1, 2]))
    table = gpu.asarray(np.array([[1.0], [2], [3]]))
    found = kernels.gather_rows(table, indices).get()
    np.testing.assert_array_equal(found[:, 0], [1, np.nan, np.nan, 3])
    grad = gpu.asarray(np.array([[1.0], [2], [4], [8]]))
    found = kernels.scatter_add_rows(grad, indices, 3).get()
    np.testing.assert_array_equal(found[:, 0], [1, 0, 8])


def test_the_real_tile_and_digit(gpu, monkeypatch):
    from minigen.kernels.cuda import gather

    monkeypatch.setattr(gather, "FEW", -1)
    rng = np.random.default_rng(12)
    check("scatter_add_rows", rng.normal(size=(300, 1)), np.sort(rng.integers(0, 2, 300)), 2)


def test_rows_of_other_dtypes_orders_and_sizes(gpu):
    rng = np.random.default_rng(13)
    index = gpu.asarray(np.array([[2, 0], [1, 1]], np.int32))
    for dtype in (bool, np.uint8, INT):
        table = rng.integers(0, 2, (3, 4)).astype(dtype)
        found = kernels.gather_rows(gpu.asarray(table), index)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.get(), table[index.get()])
    whole = rng.integers(0, 9, (2, 2, 3))
    found = kernels.scatter_add_rows(gpu.asarray(whole), index, 3)
    expected = kernels.scatter_add_rows(whole, index.get(), 3)
    assert found.dtype == INT
    np.testing.assert_array_equal(found.get(), expected)
    check("gather_rows", rng.normal(size=(4, 3)).T, np.array([2, 1]))
    check("scatter_add_rows", rng.normal(size=(4, 3)).T, np.array([0, 1, 1]), 2)
    none = np.zeros((0,), INT)
    assert check("gather_rows", rng.normal(size=(3, 2)), none).shape == (0, 2)
    assert check("gather_rows", np.zeros((3, 0)), np.array([1])).shape == (1, 0)
    check("scatter_add_rows", np.zeros((0, 2)), none, 3)
    check("scatter_add_rows", np.zeros((0, 2)), none, 0)


PATCHES = [  # size, kernel, dilation, padding, stride
    ((4, 5), (2, 2), (1, 1), (0, 0), (1, 1)),
    ((5, 4), (3, 2), (1, 1), (1, 2), (2, 1)),
    ((6, 5), (2, 3), (3, 1), (2, 1), (1, 2)),
    ((4, 7), (1, 2), (1, 2), (1, 0), (1, 3)),
    ((5, 7), (1, 2), (1, 1), (0, 0), (3, 3)),
]


@pytest.mark.parametrize("problem", PATCHES)
@pytest.mark.parametrize("last", [True, False])
def test_unfold_and_fold(gpu, problem, last):
    size, *rest = problem
    dtype = np.float32 if last else np.float64
    columns = check("unfold", images((2, 3, *size), dtype, last=last), *rest)
    assert columns.flags.c_contiguous
    other = np.random.default_rng(14).normal(size=columns.shape).astype(dtype)
    back = check("fold", other, size, *rest)
    assert back.transpose(0, 2, 3, 1).flags.c_contiguous
    check("fold", np.asfortranarray(other), size, *rest)


def test_more_planes_than_a_grid_holds(gpu, monkeypatch):
    from minigen.kernels.cuda import arrays

    monkeypatch.setattr(arrays, "BLOCKS", 1)
    size, *rest = PATCHES[1]
    columns = check("unfold", images((2, 3, *size)), *rest)
    check("fold", columns.get(), size, *rest)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, INT, np.complex64])
def test_patches_of_other_dtypes(gpu, dtype):
    x, call = images((2, 3, 4, 4), dtype, ties=True), ((2, 2), (1, 1), (1, 0), (1, 1))
    found = kernels.unfold(gpu.asarray(x), *call)
    assert found.dtype == dtype
    expected = kernels.unfold(x, *call)
    np.testing.assert_array_equal(found.get(), expected)
    if dtype in (np.int32, INT):
        back = kernels.fold(found, (4, 4), *call)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back.get(), kernels.fold(expected, (4, 4), *call))


def test_no_patches(gpu):
    call = ((2, 2), (1, 1), (0, 0), (1, 1))
    assert check("unfold", np.zeros((0, 3, 3, 3)), *call).shape == (0, 12, 4)
    assert check("fold", np.zeros((2, 0, 4)), (3, 3), *call).shape == (2, 0, 3, 3)
    with pytest.raises(TypeError, match="unfold: got complex128, expected a dtype of"):
        kernels.unfold(gpu.asarray(np.zeros((1, 1, 3, 3), complex)), *call)
