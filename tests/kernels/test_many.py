"""Several arrays in one call."""

import numpy as np
import pytest

from minigen import kernels


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_pairs_are_copied_and_added_each_by_itself(target):
    a, b = np.zeros((2, 3), np.float32), np.arange(6, dtype=np.float64).reshape(3, 2).T
    count, one = np.array(0), np.array(1)
    with kernels.use(target):
        assert kernels.copy_each(a, b, count, one) is None
        sums = kernels.add_each(a, b, one, one)
    np.testing.assert_array_equal(a, b)
    assert count == 1
    np.testing.assert_array_equal(sums[0], 2 * b)
    assert sums[1] == 2 and one == 1
    with pytest.raises(ValueError, match="shorter"):
        kernels.copy_each(a)
