"""The engine: recording, the sweep, in-place safety, checkpointing, memory."""

import copy
import gc
import math
import pickle
import weakref

import numpy as np
import pytest

import minigen as mg
from minigen.testing import GradientError, check_adjoint, gradcheck


def leaf(*values):
    return mg.tensor(np.array(values, np.float64), requires_grad=True)


def test_grad_of_grad_to_order_four():
    x = leaf(1.5)
    y = x**5
    for k, factor in enumerate([5, 20, 60, 120], 1):
        (y,) = mg.grad(y.sum(), [x], create_graph=True)
        np.testing.assert_allclose(y.numpy(), factor * 1.5 ** (5 - k))


def test_grad_of_several_outputs_adds_up():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    gx, gy = mg.grad([x * y, x + y], [x, y], [mg.tensor([1.0, 1.0]), mg.tensor([10.0, 10.0])])
    np.testing.assert_allclose(gx.numpy(), [13, 14])
    np.testing.assert_allclose(gy.numpy(), [11, 12])


def test_grad_at_an_interior_tensor():
    x = leaf(2.0)
    h = x * 3
    gh, gx = mg.grad((h * h).sum(), [h, x])
    assert gh.item() == 12 and gx.item() == 36


def test_backward_accumulates_and_value_and_grad_returns():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [4, 8])
    loss, (g,) = mg.value_and_grad(lambda: (x * x).sum(), [x])()
    assert loss.item() == 5 and not loss.requires_grad
    np.testing.assert_allclose(g.numpy(), [2, 4])


def test_value_and_grad_passes_auxiliary_results_through():
    x = leaf(3.0)
    (loss, twice), _ = mg.value_and_grad(lambda: ((x * x).sum(), x * 2), [x])()
    assert loss.item() == 9 and twice.item() == 6 and not twice.requires_grad


def test_deep_graph_does_not_overflow_the_stack():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + x
    y.sum().backward()
    assert x.grad.item() == 100_001


def test_graph_is_freed_by_reference_counting():
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        h = mg.exp(x)  # keeps its output, which must not close a circle
        array = weakref.ref(h.node)
        y = mg.softmax(h * h, 0).sum()
        mg.grad(y, [x], create_graph=True)
        del h, y
        assert array() is None
    finally:
        gc.enable()


def test_a_graph_that_was_swept_is_freed_unless_it_is_kept():
    x = leaf(1.0, 2.0)
    y = mg.exp(x * x)
    total = y.sum()
    first = mg.grad(total, [x])  # a pure function: the graph stays
    np.testing.assert_array_equal(mg.grad(total, [x])[0].numpy(), first[0].numpy())
    total.backward(retain_graph=True)
    total.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * first[0].numpy())
    for again in (lambda: total.backward(), lambda: mg.grad(y, [x], y)):
        with pytest.raises(RuntimeError, match="saved was freed"):
            again()
    z = mg.exp(x)
    mg.grad(z, [x], z, retain_graph=False)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        mg.grad(z, [x], z)


def test_value_and_grad_frees_what_its_function_recorded_and_nothing_older():
    x, kept = leaf(1.0, 2.0), []
    outer = mg.exp(x)

    def loss():
        kept.append(mg.exp(outer * x))
        return kept[-1].sum()

    mg.value_and_grad(loss, [x])()
    assert mg.grad(outer, [x], outer)[0].shape == (2,)
    with pytest.raises(RuntimeError, match="what exp saved was freed"):
        mg.grad(kept[0], [x], kept[0])
    (g,) = mg.grad(mg.exp(x * x).sum(), [x], create_graph=True, retain_graph=False)
    mg.grad(g.sum(), [x])  # differentiating again keeps the graph whatever is asked


def test_memory_is_given_back_during_the_sweep():
    x = mg.tensor(np.ones(1000), requires_grad=True)
    alive, arrays = [], []

    @mg.autograd.op
    def noted(x):
        arrays.append(weakref.ref(x))
        return np.multiply(x, 1)

    def rule(g, x):
        alive.append(sum(a() is not None for a in arrays))
        return g * x

    noted.vjp(x=rule)
    del mg.autograd.REGISTRY["noted"]

    def loss():
        y = x
        for _ in range(10):
            y = noted(y * 2.0)
        return y.sum()

    mg.value_and_grad(loss, [x])()
    assert alive == list(range(10, 0, -1))


def test_nodes_keep_only_what_the_asked_for_gradients_need():
    x, w = leaf(1.0), mg.tensor([2.0])
    y = x * w
    assert list(y.node.saved) == ["y"]  # d(xy)/dx needs y; nobody can ask for d/dy
    assert (x + w).node.saved == {}


def test_only_paths_to_the_inputs_are_computed():
    calls = []

    @mg.autograd.op
    def watched(x, y):
        return x * y

    watched.vjp(
        x=lambda g, y: calls.append("x") or g * y,
        y=lambda g, x: calls.append("y") or g * x,
    )
    del mg.autograd.REGISTRY["watched"]
    x, y = leaf(2.0), leaf(3.0)
    mg.grad(watched(x, y).sum(), [x])
    assert calls == ["x"]


def test_what_is_reached_with_slope_zero_has_gradient_zero():
    x = leaf(1.0, -2.0)
    (g,) = mg.grad(mg.relu(x).sum(), [x], create_graph=True)
    np.testing.assert_array_equal(mg.grad(g.sum(), [x])[0].numpy(), 0)
    g.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 0)
    shift = leaf(0.0, 0.0)  # the gradients of batch norm do not depend on its bias
    data = mg.tensor(np.random.default_rng(0).standard_normal((4, 2)))
    y = mg.batch_norm(data, None, None, None, shift, training=True)
    (g,) = mg.grad(y.sum(), [shift], create_graph=True)
    np.testing.assert_array_equal(mg.grad(g.sum(), [shift])[0].numpy(), 0)


def test_sequences_may_be_generators_and_hold_lists():
    x = leaf(1.0, 2.0)
    y = mg.concatenate(part for part in [[5.0, 6.0, 7.0], x, x * 3])
    (g,) = mg.grad(y, [x], mg.tensor(np.arange(7.0)))
    np.testing.assert_array_equal(g.numpy(), [3 + 15, 4 + 18])


def test_no_grad_may_be_entered_again_inside_itself():
    quiet = mg.no_grad()
    with quiet, quiet:
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()


def test_no_grad_and_detach():
    x = leaf(1.0)
    with mg.no_grad():
        assert not (x * 2).requires_grad
        with mg.enable_grad():
            assert (x * 2).requires_grad
    assert not x.detach().requires_grad

    @mg.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad


def test_broadcasting_and_promotion_are_undone():
    x = mg.tensor(np.ones((3, 1), np.float32), requires_grad=True)
    y = mg.tensor(np.ones(4), requires_grad=True)
    gx, gy = mg.grad((x * y).sum(), [x, y])
    assert (gx.shape, gx.dtype, gy.shape, gy.dtype) == ((3, 1), np.float32, (4,), np.float64)


# in-place use -----------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["setitem", "iadd", "view", "view of view"])
def test_a_written_array_that_a_gradient_needs_raises(write):
    x, w = leaf(1.0, 2.0), mg.tensor(np.array([3.0, 4.0]))
    y = (x * w).sum()
    with mg.no_grad():
        if write == "setitem":
            w[0] = 9.0
        elif write == "iadd":
            w += 1
        elif write == "view":
            w[1:][0] = 9.0
        else:
            w.reshape(1, 2)[0][1] = 9.0
    with pytest.raises(RuntimeError, match=r"'y', saved by multiply, was written in place"):
        mg.grad(y, [x])


VIEWS = {
    "unpad": lambda w: mg.unpad(w, (2, 2), ((0, 1), (0, 1))),
    "einsum": lambda w: mg.einsum("ii->i", w),
    "imag": lambda w: mg.imag(w),
    "asarray": lambda w: mg.asarray(w, dtype=w.dtype),
    "detach": lambda w: w.detach(),
    "checkpoint": lambda w: mg.checkpoint(lambda x: x, w),
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_op_that_may_give_a_view_shares_the_guard(name):
    w = mg.tensor(np.ones((3, 3), np.complex128 if name == "imag" else np.float64))
    x = mg.tensor(np.ones_like(w.numpy()), requires_grad=True)
    y = x * w
    with mg.no_grad():
        view = VIEWS[name](w)
        assert np.shares_memory(view.numpy(), w.numpy())
        view += 1
    with pytest.raises(RuntimeError, match="written in place afterwards"):
        mg.grad(y, [x], mg.Tensor(np.ones_like(y.numpy())))


def test_tensors_inside_an_index_are_guarded():
    x, rows = leaf(1.0, 2.0, 3.0), mg.tensor([0, 1])
    y = x[(rows,)].sum()
    rows[0] = 2
    with pytest.raises(RuntimeError, match="'index', saved by getitem"):
        mg.grad(y, [x])


def test_in_place_keeps_dtype_and_shape_also_inside_a_graph():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    for y in (x * 1, mg.tensor([1.0, 2.0])):
        y += np.ones(2)
        y **= 2
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y.numpy(), [4, 9])
        with pytest.raises(ValueError, match=r"\(2,\)"):
            y += mg.ones((3, 2))


def test_astype_copies_unless_told_not_to():
    x = mg.tensor([1.0, 2.0])
    y, shared = x.astype(np.float32), x.astype(np.float32, copy=False)
    y += 1
    np.testing.assert_array_equal(x.numpy(), [1, 2])
    shared += 1
    np.testing.assert_array_equal(x.numpy(), [2, 3])


def test_an_output_that_a_gradient_needs_is_guarded_too():
    x = leaf(1.0, 2.0)
    y = mg.exp(x)
    total = y.sum()
    with mg.no_grad():
        y[0] = 0.0
    with pytest.raises(RuntimeError, match="'out', saved by exp"):
        mg.grad(total, [x])


def test_writes_inside_a_graph_are_functional():
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    before = y[:2]
    y[0] = x[2] * 10
    np.testing.assert_allclose(y.numpy(), [30, 4, 6])
    np.testing.assert_allclose(before.numpy(), [2, 4])
    (g,) = mg.grad(y.sum(), [x])
    np.testing.assert_allclose(g.numpy(), [0, 2, 12])


def test_a_leaf_that_requires_grad_cannot_be_written():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="no_grad"):
        x[0] = 2.0
    with mg.no_grad():
        x += 1
    assert x.item() == 2


def test_views_share_memory_and_numpy_is_read_only():
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    x[0][1] = 10
    assert x.numpy()[0, 1] == 10
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 1


def test_tensor_copies_and_asarray_shares():
    a = np.ones(3)
    copied, shared = mg.tensor(a), mg.asarray(a)
    a[0] = 5
    assert copied.numpy()[0] == 1 and shared.numpy()[0] == 5


# Python's protocols -----------------------------------------------------------------------


def test_a_tensor_of_lists_keeps_what_has_a_dtype():
    assert mg.tensor([1.0, 2.0]).dtype == np.float32
    assert mg.tensor([np.float64(1), 2.0]).dtype == np.float64
    assert mg.tensor([leaf(1.0), [2.0]]).dtype == np.float64
    with pytest.raises(ValueError, match="inhomogeneous"):
        mg.tensor([[1.0, 2.0], [3.0]])
    with pytest.raises(TypeError, match="cannot hold"):
        mg.tensor("one")


def test_asarray_converts_within_the_graph():
    x = leaf(1.0, 2.0)
    assert mg.asarray(x) is x
    (g,) = mg.grad(mg.asarray(x, dtype=np.float32).sum(), [x])
    assert g.dtype == np.float64


def test_protocols():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert 4.0 in x and 5.0 not in x and len(x) == 2 and [float(v) for v in x[0]] == [1, 2]
    assert f"{mg.tensor(1.5):.3f}" == "1.500" and f"{x}" == str(x)
    assert complex(mg.tensor(1 + 2j)) == 1 + 2j and int(mg.tensor(3)) == 3
    assert x in {x} and list(range(4))[mg.tensor(2)] == 2
    for copied in (copy.deepcopy(x), copy.copy(x), pickle.loads(pickle.dumps(x))):
        assert copied.dtype == x.dtype and not np.shares_memory(copied.numpy(), x.numpy())
        np.testing.assert_array_equal(copied.numpy(), x.numpy())
    assert np.from_dlpack(x)[1, 1] == 4 and np.shares_memory(np.from_dlpack(x), x.data)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, np.float64, copy=False)
    with pytest.raises(TypeError, match="len"):
        iter(mg.tensor(1.0))


# checkpoint -------------------------------------------------------------------------------


def test_errors_say_what_is_wrong():
    x, other = leaf(1.0, 2.0), leaf(3.0)
    with pytest.raises(ValueError, match="do not depend on input 1 of shape"):
        mg.grad((x * x).sum(), [x, other])
    assert mg.grad((x * x).sum(), [other], allow_unused=True) == (None,)
    with pytest.raises(ValueError, match=r"shape \(2,\); give grad_outputs"):
        mg.grad(x * x, [x])
    with pytest.raises(ValueError, match=r"shape \(2,\), its grad_output \(3,\)"):
        mg.grad(x * x, [x], mg.tensor([1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="input 0 does not require"):
        mg.grad((x * x).sum(), [mg.tensor([1.0])])
    with pytest.raises(ValueError, match="2 outputs, 1 grad_outputs"):
        mg.grad([x * x, x], [x], [x.detach()])
    with pytest.raises(TypeError, match="int64 has no gradient"):
        mg.tensor([1], requires_grad=True)
    with pytest.raises(ValueError, match="only a leaf"):
        (x * 2).requires_grad = False


def test_gradcheck_refuses_nan():
    with pytest.raises(GradientError, match="error inf"), np.errstate(invalid="ignore"):
        gradcheck(lambda x: x * math.nan, [np.ones(2)])

    def nowhere(x):  # the gradient is finite, the function is not
        return mg.where(mg.zeros(2, bool), x, 0.0) + math.nan

    with pytest.raises(GradientError, match="error inf"):
        gradcheck(nowhere, [np.ones(2)])


def test_gradcheck_catches_wrong_gradients():
    @mg.autograd.op
    def wrong_once(x):
        return np.sin(x)

    wrong_once.vjp(x=lambda g, x: g * mg.sin(x))

    @mg.autograd.op
    def wrong_twice(x):  # first order right, second order wrong: the VJP hides x behind detach
        return np.sin(x)

    wrong_twice.vjp(x=lambda g, x: g * mg.cos(x.detach()))
    del mg.autograd.REGISTRY["wrong_once"], mg.autograd.REGISTRY["wrong_twice"]
    x = np.array([0.3, 0.5])
    with pytest.raises(GradientError, match="wrong_once: order-1"):
        gradcheck(wrong_once, [x])
    gradcheck(wrong_twice, [x], order=1)
    with pytest.raises(GradientError, match="wrong_twice: order-2"):
        gradcheck(wrong_twice, [x])
    with pytest.raises(GradientError, match="adjoint"):
        check_adjoint(lambda x: x * 2, lambda y: y * 3, x, x)


def test_a_vjp_that_names_an_unknown_parameter_is_refused():
    @mg.autograd.op
    def lonely(x):
        return x

    del mg.autograd.REGISTRY["lonely"]
    with pytest.raises(TypeError, match="no parameter 'z'"):
        lonely.vjp(x=lambda g, z: g)
