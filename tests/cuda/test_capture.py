"""Captured steps on a GPU: CUDA graphs with the bits of ordinary steps, and what has none."""

import contextlib

import numpy as np
import pytest

import minigen as mg
from minigen import nn, optim
from minigen.gan.biggan import BigGAN, BigGANOptions
from minigen.gan.dcgan import DCGAN, DCGANOptions
from minigen.gan.gan import GAN, GANOptions
from minigen.graph import cuda_graphs, recorded
from minigen.vae.vae import VAE, VAEOptions
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced

DRAW = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def kernels(gpu, request):
    """On the stand-in the reference's kernels, which are faster than simulated ones."""
    if gpu is not fake_cupy or "kernels" in request.node.name:
        yield
        return
    with referenced():
        yield


def on_gpu(array):
    return mg.tensor(np.asarray(array, np.float32), device="cuda")


def graphs(captured):
    """The CUDA graphs that a captured function has made."""
    return [each._graph for each, _ in captured._programs.values() if each._graph is not None]


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return all(same(p, q) for p, q in zip(a, b, strict=True))
    a, b = (v.numpy() if isinstance(v, mg.Tensor) else v for v in (a, b))
    return a is b or np.array_equal(a, b)


class Model(nn.Module):
    """Dropout, batch norm, noise, a schedule, clipping and an average, in one small step."""

    def __init__(self, optimizer=optim.AdamW, **options):
        rng = mg.Generator(1)
        self.rng = mg.Generator(2, "cuda")
        self.net = nn.Sequential(
            nn.Linear(6, 8, rng=rng), nn.BatchNorm1d(8, negative_slope=0.1),
            nn.Dropout(0.3, rng=self.rng), nn.Linear(8, 4, rng=rng),
        ).to("cuda")  # fmt: skip
        self.optimizer = optimizer(self, lr=optim.cosine(1e-2, steps=200), **options)
        self.ema = optim.EMA(self, 0.9, warmup=True)

    def loss(self, x, rng):
        mu, log_var = mg.split(self.net(x + rng.normal(x.shape, std=0.1)), 2, axis=1)
        z, kl = mg.reparameterize(mu, log_var, rng=rng)
        return (z * z).mean() + 0.1 * kl.sum(), kl.detach()

    def step(self, x, rng):
        (loss, kl), grads = mg.value_and_grad(self.loss, self)(x, rng)
        grads, norm = optim.clip_grad_norm(grads, 0.5)
        self.optimizer.step(grads)
        self.ema.update()
        return {"loss": loss, "rest": [kl, (norm, None)]}


def batches(n, *sizes):
    return [on_gpu(DRAW.standard_normal((sizes[i % len(sizes)], 6))) for i in range(n)]


def versions(model):
    return [t.version for t in (*model.parameters(), *(t for _, t in model.named_buffers()))]


OPTIMIZERS = [
    (optim.AdamW, {}),
    (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    (optim.RMSprop, {"momentum": 0.5, "centered": True}),
]


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)
def test_graphs_have_the_bits_of_ordinary_steps_also_when_resumed(optimizer, options):
    plain, model = Model(optimizer, **options), Model(optimizer, **options)
    rngs = mg.Generator(5, "cuda"), mg.Generator(5, "cuda")
    step, seen = mg.capture(model.step), []
    for i, x in enumerate(batches(14, 5, 5, 5, 3)):
        expected, found = plain.step(x, rngs[0]), step(x, rngs[1])
        assert same(expected, found), i
        assert rngs[0].counter == rngs[1].counter
        assert plain.optimizer.steps == model.optimizer.steps
        assert plain.ema.updates == model.ema.updates
        assert versions(plain) == versions(model)
        seen.append((expected, found))
        if i == 9:
            assert len(graphs(step)) == 1
            resumed = Model(optimizer, **options)
            resumed.load_state_dict(model.state_dict())
            plain.load_state_dict(model.state_dict())  # raises versions as the other does
            for version, other in zip(versions(resumed), versions(plain), strict=True):
                version[0] = other[0]
            model, step = resumed, mg.capture(resumed.step)
    assert same(plain.state_dict(), model.state_dict())
    for expected, found in seen:  # no later step has written over what an earlier one returned
        assert same(expected, found)


MODELS = {
    "gan": lambda: GAN(GANOptions(batch_size=4, latent=3), (1, 8, 8), rng=mg.Generator(0)),
    "dcgan": lambda: DCGAN(
        DCGANOptions(batch_size=2, latent=3, channels=2), (1, 28, 28), rng=mg.Generator(0)
    ),
    "biggan": lambda: BigGAN(
        BigGANOptions(batch_size=2, latent=3, channels=2, critic_steps=1, conditional="none"),
        (1, 28, 28), rng=mg.Generator(0),
    ),
    "vae": lambda: VAE(
        VAEOptions(batch_size=4, encoder=(8,), decoder=(8,)), (1, 8, 8), rng=mg.Generator(0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_train_as_they_do_without(gpu, name):
    plain, model = MODELS[name]().to("cuda"), MODELS[name]().to("cuda")
    rngs = mg.Generator(5, "cuda"), mg.Generator(5, "cuda")
    step = mg.capture(model.step)
    size = 28 if name in ("dcgan", "biggan") else 8
    for i in range(5):
        x = on_gpu(DRAW.random((plain.options.batch_size, 1, size, size)))
        with waiting_for_nothing(gpu, i > 1):
            found = step(x, None, rngs[1])
        with cuda_graphs(False):
            assert same(plain.step(x, None, rngs[0]), found), i
    assert len(graphs(step)) == 1
    assert same(plain.state_dict(), model.state_dict())


def waiting_for_nothing(gpu, due):
    """Inside, the host neither waits for the device nor gives it arrays."""
    if gpu is not fake_cupy or not due:
        return contextlib.nullcontext()
    return fake_cupy.counted(waits=0, uploads=0)


def compare(make, calls, n_graphs):
    """A captured step and an ordinary one, each of its own `make()`: (step, then(i) or None)."""
    (plain, change), (other, alike) = make(), make()
    step = mg.capture(other)
    for i in range(calls):
        x = on_gpu(DRAW.standard_normal(3))
        assert same(plain(x), step(x)), i
        change(i)
        alike(i)
    made = graphs(step)
    assert len(made) == n_graphs, made
    return step


def descent(change=lambda i, w, optimizer, ema, rng: None, optimizer_of=optim.Adam, **options):
    """w moves towards noisy targets; after call i something is changed."""

    def make():
        w = mg.tensor(np.linspace(-1, 1, 3, dtype=np.float32), device="cuda", requires_grad=True)
        optimizer, rng = optimizer_of([w], lr=0.1, **options), mg.Generator(7, "cuda")
        ema = optim.EMA([w], 0.9)

        def step(x):
            target = mg.asarray(x) + rng.normal((3,))
            loss, grads = mg.value_and_grad(lambda: ((w - target) * (w - target)).sum(), [w])()
            optimizer.step(grads)
            ema.update()
            return {"loss": loss, "target": target, "w": (w * 1.0).detach()}

        return step, lambda i: change(i, w, optimizer, ema, rng)

    return make


def set_lr(i, w, optimizer, ema, rng):
    optimizer.lr = 0.1 / (i + 1)
    ema.decay = 0.9 - 0.01 * i


def set_weight_decay(i, w, optimizer, ema, rng):
    optimizer.weight_decay = 0.1 * (i > 4)


def go_back(i, w, optimizer, ema, rng):
    if i == 5:
        optimizer.steps, optimizer.step_count, ema.updates, rng.counter = [0], 0, 0, 1


def another_seed(i, w, optimizer, ema, rng):
    rng.seed = 7 + (i > 4)


def rebind(i, w, optimizer, ema, rng):
    if i == 5:
        w.data = w.data.copy()


CHANGES = [set_lr, set_weight_decay, go_back, another_seed, rebind]


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_sees_what_changes_between_steps(change):
    compare(descent(change), 9, 1)


def test_a_first_step_is_not_damped_in_a_graph_either():
    compare(descent(go_back, optim.SGD, momentum=0.9, dampening=0.5), 9, 1)


def test_what_changes_at_each_step_is_no_graph_for_long(caplog):
    def set_betas(i, w, optimizer, ema, rng):
        optimizer.betas = (0.9 - 0.01 * i, 0.999)

    compare(descent(set_betas), 12, 0)
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert line.endswith("it runs without: what it relies on has changed 7 times")


def test_a_captured_step_may_step_an_optimizer_more_than_once():
    def make():
        w = [mg.tensor(np.ones(n), device="cuda", requires_grad=True) for n in (2, 3)]
        optimizer = optim.Adam(w, lr=0.1)
        optimizer.steps = [0, 2]  # as many as the other when the graph is made

        def step(x):
            loss, grads = mg.value_and_grad(lambda: (w[0] * w[0]).sum() + (w[1] * x).sum(), w)()
            optimizer.step([grads[0], None])
            optimizer.step(grads)
            return [loss, *[(each * 1.0).detach() for each in w]]

        return step, lambda i: None

    compare(make, 7, 0)


def test_kernels_read_the_numbers_of_each_replay():
    compare(descent(), 5, 1)


@pytest.mark.parametrize("name", MODELS)
def test_host_code_of_kernels_only_launches(gpu, name, monkeypatch):
    """Nothing of it waits, uploads or calls cuBLAS; what is computed plays no part here."""
    if gpu is fake_cupy:
        from minigen.kernels.cuda import launch

        monkeypatch.setattr(launch, "_functions", {})
        monkeypatch.setattr(launch, "find", lambda name, variant: lambda *args: None)
    model, rng = MODELS[name]().to("cuda"), mg.Generator(5, "cuda")
    step, size = mg.capture(model.step), 28 if name == "dcgan" else 8
    for i in range(4):
        x = on_gpu(DRAW.random((model.options.batch_size, 1, size, size)))
        with waiting_for_nothing(gpu, i > 1), np.errstate(all="ignore"):
            step(x, None, rng)
    assert len(graphs(step)) == 1


def test_another_generator_is_recorded_anew():
    def step(x, rng):
        return mg.asarray(x) + rng.normal((3,))

    captured, x = mg.capture(step), on_gpu(np.zeros(3))
    ours, theirs = ([mg.Generator(s, "cuda") for s in (1, 2)] for _ in range(2))
    for k in (0, 0, 0, 1, 1, 0, 0):
        assert same(captured(x, ours[k]), step(x, theirs[k]))
    seen = [captured(x, ours[0]).tolist() for _ in range(3)]
    assert len({tuple(each) for each in seen}) == 3  # fresh noise in every replay


def test_integers_and_permutations_are_drawn_anew_in_each_replay():
    def step(x, rng):
        shuffled = mg.asarray(x)[rng.permutation(len(x))]
        return shuffled, rng.integers(10, shape=(4,)), rng.bernoulli(0.5, (3,)), rng.uniform((2,))

    captured, rngs = mg.capture(step), [mg.Generator(3, "cuda") for _ in range(2)]
    for _ in range(6):
        x = on_gpu(DRAW.standard_normal(5))
        assert same(step(x, rngs[0]), captured(x, rngs[1]))
        assert rngs[0].counter == rngs[1].counter
    assert len(graphs(captured)) == 1


@recorded
def positive(x):
    return bool((x.data > 0).all())


def reads(x, rng):
    positive(x)
    return x + rng.normal((3,))


def draws_integers(x, rng):
    return x + rng.integers(0, 1 << 40, (3,))


def draws_on_the_host(x, rng):
    return x + 0 * HOST.normal((3,)).to("cuda")


HOST = mg.Generator(4)
UNFIT = {f.__name__: f for f in (reads, draws_integers, draws_on_the_host)}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_a_graph_runs_without_and_says_so(name, caplog):
    step, rngs = mg.capture(UNFIT[name]), [mg.Generator(3, "cuda") for _ in range(2)]
    for _ in range(5):
        x = on_gpu(DRAW.standard_normal(3))
        assert same(UNFIT[name](x, rngs[0]), step(x, rngs[1]))
        assert rngs[0].counter == rngs[1].counter
    assert not graphs(step)
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert line.startswith(f"capture: no CUDA graph of {name}, it runs without: ")
    assert "\n" not in line
    compare(descent(), 4, 1)  # and the device is as it was


def test_graphs_can_be_switched_off():
    with cuda_graphs(False):
        step = compare(descent(), 4, 0)
    step(on_gpu(np.zeros(3)))
    assert len(graphs(step)) == 1


def test_clipping_on_the_device_is_that_on_the_host():
    grads = [DRAW.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (5,))]
    for limit in (0.5, 100.0):
        expected, norm = optim.clip_grad_norm([mg.tensor(g) for g in grads] + [None], limit)
        found, other = optim.clip_grad_norm([*map(on_gpu, grads), None], limit)
        assert found[2] is None
        np.testing.assert_allclose(float(other), norm, rtol=1e-6)
        for e, f in zip(expected[:2], found[:2], strict=True):
            np.testing.assert_allclose(f.numpy(), e.numpy(), rtol=1e-6)
