"""Optimisers against their formulas written out, and what must not break them."""

import copy

import numpy as np
import pytest

from minigen import backend, kernels, nn, optim
from minigen.optim.flat import flatten, memory, memory_order
from minigen.random import Generator
from minigen.tensor import Tensor, tensor

SHAPES = [(3, 4), (5,), (2, 3, 4, 4), (), (1,)]


def parameters(dtype=np.float64, seed=0):
    """Tensors of SHAPES; the 4-D one is channels-last."""
    rng, found = np.random.default_rng(seed), []
    for shape in SHAPES:
        array = backend.channels_last(shape, dtype) if len(shape) == 4 else np.empty(shape, dtype)
        array[...] = rng.normal(size=shape)
        found.append(Tensor(array))
        found[-1].requires_grad = True
    return found


def gradients(step, dtype=np.float64, missing=False):
    """One gradient a parameter; with `missing`, some are None at some steps."""
    rng = np.random.default_rng(100 + step)
    grads = [Tensor(np.asarray(rng.normal(size=shape), dtype)) for shape in SHAPES]
    if missing and step % 7 == 3:
        grads[1] = None
    if missing and step < 2:
        grads[4] = None
    return grads


# The formulas of torch.optim, for one parameter p, its gradient g and state s; t counts from 1.


def plain_sgd(p, g, s, t, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    g = g + weight_decay * p
    if momentum:
        s["b"] = g if t == 1 else momentum * s["b"] + (1 - dampening) * g
        g = g + momentum * s["b"] if nesterov else s["b"]
    return p - lr * g


def plain_rmsprop(
    p, g, s, t, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False
):
    g = g + weight_decay * p
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    s["a"] = alpha * s.get("a", 0) + (1 - alpha) * g
    move = g / (np.sqrt(s["v"] - s["a"] ** 2 if centered else s["v"]) + eps)
    s["b"] = momentum * s.get("b", 0) + move
    return p - lr * s["b"]


def plain_adam(p, g, s, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False):
    p, g = (p * (1 - lr * weight_decay), g) if decoupled else (p, g + weight_decay * p)
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m, v = s["m"] / (1 - betas[0] ** t), s["v"] / (1 - betas[1] ** t)
    return p - lr * m / (np.sqrt(v) + eps)


def plain_adamw(p, g, s, t, weight_decay=1e-2, **options):
    return plain_adam(p, g, s, t, weight_decay=weight_decay, decoupled=True, **options)


CASES = [
    (optim.SGD, plain_sgd, {}),
    (optim.SGD, plain_sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    (optim.SGD, plain_sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.RMSprop, plain_rmsprop, {}),
    (optim.RMSprop, plain_rmsprop, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    (optim.RMSprop, plain_rmsprop, {"alpha": 0.9, "centered": True, "eps": 1e-3}),
    (optim.Adam, plain_adam, {}),
    (optim.Adam, plain_adam, {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.1}),
    (optim.AdamW, plain_adamw, {}),
    (optim.AdamW, plain_adamw, {"lr": 0.05, "weight_decay": 0.3}),
]


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize(("make", "plain", "options"), CASES)
def test_twenty_steps_follow_the_formula_also_where_gradients_are_missing(
    make, plain, options, target
):
    params = parameters()
    expected, states, steps = [p.data.copy() for p in params], [{} for _ in params], [0] * 5
    with kernels.use(target):
        optimizer = make(params, **options)
        for step in range(20):
            grads = gradients(step, missing=True)
            optimizer.step(grads)
            for i, g in enumerate(grads):
                if g is not None:
                    steps[i] += 1
                    expected[i] = plain(expected[i], g.data, states[i], steps[i], **options)
    for p, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.data, value, rtol=1e-12, atol=1e-12)


def test_frozen_numbers_of_torch():
    """torch.optim 2.13, float64, x = [1, -2, 3], three steps down x^4 / 4."""
    frozen = {
        optim.SGD: [0.997008976053898, -1.976284955440376, 2.921135557058990],
        optim.RMSprop: [0.797297051271686, -1.783860100978152, 2.779499964930083],
        optim.Adam: [0.997000290924916, -1.997000144358765, 2.997000095995241],
        optim.AdamW: [0.996970324176112, -1.996940177867127, 2.996910129789340],
    }
    for make, expected in frozen.items():
        x = tensor(np.array([1.0, -2.0, 3.0]), requires_grad=True)
        optimizer = make([x])
        for _ in range(3):
            optimizer.step([Tensor(x.data**3)])
        np.testing.assert_allclose(x.data, expected, rtol=0, atol=5e-13)


def test_parameters_become_views_of_one_buffer_and_keep_identity_shape_and_memory_order():
    params = parameters(np.float32)
    before = [(p, p.data.copy(), p.data.strides) for p in params]
    optim.Adam(params)
    bases = {id(p.data.base) for p in params}
    assert len(bases) == 1
    for p, value, strides in before:
        np.testing.assert_array_equal(p.data, value)
        assert p.data.shape == value.shape and p.data.strides == strides
        assert p.requires_grad


def test_one_kernel_call_a_step(monkeypatch):
    calls = []
    adam = kernels.adam
    monkeypatch.setattr(
        kernels, "adam", lambda *a: (calls.append(a[0].size), adam(*a)), raising=False
    )
    params = parameters()
    optimizer = optim.Adam(params)
    optimizer.step(gradients(0))
    assert len(calls) == 1
    other = optim.Adam([params[0], params[2]])  # not neighbours in the first one's buffer
    other.step([gradients(0)[0], gradients(0)[2]])
    assert calls[1:] == [12, 96]


def test_a_large_gradient_is_not_copied_and_gives_the_same_bits(monkeypatch):
    weight = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    grad = Tensor(np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32))
    grads = [Tensor(np.ones(3, np.float32)), grad, Tensor(np.ones(4, np.float32))]
    results = []
    for large in (1 << 16, 1 << 30):
        monkeypatch.setattr(optim.optimizers, "LARGE", large)
        start = np.ones(3, np.float32), weight, np.ones(4, np.float32)
        params = [tensor(a, requires_grad=True) for a in start]
        optimizer = optim.Adam(params)
        for _ in range(3):
            optimizer.step(grads)
        results.append([p.data.copy() for p in params])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_in_any_memory_order():
    a, b = parameters(), parameters()
    one, two = optim.Adam(a, lr=0.1), optim.Adam(b, lr=0.1)
    grads = gradients(0)
    one.step(grads)
    two.step([Tensor(np.array(g.data, order="F")) for g in grads])
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_two_dtypes_are_two_buffers():
    params = [
        tensor(np.ones(3, d), requires_grad=True) for d in (np.float32, np.float64, np.float32)
    ]
    optimizer = optim.SGD(params, lr=0.5)
    optimizer.step([Tensor(np.full(3, i, p.dtype)) for i, p in enumerate(params)])
    assert [p.dtype for p in params] == [np.float32, np.float64, np.float32]
    np.testing.assert_array_equal([p.data for p in params], [[1] * 3, [0.5] * 3, [0] * 3])


# -------------------------------------------------------------------------- what must not break it


def run(optimizer, params, steps, start=0):
    for step in range(start, start + steps):
        optimizer.step(gradients(step, params[0].dtype))
    return [p.data.copy() for p in params]


def test_two_optimizers_over_the_same_parameters_both_count():
    """The second leaves the parameters where the first put them, and both keep working."""
    params, plain = parameters(), parameters()
    one, two = optim.Adam(params, lr=0.1), optim.SGD(params[1:], lr=0.1)
    arrays = [p.data for p in params]
    alone = optim.Adam(plain, lr=0.1)
    for step in range(3):
        one.step(gradients(step))
        two.step(gradients(step)[1:])
        alone.step(gradients(step))
        for p, g in zip(plain[1:], gradients(step)[1:], strict=True):
            p.data[...] -= 0.1 * g.data
    assert all(p.data is a for p, a in zip(params, arrays, strict=True))
    for p, q in zip(params, plain, strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-12)


@pytest.mark.parametrize("rebind", ["copy", "fortran", "load"])
def test_rebound_parameters_are_noticed(rebind):
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    run(optimizer, params, 2)
    for p in params:
        if rebind == "load":
            p.data[...] = p.data.copy()
        else:
            p.data = np.array(p.data, order="F" if rebind == "fortran" else "C")
    found = run(optimizer, params, 2, start=2)
    other = parameters()
    for a, b in zip(found, run(optim.Adam(other, lr=0.1), other, 4), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_changed_dtype_is_noticed():
    model = nn.Linear(3, 2, rng=Generator(0))
    optimizer = optim.Adam(model, lr=0.1)
    grads = [Tensor(np.ones(p.shape, np.float32)) for p in model.parameters()]
    optimizer.step(grads)
    model.to(dtype=np.float64)
    optimizer.step(grads)
    assert (
        model.weight.dtype == np.float64 and optimizer.state_dict()["m.weight"].dtype == np.float64
    )
    np.testing.assert_allclose(optimizer.state_dict()["m.weight"], 0.19, rtol=1e-6)


def test_deepcopy_is_independent():
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    run(optimizer, params, 2)
    (twin_params, twin) = copy.deepcopy((params, optimizer))
    expected = run(optimizer, params, 2, start=2)
    for a, b in zip(run(twin, twin_params, 2, start=2), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [optim.Adam, lambda p: optim.SGD(p, momentum=0.9, dampening=0.5)])
def test_a_saved_state_resumes_bit_for_bit(make):
    params, fresh = parameters(np.float32), parameters(np.float32, seed=1)
    optimizer = make(params)
    run(optimizer, params, 3)
    state = {k: np.array(v) for k, v in optimizer.state_dict().items()}  # as a file gives them back
    weights = [p.data.copy() for p in params]
    expected = run(optimizer, params, 3, start=3)
    resumed = make(fresh)
    for p, w in zip(fresh, weights, strict=True):
        p.data[...] = w
    resumed.load_state_dict(state)
    assert type(resumed.step_count) is int and resumed.step_count == 3
    for a, b in zip(run(resumed, fresh, 3, start=3), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_is_named_after_the_model():
    optimizer = optim.Adam(nn.Sequential(nn.Linear(2, 3, rng=Generator(0))))
    state = optimizer.state_dict()
    assert list(state) == [
        "step",
        "steps",
        "lr",
        "m.0.weight",
        "m.0.bias",
        "v.0.weight",
        "v.0.bias",
    ]
    assert type(state["step"]) is int and state["m.0.weight"].shape == (3, 2)


def test_versions_rise_where_a_gradient_was_given():
    params = parameters()
    before = [p.version[0] for p in params]
    optim.Adam(params).step(gradients(3, missing=True))
    assert [p.version[0] - b for p, b in zip(params, before, strict=True)] == [1, 0, 1, 1, 1]


def test_step_without_gradients_uses_grad_and_zero_grad_forgets():
    params = parameters()
    optimizer = optim.SGD(params, lr=1.0)
    params[1].grad = Tensor(np.ones(5))
    before = [p.data.copy() for p in params]
    optimizer.step()
    np.testing.assert_allclose(params[1].data, before[1] - 1)
    np.testing.assert_array_equal(params[0].data, before[0])
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_errors_are_one_line_and_change_nothing():
    params = parameters()
    optimizer = optim.Adam(params)
    before = [p.data.copy() for p in params]
    for call, message in [
        (lambda: optimizer.step(gradients(0)[:3]), "Adam.step: got 3 gradients for 5 parameters"),
        (
            lambda: optimizer.step([*gradients(0)[:4], gradients(0)[1]]),
            r"Adam.step: gradient 4 has shape \(5,\), its parameter '4' has \(1,\)",
        ),
        (lambda: optimizer.step(), "Adam.step: no .grad is set"),
        (lambda: optim.Adam([]), "Adam: got no parameters"),
        (lambda: optim.Adam([params[0], params[0]]), "one Tensor is twice among the 2 parameters"),
        (lambda: optim.Adam([Tensor(np.ones(2))]), "parameter 0 has requires_grad=False"),
        (lambda: optim.Adam(params, lr=-1), "Adam: lr is -1, expected a number >= 0 or a schedule"),
        (lambda: optim.Adam(params, betas=(0.9, 1)), r"betas are \(0.9, 1\)"),
        (lambda: optim.SGD(params, nesterov=True), "nesterov needs momentum > 0"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="parameter 0 is a Linear, expected Tensors or one Module"):
        optim.Adam([nn.Linear(1, 1, rng=Generator(0))])
    state = optimizer.state_dict()
    with pytest.raises(KeyError, match=r"Adam.load_state_dict: 1 missing: m.0; 1 unexpected: q"):
        optimizer.load_state_dict({**{k: v for k, v in state.items() if k != "m.0"}, "q": 1})
    with pytest.raises(ValueError, match=r"m.0 has shape \(2,\), expected \(3, 4\)"):
        optimizer.load_state_dict({**state, "m.0": np.ones(2)})
    for p, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, value)


# ------------------------------------------------------------------------------------ flat memory


def test_memory_is_a_view_of_dense_arrays_only():
    image = backend.channels_last((2, 3, 4, 5), np.float32)
    assert memory_order(image) == (0, 2, 3, 1)
    assert np.shares_memory(memory(image), image) and memory(image).shape == (120,)
    assert memory(np.zeros((4, 4))[:, :2]) is None
    assert memory(np.broadcast_to(np.zeros(3), (2, 3))) is None
    assert memory(np.zeros(())).shape == (1,)


def test_flatten_leaves_what_is_flat_already():
    params = parameters()
    flatten(params)
    arrays = [p.data for p in params]
    flatten(params[::-1])
    assert all(p.data is a for p, a in zip(params, arrays, strict=True))
