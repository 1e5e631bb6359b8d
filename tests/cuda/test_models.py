"""Models on device="cuda": the CPU's weights, and no step that waits for the device."""

import contextlib

import numpy as np
import pytest

import minigen as mg
from minigen import kernels
from minigen.graph import cuda_graphs
from minigen.random import Generator
from minigen.train.registry import model_class
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced

MODELS = [
    ("gan", {}),
    ("dcgan", {"channels": 4}),
    ("dcgan", {"channels": 4, "loss": "minimax", "ema": 0.0}),
    ("dcgan", {"channels": 4, "diff_augment": "color,translation,cutout"}),
    ("wgan", {"channels": 4, "critic_steps": 2}),
    ("wgan-gp", {"channels": 4, "critic_steps": 2}),
    ("hinge", {"channels": 4, "clip_grad_norm": 0.1}),
    ("r1", {"channels": 4, "minibatch_stddev": True}),
    ("began", {"channels": 4}),
    ("pacgan", {"channels": 4}),
    ("cgan", {"channels": 4}),
    ("cgan", {"channels": 4, "conditional": "embedding"}),
    ("biggan", {"channels": 2, "latent": 12}),
    ("vae", {}),
    ("vae", {"likelihood": "gaussian", "sigma": 0.0, "latent": 3}),
    ("vq-vae", {"channels": 4, "prior_channels": 4, "codes": 4, "conditional": "label"}),
    ("vq-vae", {"channels": 4, "prior_channels": 4, "codes": 4, "codebook": "loss"}),
    ("vae", {"binarize": "stochastic", "free_bits": 0.1}),
    ("vae", {"likelihood": "gaussian-pixels", "capacity": 2.0, "capacity_steps": 3}),
    ("conv-vae", {"channels": 2, "likelihood": "logistic", "warmup": 3}),
    ("beta-vae", {"channels": 2}),
    ("cvae", {"channels": 2}),
    ("iwae", {"samples": 3}),
    ("mmd-vae", {"channels": 2}),
    ("style-vae", {"channels": 2, "sigma": 0.0}),
    ("vae-gan", {"channels": 4, "discriminator_channels": 4}),
    ("vae-gan", {"channels": 4, "discriminator_channels": 4, "conditional": "label"}),
    ("enhance-vae", {"channels": 4, "lr": 1e-4, "degradation": "darken:0-2,noise:5,contrast:0.9"}),
    ("enhance-vae", {"channels": 4, "lr": 1e-4, "degradation": "downscale:2", "decay_steps": 9}),
]
STEPS = 4


@pytest.fixture(autouse=True)
def kernels_of_the_reference(gpu):
    """Numbers agree to the last digits with the reference's kernels; on a GPU, with its own."""
    with referenced() if gpu is fake_cupy else contextlib.nullcontext():
        yield


def trained(name, options, device, steps=STEPS):
    """(model, losses of each step, how often a step has waited for the device or brought arrays
    there)"""
    cls = model_class(name)
    size = 8 if name == "gan" else 28
    model = cls(cls.Options(batch_size=4, **options), (1, size, size), rng=Generator(0)).to(device)
    low, high = cls.value_range
    shape = (steps, model.images_per_step, 1, size, size)
    batches = np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
    batches = [mg.tensor(batch, device=device) for batch in batches]
    labels = mg.tensor(np.arange(model.images_per_step) % 10, device=device)
    rng, losses, counts = Generator(1, device=device), [], []
    with cuda_graphs(False):
        for batch in batches:
            before = dict(fake_cupy.counts)
            losses.append(model.step(batch, labels, rng))
            counts.append({key: n - before.get(key, 0) for key, n in fake_cupy.counts.items()})
    return model, [{k: float(v) for k, v in each.items()} for each in losses], counts


@pytest.mark.parametrize("name, options", MODELS)
def test_training_comes_to_the_same(gpu, name, options):
    with kernels.use("reference"):
        here, expected, _ = trained(name, options, "cpu")
    there, losses, counts = trained(name, options, "cuda")
    for a, b in zip(expected, losses, strict=True):
        assert a == pytest.approx(b, rel=1e-4 if gpu is fake_cupy else 0.01, abs=1e-4)
    tolerance = 1e-6 if gpu is fake_cupy else 0.01
    found = there.state_dict()
    for key, value in here.state_dict().items():
        np.testing.assert_allclose(found[key], value, rtol=tolerance, atol=tolerance, err_msg=key)
    assert {t.device for t in [*there.parameters(), *there.buffers()]} == {"cuda:0"}
    if gpu is fake_cupy:
        for each in counts[1:]:  # the first step moves the state of optimisers and averages
            assert not any(each.values()), each
        assert not counts[0]["waits"]


@pytest.mark.parametrize("name, options", [MODELS[1], MODELS[-2]])
def test_samples_are_those_of_the_cpu(gpu, name, options):
    there, _, _ = trained(name, options, "cuda", 2)
    here = type(there)(there.options, there.image_shape, rng=Generator(5))
    here.load_state_dict(there.state_dict())
    tolerance = dict.fromkeys(("rtol", "atol"), 1e-4 if gpu is fake_cupy else 0.01)
    for draw in ("sample", "interpolate"):
        found = getattr(there, draw)(3, Generator(2, device="cuda"))
        assert type(found) is np.ndarray and found.shape == (3, 1, 28, 28)
        np.testing.assert_allclose(found, getattr(here, draw)(3, Generator(2)), **tolerance)
    images = np.random.default_rng(3).uniform(0, 1, (2, 1, 28, 28)).astype(np.float32)
    a = here.evaluate([(images, None)], Generator(4))
    b = there.evaluate([(mg.asarray(images, device="cuda").data, None)], Generator(4, "cuda"))
    for metric, value in a.items():
        assert b[metric] == pytest.approx(value, rel=0.01, abs=1e-3, nan_ok=True), metric


class Stack(mg.nn.Module):
    """Most layers and losses there are, in one step."""

    def __init__(self, rng):
        from minigen import nn

        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(2, 4, 3, rng=rng), nn.GroupNorm(2, 4), nn.SiLU(),
            nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1, groups=2, rng=rng),
            nn.InstanceNorm2d(4, affine=True), nn.GELU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(4, 8, 3, padding=1, padding_mode="replicate", rng=rng), nn.PixelShuffle(2),
            nn.AvgPool2d(2), nn.PixelNorm(), nn.ELU(), nn.Dropout2d(0.2, rng=rng),
            nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(18, 6, rng=rng), nn.LayerNorm(6),
            nn.Dropout(0.1, rng=rng), nn.Softplus(), nn.Linear(6, 5, rng=rng),
        )  # fmt: skip
        self.table = nn.Embedding(5, 5, rng=rng)

    def losses(self, images, labels, target):
        out = self.body(images) + self.table(labels)
        theta = mg.reshape(out[:, :3], (-1, 1, 3)) * mg.ones((2, 1), device=out.device)
        warped = mg.grid_sample(images, mg.affine_grid(theta, images.shape))
        probability = mg.sigmoid(out)
        onehot = mg.one_hot(labels, 5).astype(np.float32)
        return (
            mg.cross_entropy(out, labels) + mg.cross_entropy(out, labels, label_smoothing=0.1)
            + mg.nll_loss(mg.log_softmax(out, 1), labels) + mg.cross_entropy(out, onehot)
            + mg.binary_cross_entropy(probability, onehot)
            + mg.binary_cross_entropy_with_logits(out, onehot) + mg.mse_loss(out, target)
            + mg.huber_loss(out, target) + mg.l1_loss(out, target) + warped.mean()
            + mg.gaussian_nll_loss(out, target, mg.square(out) + 0.1)
            + mg.logsumexp(out, 1).mean() + mg.cosine_similarity(out, target).mean()
            + mg.interpolate(images, (5, 7), mode="bilinear").std()
            + mg.sort(out, 1)[:, 0].mean() + out[labels].var() + mg.clip(out, -0.1, 0.2).sum()
            + mg.square(mg.fft.rfft(out).real).mean() + mg.einsum("ij,kj->ik", out, out).mean()
        )  # fmt: skip


def test_no_layer_and_no_loss_waits_for_the_device(gpu):
    from minigen import optim

    found = {}
    for device in ("cpu", "cuda"):
        numbers = np.random.default_rng(0)
        images = mg.tensor(numbers.normal(size=(4, 2, 8, 8)).astype(np.float32), device=device)
        labels = mg.tensor(numbers.integers(0, 5, 4), device=device)
        target = mg.tensor(numbers.normal(size=(4, 5)).astype(np.float32), device=device)
        model = Stack(Generator(0)).to(device)
        optimizer, values = optim.AdamW(model, lr=1e-3), []
        loss = mg.value_and_grad(model.losses, model)
        for _ in range(3):
            before = dict(fake_cupy.counts)
            value, grads = loss(images, labels, target)
            grads, norm = optim.clip_grad_norm(grads, 1.0)
            optimizer.step(grads)
            values += [value, norm]
        if device == "cuda" and gpu is fake_cupy:
            counted = {key: n - before.get(key, 0) for key, n in fake_cupy.counts.items()}
            assert not any(counted.values()), counted
        found[device] = list(map(float, values))
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-4 if gpu is fake_cupy else 0.01)
