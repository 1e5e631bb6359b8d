"""The training loop on a GPU: steps replayed by themselves, losses that arrive a little later."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

import minigen as mg
from minigen import nn
from minigen.replay import Replay
from minigen.train import Diverged, fit, resume
from minigen.train.readback import AHEAD, Readback
from minigen.vae.vae import VAE, VAEOptions
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced

SMALL = {"batch_size": 4, "latent": 3}
MODELS = [
    ("dcgan", "GAN.step", SMALL | {"channels": 2}),
    ("vae", "VAE.step", SMALL | {"encoder": (8,), "decoder": (8,)}),
]


@pytest.fixture(autouse=True)
def work(gpu, tmp_path, monkeypatch):
    """An empty folder with 40 grey images of 28x28; on the stand-in the reference's kernels."""
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8))
    with referenced() if gpu is fake_cupy else contextlib.nullcontext():
        yield


def test_losses_come_in_order_and_a_few_steps_late_at_most(gpu):
    readback, seen = Readback(), []
    with gpu.cuda.Stream():  # the stand-in's puts copies off until somebody waits
        for step in range(1, 10):
            loss = mg.tensor(np.float32(step / 2), device="cuda")
            losses = {"loss": loss, "other": np.float64(step), "count": step}
            readback.put(step, 0.5 * step, losses, shown=step % 2 == 0)
            seen += readback.take()
            assert step - len(seen) <= AHEAD
            assert gpu is not fake_cupy or step - len(seen) == min(step, AHEAD)
        seen += readback.take(wait=True)
    assert [each.step for each in seen] == list(range(1, 10))
    for each in seen:
        assert each.seconds == 0.5 * each.step
        assert each.shown == (each.step % 2 == 0)
        assert each.values == {"loss": each.step / 2, "other": each.step, "count": each.step}


def test_losses_on_the_cpu_are_there_at_once():
    readback = Readback()
    readback.put(1, 0.1, {"loss": mg.tensor(2.0), "other": 3}, shown=True)
    (losses,) = readback.take()
    assert losses.values == {"loss": 2.0, "other": 3.0}


@pytest.fixture
def launches(monkeypatch):
    """How often a graph was launched, by the name of what was captured."""
    counts, call = {}, Replay.__call__

    def counted(self, *args):
        out = call(self, *args)
        counts[self.name] = counts.get(self.name, 0) + (self._graph is not None)
        return out

    monkeypatch.setattr(Replay, "__call__", counted)
    return counts


@pytest.mark.parametrize(("model", "step", "options"), MODELS)
def test_a_run_replays_its_steps_with_the_same_bits(model, step, options, launches):
    given = {"data": "images.npy", "device": "cuda", "options": options, "sample_every": 100}
    run = fit(model, steps=9, out="run", **given)
    assert launches == {step: 7}
    fit(model, steps=5, out="halves", **given)
    halves = resume("halves", steps=9)
    launches.clear()
    plain = fit(model, steps=9, out="plain", settings=["capture=false"], **given)
    assert not any(launches.values())
    for other in (halves, plain):
        assert other.losses == run.losses
        for name, value in run.model.state_dict().items():
            np.testing.assert_array_equal(value, other.model.state_dict()[name], err_msg=name)
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [9]


class Sudden(VAE):
    """A vae whose loss is NaN at its third step."""

    Options = VAEOptions

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.count = 0

    def step(self, images, labels, rng):
        losses = super().step(images, labels, rng)
        self.count += 1
        if self.count == 3:
            losses["loss"] = losses["loss"] * float("nan")
        return losses


def test_divergence_names_the_step_it_happened_in():
    with pytest.raises(Diverged, match="step 3: the loss 'loss' is nan"):
        fit(
            f"{__name__}:Sudden", data="images.npy", device="cuda", options=SMALL, steps=20,
            out="run", sample_every=100,
        )  # fmt: skip


def test_a_step_of_ones_own_is_replayed_only_if_it_says_so():
    class Model(nn.Model):
        @nn.replayable
        def step(self, images, labels, rng):
            return {}

    class Other(Model):
        def step(self, images, labels, rng):
            return super().step(images, labels, rng)

    assert Model({}, ()).step.replayable
    assert not hasattr(Other({}, ()).step, "replayable")
