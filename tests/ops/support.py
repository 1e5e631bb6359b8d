"""What tests of ops share: the comparison with NumPy in values, dtypes and errors."""

import numpy as np
import pytest

from minigen.tensor import Tensor


def same(ours, numpys, *args, tolerance=1e-6, **static):
    """Assert that both return the same arrays (dtype too) or raise the same kind of error."""
    try:
        expected = numpys(*args, **static)
    except (ValueError, TypeError, IndexError, ArithmeticError, np.linalg.LinAlgError) as error:
        kind = next(k for k in KINDS if isinstance(error, k))
        with pytest.raises(kind):
            ours(*map(wrap, args), **static)
        return
    equal(ours(*map(wrap, args), **static), expected, tolerance)


KINDS = (np.linalg.LinAlgError, IndexError, TypeError, ArithmeticError, ValueError)


def wrap(x):
    """Arrays become Tensors, in lists too; everything else stays."""
    if isinstance(x, list) and x and isinstance(x[0], np.ndarray):
        return [Tensor(v) for v in x]
    return Tensor(x) if isinstance(x, np.ndarray) else x


def equal(found, expected, tolerance=1e-6):
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            equal(f, e, tolerance)
        return
    assert isinstance(found, Tensor)
    assert found.shape == np.shape(expected)
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found.data, expected, rtol=tolerance, atol=tolerance)
