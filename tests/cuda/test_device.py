"""device="cuda" above the kernels: moving, making, mixing and naming, and what goes wrong."""

import copy
import pickle
import sys

import numpy as np
import pytest

import minigen as mg
from minigen import backend, nn, optim
from minigen.random import Generator
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced


@pytest.fixture(autouse=True)
def kernels_of_the_reference(gpu):
    if gpu is not fake_cupy:
        yield
        return
    with referenced():
        yield


@pytest.fixture
def stand_in(gpu):
    """For tests that look at what the stand-in counts, or need a second GPU."""
    if gpu is not fake_cupy:
        pytest.skip("counts what only the stand-in for CuPy counts")
    return gpu


def image():
    """(N, C, H, W) lying channels-last."""
    return np.arange(120, dtype=np.float32).reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)


# ------------------------------------------------------------------------------ there and back


def test_moving_keeps_values_memory_order_and_the_graph():
    x = mg.asarray(image())
    x.requires_grad = True
    y = x.to("cuda")
    assert y.device == "cuda:0" and y.data.strides == x.data.strides
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    assert y.numpy().strides == x.numpy().strides
    (g,) = mg.grad((y * y).sum().to("cpu"), x)
    assert g.device == "cpu"
    np.testing.assert_array_equal(g.numpy(), 2 * x.numpy())
    assert y.to("cuda") is not None and y.to("cuda").data is y.data and y.cuda().data is y.data
    assert y.to("cuda:0") is y


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::2], lambda x: x[:, ::-1], lambda x: x.T, lambda x: x[1],
        lambda x: x[..., None], lambda x: x[:0],
    ],
)  # fmt: skip
def test_any_view_can_be_moved(view):
    host = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(mg.asarray(view(host)).to("cuda").numpy(), view(host))
    np.testing.assert_array_equal(view(mg.asarray(host).to("cuda")).numpy(), view(host))


def test_elementwise_results_lie_as_their_operands():
    """CuPy's own would lie in C order."""
    x = mg.asarray(image(), device="cuda")
    weight = mg.asarray(np.ones((3, 1, 1), np.float32), device="cuda")
    for y in (x + x, 2 * x, mg.exp(x), x * weight, weight * x, mg.maximum(x, 0.0), -x, x > 3):
        order = np.argsort([-s for s in y.data.strides]).tolist()
        assert order == [0, 2, 3, 1], y
    np.testing.assert_array_equal((x * weight + x).numpy(), 2 * image())


def test_what_is_made_on_a_device():
    for t in (
        mg.zeros((2, 3), device="cuda"), mg.ones(3, device="cuda"), mg.empty(2, device="cuda"),
        mg.full((2,), 7.0, device="cuda"), mg.arange(3, device="cuda"), mg.eye(2, device="cuda"),
        mg.linspace(0, 1, 5, device="cuda"), mg.tensor([1.0, 2], device="cuda"),
        mg.asarray(np.ones(2), device="cuda"), Generator(0, device="cuda").normal((2, 3)),
    ):  # fmt: skip
        assert t.device == "cuda:0", t
    x = mg.tensor([[1.0, 2.0]], device="cuda")
    assert mg.zeros_like(x).device == mg.full_like(x, 3.0).device == "cuda:0"
    assert repr(x) == "tensor([[1., 2.]], device='cuda:0')"
    assert x.tolist() == [[1, 2]] and float(x[0, 1]) == 2 and f"{x[0, 0]:.1f}" == "1.0"
    y = mg.tensor(x)
    y += 1
    assert x.tolist() == [[1, 2]] and y.tolist() == [[2, 3]] and y.device == "cuda:0"
    with pytest.raises(TypeError, match=r"\.get\(\)"):
        np.asarray(x.data)
    assert np.asarray(x).tolist() == [[1, 2]]  # a Tensor that is asked for its values gives them


def test_the_same_numbers_from_a_seed_on_every_device():
    here, there = Generator(3), Generator(3, device="cuda")
    for draw in (
        lambda rng: rng.normal((3, 5), 1.0, 2.0), lambda rng: rng.uniform(7, -1.0, 3.0),
        lambda rng: rng.uniform(4, dtype=np.float64), lambda rng: rng.bernoulli(0.3, (9,)),
        lambda rng: rng.integers(-5, 9, (11,)), lambda rng: rng.permutation(13),
        lambda rng: rng.spawn("child").normal(3),
    ):  # fmt: skip
        a, b = draw(here), draw(there)
        assert b.device == "cuda:0" and a.dtype == b.dtype
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-5, atol=1e-6)
    assert here.state_dict() == there.state_dict()


# ---------------------------------------------------------------------------- other libraries


def test_dlpack_and_the_cuda_array_interface(gpu):
    x = mg.tensor([1.0, 2.0, 3.0], device="cuda")
    assert x.__dlpack_device__() == (2, 0)
    shared = gpu.from_dlpack(x)
    shared[0] = 9
    assert x.tolist() == [9, 2, 3]
    assert x.__cuda_array_interface__["shape"] == (3,)
    assert not hasattr(mg.ones(2), "__cuda_array_interface__")
    assert mg.asarray(shared).data is shared

    class Foreign:
        """An array of another library."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    taken = mg.asarray(Foreign(shared))
    assert taken.device == "cuda:0" and taken.tolist() == [9, 2, 3]
    assert mg.asarray(Foreign(np.ones(2))).device == "cpu"


# ------------------------------------------------------------------------------------- mixing


@pytest.mark.parametrize(
    "mixed",
    [
        lambda a, b: a + b, lambda a, b: b * a, lambda a, b: mg.concatenate([a, b]),
        lambda a, b: mg.where(a > 0, b, a), lambda a, b: a @ b, lambda a, b: mg.maximum(a, b),
        lambda a, b: mg.linear(a, b), lambda a, b: mg.index_put(a, 0, b[0]),
        lambda a, b: mg.mse_loss(a, b),
    ],
)  # fmt: skip
def test_two_devices_are_named(mixed):
    a, b = mg.ones((2, 2)), mg.ones((2, 2), device="cuda")
    with pytest.raises((ValueError, RuntimeError), match=r"cuda.*cpu|cpu.*cuda") as raised:
        mixed(a, b)
    assert "\n" not in str(raised.value)
    with pytest.raises((ValueError, RuntimeError), match=r"cuda.*cpu|cpu.*cuda"):
        mixed(b, a)


def test_copies_stay_and_pickles_come_back():
    x = mg.asarray(image(), device="cuda")
    x.requires_grad = True
    again = copy.deepcopy([x, x])
    assert again[0] is again[1] and again[0].device == "cuda:0" and again[0].requires_grad
    assert again[0].data is not x.data and again[0].data.strides == x.data.strides
    assert pickle.loads(pickle.dumps(x)).device == "cpu"


def test_views_share_their_memory_and_its_version():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda")
    weight = mg.ones(2, device="cuda")
    weight.requires_grad = True
    row = x[0]
    loss = (weight * row).sum()
    row += 1
    assert x.tolist() == [[2, 3], [3, 4]]
    with pytest.raises(RuntimeError, match="written in place"):
        mg.grad(loss, weight)
    loss = (weight * x.T[0]).sum()
    x[0] = 5.0
    with pytest.raises(RuntimeError, match="written in place"):
        mg.grad(loss, weight)


def test_recomputing_on_the_device():
    x = mg.tensor([[1.0, 2.0, 3.0]], device="cuda", requires_grad=True)
    rng = Generator(0, device="cuda")

    def drop(x, rng):
        return mg.dropout(mg.exp(x), 0.5, rng=rng)

    (g,) = mg.grad(mg.checkpoint(drop, x, copy.copy(rng)).sum(), x)
    (expected,) = mg.grad(drop(x, rng).sum(), x)
    np.testing.assert_array_equal(g.numpy(), expected.numpy())


def test_indices_given_twice_are_added_in_one_order(stand_in):
    x = mg.tensor(np.random.default_rng(0).normal(size=(5, 3)), device="cuda", requires_grad=True)
    at = mg.tensor([3, 1, 3, -1, 3], device="cuda")
    for index in (at, (slice(None), mg.tensor([1, 1, 0], device="cuda")), (at, 1)):
        (g,) = mg.grad(mg.square(x[index]).sum(), x)
        host = mg.tensor(x.numpy(), requires_grad=True)
        parts = index if isinstance(index, tuple) else (index,)
        there = tuple(p.to("cpu") if isinstance(p, mg.Tensor) else p for p in parts)
        np.testing.assert_allclose(
            g.numpy(), mg.grad(mg.square(host[there]).sum(), host)[0].numpy(), rtol=1e-12
        )
    values = mg.tensor(np.arange(15.0).reshape(5, 3), device="cuda")
    put = mg.index_put(x, at, values)  # of values for one place the last counts, as on the CPU
    np.testing.assert_array_equal(put.numpy()[3], [12, 13, 14])
    assert "atomics" not in stand_in.counts


def test_numbers_mix_with_everything():
    x = mg.ones(3, device="cuda")
    assert (x + 1.5 + np.float32(2)).tolist() == [4.5] * 3 and x.dtype == np.float32


# --------------------------------------------------------------------------- names of devices


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:", "cuda1", ""])
def test_unknown_names(device):
    with pytest.raises(ValueError, match="'cpu', 'cuda' and 'cuda:N'"):
        mg.zeros(3, device=device)


def test_a_number_too_many():
    with pytest.raises(ValueError, match=r"'cuda:77': there are \d+ GPU"):
        mg.zeros(3, device="cuda:77")


def test_the_second_gpu(stand_in):
    x = mg.zeros(3, device="cuda:1")
    assert x.device == "cuda:1" and mg.zeros(3, device="cuda").device == "cuda:0"
    assert x.to("cuda:0").device == "cuda:0" and mg.ones(2).to("cuda:1").device == "cuda:1"
    with pytest.raises(ValueError, match=r"cuda:0.*cuda:1"):
        mg.zeros(3, device="cuda") + x
    backend.use("cuda:1")
    try:
        assert (x + 1).device == mg.ones(2, device="cuda").device == "cuda:1"
    finally:
        backend.use("cuda:0")


@pytest.fixture
def no_cupy(monkeypatch):
    """As if CuPy had not been looked for yet."""
    monkeypatch.setattr(backend, "gpu", None)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    return monkeypatch


def test_without_cupy(no_cupy):
    no_cupy.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"^device 'cuda' needs CuPy: pip install 'minigen\[cu"):
        mg.zeros(3, device="cuda")


DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
IMPORT = """
================================================================
Failed to import CuPy.

Original error:
  ImportError: libcuda.so.1: cannot open shared object file: No such file or directory
================================================================
"""


@pytest.mark.parametrize(
    "error, reason",
    [
        (fake_cupy.CUDARuntimeError(DRIVER), "cudaErrorInsufficientDriver.*version"),
        (RuntimeError("CuPy failed to load libcudart.so.13"), "libcudart"),
        (ImportError(IMPORT), "ImportError: libcuda.so.1"),
        (OSError(""), "OSError"),
        (None, "GPU$"),
    ],
)
def test_cupy_without_a_gpu(no_cupy, error, reason):
    def count():
        if error is not None:
            raise error
        return 0

    no_cupy.setattr(fake_cupy.cuda.runtime, "getDeviceCount", count)
    no_cupy.setitem(sys.modules, "cupy", fake_cupy)
    with pytest.raises(RuntimeError, match=f"^device 'cuda': CuPy finds no .*{reason}") as raised:
        mg.zeros(3, device="cuda")
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------------ modules and optimisers


def network(seed=0):
    rng = Generator(seed)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False, rng=rng), nn.BatchNorm2d(3), nn.ReLU(),
        nn.Flatten(), nn.Linear(48, 1, rng=rng),
    )  # fmt: skip


def train(model, optimizer, device, steps=3):
    x = np.random.default_rng(1).normal(size=(steps, 4, 2, 4, 4)).astype(np.float32)
    for batch in x:
        loss = mg.value_and_grad(lambda batch: mg.square(model(batch)).mean(), model)
        optimizer.step(loss(mg.tensor(batch, device=device))[1])


OPTIMIZERS = [
    lambda model: optim.Adam(model, lr=0.01),
    lambda model: optim.AdamW(model, lr=optim.cosine(0.01, steps=9)),
    lambda model: optim.SGD(model, lr=0.01, momentum=0.9, nesterov=True),
    lambda model: optim.RMSprop(model, lr=0.01, momentum=0.5, centered=True),
]


@pytest.mark.parametrize("when", ["before", "after", "between"])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_optimisers_made_before_and_after_the_move(gpu, make, when):
    expected, model = network(), network()
    reference = make(expected)
    if when == "after":
        model.to("cuda")
    optimizer, average = make(model), optim.EMA(model, 0.5)
    if when == "before":
        model.to("cuda")
    train(expected, reference, "cpu", 4)
    if when == "between":
        train(model, optimizer, "cpu", 2)
        model.to("cuda")
        optimizer.load_state_dict(optimizer.state_dict())
        x = np.random.default_rng(1).normal(size=(4, 4, 2, 4, 4)).astype(np.float32)[2:]
        for batch in x:
            step = mg.value_and_grad(lambda batch: mg.square(model(batch)).mean(), model)
            optimizer.step(step(mg.tensor(batch, device="cuda"))[1])
    else:
        train(model, optimizer, "cuda", 4)
    average.update()
    for (name, a), b in zip(expected.named_parameters(), model.parameters(), strict=True):
        assert b.device == "cuda:0"
        rtol, atol = (1e-4, 1e-6) if gpu is fake_cupy else (0.01, 0.01)  # products in TF32
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=rtol, atol=atol, err_msg=name)
    with average.applied():
        assert all(p.device == "cuda:0" for p in model.parameters())


def test_gradients_stay_on_the_device():
    model = network().to("cuda")
    mg.square(model(mg.ones((2, 2, 4, 4), device="cuda"))).mean().backward()
    assert {p.grad.device for p in model.parameters()} == {"cuda:0"}
    grads, norm = optim.clip_grad_norm([p.grad for p in model.parameters()], 0.1)
    assert {g.device for g in grads} == {"cuda:0"}
    host = optim.clip_grad_norm([p.grad.to("cpu") for p in model.parameters()], 0.1)
    np.testing.assert_allclose(float(norm), host[1], rtol=1e-5)
    for a, b in zip(grads, host[0], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-8)
    optim.clip_weights(model, 0.01)
    assert max(float(mg.abs(p).max()) for p in model.parameters()) <= np.float32(0.01)


def test_state_dicts_between_devices(tmp_path):
    here, there = network(1), network(2).to("cuda")
    there.load_state_dict(here.state_dict())
    for name, value in there.state_dict().items():
        np.testing.assert_array_equal(value, here.state_dict()[name], strict=True)
    mg.save(tmp_path / "there.safetensors", there.state_dict())
    mg.save(tmp_path / "here.safetensors", here.state_dict())
    saved = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("there", "here")]
    assert saved[0] == saved[1]
    back = network(3)
    back.load_state_dict(mg.load(tmp_path / "there.safetensors"))
    for a, b in zip(back.parameters(), here.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    mg.save(tmp_path / "tensors.safetensors", dict(there.named_parameters()))  # from the device
    assert mg.load(tmp_path / "tensors.safetensors").keys() == dict(here.named_parameters()).keys()
