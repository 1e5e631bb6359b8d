"""The average of weights, and clipping."""

import numpy as np
import pytest

from minigen import kernels, nn, optim
from minigen.random import Generator
from minigen.tensor import Tensor, tensor


class Small(nn.Module):
    """Parameters in two memory orders, and buffers."""

    def __init__(self):
        self.conv = nn.Conv2d(2, 3, 3, rng=Generator(0))
        self.norm = nn.BatchNorm2d(3)


def shift(model, by):
    for t in model.parameters():
        t.data[...] += by


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("warmup", [False, True])
def test_update_follows_the_formula(target, warmup):
    model = Small()
    expected = [p.data.copy() for p in model.parameters()]
    with kernels.use(target):
        ema = optim.EMA(model, 0.9, warmup)
        for t in range(1, 6):
            shift(model, 0.1)
            ema.update()
            decay = min(0.9, (1 + t) / (10 + t)) if warmup else 0.9
            for e, p in zip(expected, model.parameters(), strict=True):
                e[...] = decay * e + (1 - decay) * p.data
    with ema.applied():
        for e, p in zip(expected, model.parameters(), strict=True):
            np.testing.assert_allclose(p.data, e, rtol=1e-5)


def test_applied_swaps_in_and_restores_also_buffers_and_after_errors():
    model = Small()
    ema = optim.EMA(model, 0.5)
    own = {k: np.array(v) for k, v in model.state_dict().items()}
    shift(model, 1.0)
    model.norm.running_mean.data[...] = 7
    now = {k: np.array(v) for k, v in model.state_dict().items()}
    identities = [(p, p.data) for p in model.parameters()]
    version = model.conv.weight.version[0]
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, own[name])
        raise RuntimeError("inside")
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, now[name])
    assert all(p.data is a for p, a in identities) and model.conv.weight.version[0] > version
    ema.update()
    with ema.applied():
        assert (model.norm.running_mean.data == 7).all()  # copied as it is, not averaged


def test_beside_an_optimizer_neither_disturbs_the_other():
    model = Small()
    optimizer, ema = optim.Adam(model, lr=0.1), optim.EMA(model, 0.5)
    arrays = [p.data for p in model.parameters()]
    grads = [Tensor(np.ones(p.shape, np.float32)) for p in model.parameters()]
    for _ in range(2):
        optimizer.step(grads)
        ema.update()
        with ema.applied():
            pass
    assert all(p.data is a for p, a in zip(model.parameters(), arrays, strict=True))


def test_state_resumes_and_is_checked():
    model, other = Small(), Small()
    ema = optim.EMA(model, 0.9, warmup=True)
    shift(model, 1.0)
    ema.update()
    state = {k: np.array(v) for k, v in ema.state_dict().items()}
    resumed = optim.EMA(other, 0.9, warmup=True)
    resumed.load_state_dict(state)
    assert resumed.updates == 1
    for key, value in resumed.state_dict().items():
        np.testing.assert_array_equal(value, state[key])
    assert {"updates", "average.conv.weight", "buffer.norm.running_mean"} <= state.keys()
    del state["average.conv.bias"]
    with pytest.raises(KeyError, match=r"EMA.load_state_dict: 1 missing: average.conv.bias"):
        ema.load_state_dict(state)
    with pytest.raises(ValueError, match=r"EMA: decay is 1.5, expected a number in \[0, 1\]"):
        optim.EMA(model, 1.5)


def test_a_moved_model_is_noticed():
    model = Small()
    ema = optim.EMA(model, 0.5)
    model.to(dtype=np.float64)
    shift(model, 1.0)
    ema.update()
    before = model.conv.weight.data.copy()
    with ema.applied():
        np.testing.assert_allclose(model.conv.weight.data, before - 0.5)


# --------------------------------------------------------------------------------------- clipping


def test_clip_grad_norm():
    grads = [Tensor(np.array([3.0, 0.0])), None, Tensor(np.array([[4.0]]).T[::1])]
    clipped, norm = optim.clip_grad_norm(grads, 1.0)
    assert norm == 5.0 and clipped[1] is None
    np.testing.assert_allclose(clipped[0].data, [0.6, 0.0], atol=1e-6)
    np.testing.assert_allclose(clipped[2].data, [[0.8]], atol=1e-6)
    np.testing.assert_array_equal(grads[0].data, [3.0, 0.0])
    same, norm = optim.clip_grad_norm(grads, 6.0)
    assert norm == 5.0 and same[0] is grads[0]
    strided = Tensor(np.arange(8.0)[::2])
    assert optim.clip_grad_norm([strided], 1e9)[1] == pytest.approx(np.sqrt(4 + 16 + 36))
    assert np.isnan(optim.clip_grad_norm([Tensor(np.array([np.nan]))], 1.0)[1])


def test_clip_grad_value():
    (clipped, none) = optim.clip_grad_value([Tensor(np.array([-3.0, 0.1, 2.0])), None], 0.5)
    np.testing.assert_array_equal(clipped.data, [-0.5, 0.1, 0.5])
    assert none is None


def test_clip_weights_of_a_model_or_a_list_in_place():
    model = Small()
    version = model.conv.weight.version[0]
    array = model.conv.weight.data
    optim.clip_weights(model, 0.01)
    assert model.conv.weight.data is array and np.abs(array).max() == np.float32(0.01)
    assert model.conv.weight.version[0] == version + 1
    assert (model.norm.running_var.data == 1).all()  # buffers are not weights
    one = tensor([1.0, -1.0], requires_grad=True)
    optim.clip_weights([one], 0.5)
    np.testing.assert_array_equal(one.data, [0.5, -0.5])
