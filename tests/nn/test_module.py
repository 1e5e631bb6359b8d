"""Module: what walking finds, saving and loading, moving, freezing."""

import copy

import numpy as np
import pytest

from minigen import io, nn, optim
from minigen.autograd import grad
from minigen.random import Generator
from minigen.tensor import Tensor, tensor


class Block(nn.Module):
    """A little of everything that a module may hold."""

    def __init__(self, rng):
        self.size = 3  # plain attributes are left alone
        self.table = np.ones(3)
        self.scale = tensor(np.ones(3, np.float32), requires_grad=True)
        self.offset = Tensor(np.zeros(3, np.float32))
        self.layers = [nn.Linear(3, 3, rng=rng), (nn.Linear(3, 3, bias=False, rng=rng),)]
        self.named = {"a": nn.BatchNorm1d(3), "none": None}
        self.tied = self.layers[0]
        self.kept = None

    def forward(self, x, *, twice=False):
        self.kept = self.tied(x) * self.scale  # the result of ops is neither parameter nor buffer
        return self.kept + self.kept if twice else self.kept


PARAMETERS = [
    "scale", "layers.0.weight", "layers.0.bias", "layers.1.0.weight", "named.a.weight",
    "named.a.bias",
]  # fmt: skip
BUFFERS = [
    "offset", "named.a.running_mean", "named.a.running_var", "named.a.num_batches_tracked",
]  # fmt: skip


@pytest.fixture
def block():
    return Block(Generator(0))


def test_walking_finds_each_once_in_the_order_of_attributes(block):
    assert [name for name, _ in block.named_parameters()] == PARAMETERS
    assert [name for name, _ in block.named_buffers()] == BUFFERS
    named = [t for _, t in block.named_parameters()]
    assert all(a is b for a, b in zip(block.parameters(), named, strict=True))
    assert block.num_parameters() == 3 + 9 + 3 + 9 + 3 + 3
    assert [name for name, _ in block.named_modules()] == ["", "layers.0", "layers.1.0", "named.a"]
    assert block.modules()[0] is block


def test_results_of_ops_kept_as_attributes_are_not_parameters(block):
    x = Tensor(np.ones((2, 3), np.float32))
    np.testing.assert_allclose(block(x, twice=True).numpy(), 2 * block(x).numpy())
    assert [name for name, _ in block.named_parameters()] == PARAMETERS


def test_a_circle_of_modules_ends(block):
    block.layers[0].parent = block
    assert [name for name, _ in block.named_parameters()] == PARAMETERS


def test_state_dict_refers_to_the_living_memory_read_only(block):
    state = block.state_dict()
    assert set(state) == {*PARAMETERS, *BUFFERS}
    block.scale.data[0] = 5
    assert state["scale"][0] == 5
    with pytest.raises(ValueError, match="read-only"):
        state["scale"][0] = 1


def test_load_keeps_identity_dtype_and_raises_the_version(block):
    other = Block(Generator(1))
    state = {
        name: value.astype(np.float64) if value.dtype.kind == "f" else value
        for name, value in other.state_dict().items()
    }
    before = [(t, t.data, t.version[0]) for t in block.parameters()]
    assert block.load_state_dict(state) == ([], [])
    for (t, data, version), target in zip(before, other.parameters(), strict=True):
        assert t.data is data and t.dtype == np.float32 and t.version[0] > version
        np.testing.assert_array_equal(t.data, target.data)


def test_strict_loading_lists_names_and_writes_nothing(block):
    state = {k: np.array(v) for k, v in block.state_dict().items()}
    before = {k: v.copy() for k, v in state.items()}
    state["scale"] += 1
    state["extra"] = np.ones(2)
    del state["offset"], state["named.a.bias"]
    message = "Block.load_state_dict: 2 missing: offset, named.a.bias; 1 unexpected: extra"
    with pytest.raises(KeyError, match=message):
        block.load_state_dict(state)
    state |= {"offset": np.zeros(4), "named.a.bias": np.zeros((3, 1))}
    del state["extra"]
    message = (
        r"Block.load_state_dict: 2 shapes differ: offset has \(4,\), expected \(3,\),"
        r" named.a.bias has \(3, 1\), expected \(3,\)"
    )
    with pytest.raises(ValueError, match=message):
        block.load_state_dict(state)
    state |= {"offset": np.zeros(3, complex), "named.a.bias": np.zeros(3)}
    with pytest.raises(ValueError, match="1 dtypes differ: offset is complex128, expected float32"):
        block.load_state_dict(state)
    for name, value in block.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_loading_that_is_not_strict_says_what_it_left(block):
    missing, unexpected = block.load_state_dict({"scale": np.full(3, 2), "x": 1}, strict=False)
    assert set(missing) == {*PARAMETERS[1:], *BUFFERS}
    assert unexpected == ["x"] and (block.scale.data == 2).all()


class Trained(nn.Module):
    """A module with stateful objects: saved and loaded, but no parts of it."""

    def __init__(self, seed):
        rng = Generator(seed)
        self.net = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Dropout(0.5, rng=rng))
        self.optimizers = {"net": optim.Adam(self.net, lr=0.1)}
        self.ema = optim.EMA(self.net, 0.5)
        self.noise = Generator(seed + 10)

    def step(self):
        grads = [self.noise.normal(p.shape) for p in self.net.parameters()]
        self.optimizers["net"].step(grads)
        self.ema.update()


@pytest.mark.parametrize("through", ["dict", "file"])
def test_stateful_objects_are_saved_and_resume_bit_for_bit(through, tmp_path):
    one, two = Trained(0), Trained(1)
    assert len(one.parameters()) == 2 and not one.buffers()
    one.step()
    state = one.state_dict()
    assert {"optimizers.net.m.0.weight", "ema.average.0.bias", "noise.counter"} <= state.keys()
    assert type(state["optimizers.net.step"]) is int
    if through == "file":
        io.save(tmp_path / "state.safetensors", state)
        state = io.load(tmp_path / "state.safetensors")
    two.load_state_dict(state)
    one.step()
    two.step()
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value, two.state_dict()[name])
    assert type(two.noise.counter) is int


def test_missing_state_of_stateful_objects_is_listed():
    model = Trained(0)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("noise")}
    with pytest.raises(KeyError, match=r"2 missing: noise\.seed, noise\.counter"):
        model.load_state_dict(state)


def test_train_and_eval_reach_every_part(block):
    assert block.training and block.named["a"].training
    assert block.eval() is block
    assert not any(m.training for m in block.modules())
    assert all(m.training for m in block.train().modules())


def test_freeze_makes_buffers_of_parameters_and_unfreeze_undoes_it(block):
    parameters, state = block.parameters(), set(block.state_dict())
    block.layers[0].freeze()
    assert [name for name, _ in block.named_parameters()] == [PARAMETERS[0], *PARAMETERS[3:]]
    block.freeze()
    assert block.parameters() == [] and set(block.state_dict()) == state
    assert not block(Tensor(np.ones((2, 3), np.float32))).requires_grad
    block.unfreeze()
    assert all(a is b for a, b in zip(block.parameters(), parameters, strict=True))
    assert not block.offset.requires_grad


def test_to_dtype_keeps_tensors_and_memory_order():
    conv = nn.Conv2d(3, 4, 3, rng=Generator(0))
    norm = nn.BatchNorm2d(4)
    net = nn.Sequential(conv, norm)
    weight, strides = conv.weight, conv.weight.data.strides
    assert net.to("cpu") is net and conv.weight.data.strides == strides
    array = weight.data
    net.to("cpu")
    assert weight.data is array
    net.to(dtype=np.float64)
    assert conv.weight is weight and weight.dtype == np.float64 and weight.requires_grad
    assert weight.data.strides == tuple(2 * s for s in strides)
    assert norm.running_mean.dtype == np.float64 and norm.num_batches_tracked.dtype == np.int64
    (slope,) = grad((weight * weight).sum(), [weight])
    assert slope.dtype == np.float64


def test_deepcopy_keeps_sharing_and_is_independent(block):
    twin = copy.deepcopy(block)
    assert twin.tied is twin.layers[0]
    twin.scale.data[...] = 9
    assert (block.scale.data == 1).all()
    assert [name for name, _ in twin.named_parameters()] == PARAMETERS


def test_repr_is_a_tree():
    net = nn.Sequential(nn.Linear(2, 3, rng=Generator(0)), nn.Sequential(nn.ReLU()))
    assert (
        repr(net) == "Sequential(\n  (0): Linear(2, 3)\n  (1): Sequential(\n    (0): ReLU()\n  )\n)"
    )
    assert "(layers.1.0): Linear(3, 3, bias=False)" in repr(Block(Generator(0)))


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match="Module: has no forward method"):
        nn.Module()(1)
