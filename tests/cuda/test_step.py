"""Training steps made by the CUDA kernels themselves (in the simulator where there is no GPU)."""

import numpy as np

import minigen as mg
from minigen import kernels
from minigen.graph import cuda_graphs
from minigen.random import Generator
from minigen.vae.vae import VAE, VAEOptions


def test_two_steps_of_a_small_vae(gpu):
    options = VAEOptions(batch_size=3, encoder=(8,), decoder=(7,))
    images = np.random.default_rng(0).uniform(0, 1, (2, 3, 1, 4, 4)).astype(np.float32)
    found = {}
    for device in ("cpu", "cuda"):
        model = VAE(options, (1, 4, 4), rng=Generator(0)).to(device)
        rng, losses = Generator(1, device=device), []
        with kernels.use("reference" if device == "cpu" else None), cuda_graphs(False):
            for batch in images:
                losses.append(model.step(mg.tensor(batch, device=device), None, rng))
        found[device] = (model.state_dict(), [{k: float(v) for k, v in x.items()} for x in losses])
    for a, b in zip(found["cpu"][1], found["cuda"][1], strict=True):
        np.testing.assert_allclose(list(b.values()), list(a.values()), rtol=1e-3, atol=1e-4)
    for key, value in found["cpu"][0].items():
        np.testing.assert_allclose(found["cuda"][0][key], value, rtol=1e-3, atol=1e-4, err_msg=key)
