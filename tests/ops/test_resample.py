"""Resizing against frozen values of another library, its adjoint, locality, layout, arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen.ops.resample import interpolate, resample, resizing
from minigen.tensor import Tensor
from minigen.testing import check_adjoint

X = np.arange(12.0).reshape(1, 1, 3, 4) ** 1.5

FROZEN = [  # torch.nn.functional.interpolate, version 2.13, float64
    (
        {"size": (2, 5), "mode": "bilinear"},
        [
            [2.0, 3.081559, 4.67032, 6.615042, 8.527179],
            [18.970563, 21.822728, 25.218201, 28.771588, 31.992219],
        ],
    ),
    (
        {"size": (4, 3), "mode": "bilinear", "align_corners": True},
        [
            [0.0, 1.914214, 5.196152],
            [5.333333, 9.263831, 14.07889],
            [12.875806, 18.396222, 24.507797],
            [22.627417, 29.311388, 36.482873],
        ],
    ),
    (
        {"scale_factor": (1.3, 0.7), "mode": "bilinear"},
        [[0.214286, 2.175417], [8.681501, 13.44101], [23.564399, 29.971785]],
    ),
    (
        {"size": (2, 6), "mode": "bicubic"},
        [
            [1.172207, 1.820663, 3.141896, 4.404828, 6.456494, 7.814392],
            [19.231872, 21.268748, 24.691348, 27.235884, 30.95891, 33.287579],
        ],
    ),
    (
        {"size": (2, 3), "mode": "bilinear", "antialias": True},
        [[3.545288, 6.048373, 9.31862], [18.319783, 23.171607, 28.405501]],
    ),
    (
        {"size": (2, 3), "mode": "bicubic", "antialias": True},
        [[2.500396, 5.075427, 8.57281], [18.582987, 24.006581, 29.852369]],
    ),
    (
        {"size": (2, 3), "mode": "area"},
        [[5.045085, 7.426426, 10.310444], [17.201939, 21.125014, 25.330712]],
    ),
]


@pytest.mark.parametrize(("options", "expected"), FROZEN)
def test_frozen_values(options, expected):
    np.testing.assert_allclose(interpolate(Tensor(X), **options).numpy()[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "rows", "columns"),
    [("nearest", [0, 0, 1, 1, 2], [0, 1, 2]), ("nearest-exact", [0, 0, 1, 2, 2], [0, 2, 3])],
)
def test_nearest_copies_pixels(mode, rows, columns):
    y = interpolate(Tensor(X), (5, 3), mode=mode).numpy()
    np.testing.assert_array_equal(y, X[:, :, rows][..., columns])


MODES = st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic", "area"])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(MODES, st.integers(1, 7), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
def test_the_adjoint_and_constants(mode, height, width, rows, columns):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 2, height, width))
    ones = interpolate(Tensor(np.ones_like(x)), (rows, columns), mode=mode).numpy()
    np.testing.assert_allclose(ones, 1, atol=1e-12)  # every mode keeps constants
    taps = resizing(height, rows, None, "bicubic" if mode == "area" else mode, False, False)
    if taps is not None:
        y = rng.standard_normal((2, 2, rows, width))
        check_adjoint(lambda t: resample(t, taps, 2), lambda t: resample(t, taps.T, 2), x, y)
        assert taps.T.T is taps


def test_twice_as_large_and_back():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    y = interpolate(Tensor(x), scale_factor=2)
    np.testing.assert_array_equal(y.numpy(), x.repeat(2, 2).repeat(2, 3))
    assert y.dtype == np.float32
    assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous  # channels last, as images are kept
    np.testing.assert_array_equal(interpolate(y, scale_factor=0.5, mode="area").numpy(), x)


def test_scale_factors_may_be_recomputed():
    x = Tensor(np.random.default_rng(0).standard_normal((1, 1, 5, 5)))
    scaled = interpolate(x, scale_factor=1.5, mode="bilinear").numpy()
    sized = interpolate(x, size=7, mode="bilinear").numpy()
    again = interpolate(x, scale_factor=1.5, mode="bilinear", recompute_scale_factor=True).numpy()
    np.testing.assert_array_equal(again, sized)
    assert np.abs(scaled - sized).max() > 1e-3


def test_one_and_three_axes_and_no_batch():
    x = np.random.default_rng(0).standard_normal((2, 2, 3))
    y = interpolate(Tensor(x), 6, mode="linear").numpy()
    np.testing.assert_allclose(y[..., 1], 0.75 * x[..., 0] + 0.25 * x[..., 1])
    assert interpolate(Tensor(x[:, :, None, None]), (2, 3, 4), mode="trilinear").shape == (
        2, 2, 2, 3, 4,
    )  # fmt: skip
    assert interpolate(Tensor(np.zeros((0, 2, 3, 3))), 5, mode="bilinear").shape == (0, 2, 5, 5)


def test_nan_and_inf_reach_neighbours_only():
    x = np.zeros((1, 1, 1, 9))
    x[..., 0], x[..., 8] = np.nan, np.inf
    y = interpolate(Tensor(x), (1, 18), mode="bilinear").numpy().ravel()
    assert np.isfinite(y[3:15]).all() and np.isnan(y[:3]).any() and np.isinf(y[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "size is None, scale_factor None; give exactly one of them"),
        ({"size": 2, "scale_factor": 2}, "give exactly one"),
        ({"size": (1, 2, 3)}, "size (1, 2, 3) does not fit input (1, 1, 3, 4); give 2 values"),
        ({"size": 0}, "size 0 gives size (0, 0)"),
        ({"size": 2, "mode": "cubic"}, "mode is 'cubic'; expected one of nearest"),
        ({"size": 2, "mode": "linear"}, "mode 'linear' needs 3 axes"),
        ({"size": 2, "align_corners": False}, "mode 'nearest' takes no align_corners (got False)"),
        ({"size": 2, "antialias": True}, "mode 'nearest' has no antialias"),
        ({"size": 2, "recompute_scale_factor": True}, "give scale_factor, not size"),
    ],
)
def test_errors_name_both_values(options, message):
    with pytest.raises(ValueError) as error:
        interpolate(Tensor(X), **options)
    assert message in str(error.value)
