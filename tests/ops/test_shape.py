"""Shape ops against NumPy, and the memory order of images."""

import numpy as np
import pytest

import minigen.ops as ops
from minigen.autograd import grad
from minigen.tensor import Tensor, tensor
from tests.ops.support import equal, same

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
CALLS = {
    "reshape": [((6, 4),), (-1,), ((2, -1, 2),), ((5, 5),), ((-1, -1),), ((4, 6), "F")],
    "ravel": [(), ("F",)],
    "transpose": [(), ((2, 0, 1),), ((-1, 0, 1),), ((0, 1),), ((0, 0, 1),)],
    "permute_dims": [((2, 0, 1),)],
    "swapaxes": [(0, 2), (-1, 0), (0, 3)],
    "moveaxis": [(0, -1), ((0, 1), (2, 0)), (0, 3), ((0, 1), (0,))],
    "expand_dims": [(0,), (-1,), ((0, 2),), (5,), ((0, 0),)],
    "broadcast_to": [((5, 2, 3, 4),), ((2, 3, 5),)],
    "flip": [(), (0,), ((0, -1),), (3,)],
    "flipud": [()],
    "fliplr": [()],
    "roll": [(1,), (-2, 1), ((1, 2), (0, 2)), (1, 3)],
    "rot90": [(), (2,), (-1, (1, 2)), (1, (0, 0))],
    "tile": [(2,), ((2, 1, 3),), ((2, 1, 1, 1),), ((1, 2),)],
    "tril": [(), (1,), (-2,)],
    "triu": [(), (1,), (-2,)],
    "split": [(2,), (3, 1), ([1, 2], 2), (5,)],
    "array_split": [(2,), (3, 2), ([1], 1), (0,)],
    "pad": [
        *((1,), (((1, 2), (0, 0), (2, 0)),), ((1, 0), "constant"), (1, "edge"), (1, "wrap")),
        *((1, "reflect"), (1, "symmetric"), (3, "wrap"), (5, "symmetric"), ({-1: (1, 2)}, "edge")),
        *((-1,), (((1, 2), (0, 0)),), (1, "no such mode")),
    ],
}


@pytest.mark.parametrize(
    "name, args", [(n, a) for n, calls in CALLS.items() for a in calls], ids=str
)
def test_agrees_with_numpy(name, args):
    same(getattr(ops, name), getattr(np, name), X, *args)


def test_squeeze():
    x = X[:, None, :, :1]
    for args in ((), (1,), (-1,), ((1, 3),), (0,)):
        same(ops.squeeze, np.squeeze, x, *args)


@pytest.mark.parametrize("name", ["concatenate", "stack", "vstack", "hstack"])
def test_joining(name):
    ours, numpys = getattr(ops, name), getattr(np, name)
    for xs in ([X, X + 1], [X[0], X[1]], [X[0, 0], X[0, 1]], [X[:, 0], X[:, 1].astype(float)]):
        same(ours, numpys, xs)
    same(ours, numpys, [X, X[:, :2]])
    same(ours, numpys, [])


def test_joining_along_axes():
    for axis in (1, -1, None, 3):
        same(ops.concatenate, np.concatenate, [X, X], axis=axis)
    same(ops.concatenate, np.concatenate, [X, X[:, :1]], axis=1)
    for axis in (1, -1, 4):
        same(ops.stack, np.stack, [X, X], axis=axis)


def test_flatten():
    equal(ops.flatten(X), X.reshape(-1))
    equal(Tensor(X).flatten(1), X.reshape(2, 12))
    equal(Tensor(X).flatten(0, 1), X.reshape(6, 4))
    equal(ops.flatten(np.float32(3)), np.float32([3]))
    equal(ops.flatten(X[:0], 1), np.zeros((0, 12), np.float32))
    with pytest.raises(IndexError, match="dims 3 to 3 do not fit"):
        ops.flatten(X, 3, 3)
    with pytest.raises(ValueError, match="start_dim 2"):
        ops.flatten(X, 2, 1)


def test_pad_values_and_methods():
    same(ops.pad, np.pad, X, 1, constant_values=7)
    same(ops.pad, np.pad, X, 1, constant_values=((1, 2), (3, 4), (5, 6)))
    equal(ops.pad(X, pad_width=1, mode="reflect"), np.pad(X, 1, mode="reflect"))
    same(ops.pad, np.pad, X[:, :0], 1)
    same(ops.pad, np.pad, X[:, :0], 1, "edge")
    with pytest.raises(ValueError, match="linear_ramp"):
        ops.pad(X, 1, "linear_ramp")


def test_reshape_order_a_is_refused():
    with pytest.raises(ValueError, match="'A'"):
        ops.reshape(X, -1, "A")


def test_images_stay_channels_last():
    x = Tensor(np.ones((2, 5, 6, 3), np.float32).transpose(0, 3, 1, 2))
    outs = [ops.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)), mode) for mode in ("constant", "reflect")]
    outs += [ops.concatenate([x, x], 1), ops.concatenate([x, x], -1), ops.exp(x), x + x]
    outs += [ops.where(x > 0, x, 0), ops.maximum(x, 0), ops.clip(x, 0, 1), ops.roll(x, 1, 2), x**2]
    outs += [x - x.mean((0, 2, 3), keepdims=True), x[np.array([1, 0])], x.astype(np.float64)]
    for out in outs:
        assert out.data.transpose(0, 2, 3, 1).flags.c_contiguous
    leaf = tensor(np.ones((2, 3, 5, 6), np.float32), requires_grad=True)
    g = np.ones((2, 2, 6, 3), np.float32).transpose(0, 3, 1, 2)
    (back,) = grad(leaf[:, :, 1:3], leaf, [Tensor(g)])
    assert back.data.transpose(0, 2, 3, 1).flags.c_contiguous


def test_views_share_memory_and_versions():
    x = tensor(X)
    for view in (x.reshape(6, 4), x.T, x[0], x.swapaxes(0, 1), ops.squeeze(x), ops.flip(x)):
        assert np.shares_memory(view.data, x.data)
        assert view.version is x.version
    assert x.copy().version is not x.version


def test_methods_take_shapes_both_ways():
    t = Tensor(X)
    equal(t.reshape(4, 6), X.reshape(4, 6))
    equal(t.reshape((4, 6)), X.reshape(4, 6))
    equal(t.reshape(-1), X.reshape(-1))
    equal(t.transpose(2, 0, 1), X.transpose(2, 0, 1))
    equal(t.transpose((2, 0, 1)), X.transpose(2, 0, 1))
    equal(t.transpose(), X.T)
    equal(t.T, X.T)
    equal(t.mT, X.mT)
    equal(Tensor(np.float32(2)).reshape(()), np.float32(2))
    equal(Tensor(np.float32([2])).reshape(()), np.float32(2))
    equal(t.permute(1, 0, 2), X.transpose(1, 0, 2))
