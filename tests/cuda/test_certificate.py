"""The gradient certificate on device="cuda".

On a GPU it is the certificate itself. Elsewhere it is made twice over: to order 2 with the
reference's kernels, which shows that every op's host code takes and gives device arrays; and, with
the CUDA kernels in the simulator, every value and gradient against the reference.
"""

import contextlib

import numpy as np
import pytest

from minigen import kernels
from minigen.autograd import REGISTRY
from minigen.ops import certificate as proof
from tests.cuda import fake_cupy
from tests.cuda.referenced import referenced

NAMES = sorted(name for name in REGISTRY if REGISTRY[name].__module__.startswith("minigen."))
# Ops that call kernels, and are quick to simulate. Their first case, and the last.
SIMULATED = """
    _embedding_grad absolute_error adaptive_max_pool2d affine batch_norm_eval
    batch_norm_eval_grad batch_norm_train batch_norm_train_grad band
    binary_cross_entropy_with_logits clip convolution cross_entropy elu embedding exp gelu_exact
    getitem grouped_norm grouped_norm_grad index_add index_put label_cost label_mean leaky_relu
    leaky_relu_grad_sum linear log_softmax masked max_spread max_windows maximum mean
    mean_windows mse_loss pad pool_gather pool_scatter reparameterize_at resample2d scaled_sign
    sigmoid silu softmax softplus spread_windows sum tanh times_sign unfold where
"""


@pytest.mark.parametrize("name", NAMES)
def test_gradients_on_the_device(gpu, name):
    with referenced() if gpu is fake_cupy else contextlib.nullcontext():
        rows = list(proof.certificate([name], device="cuda"))
    assert rows
    for row in rows:
        assert row.passed, row
        assert row.target == "cuda" or not REGISTRY[name].differentiable


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 3e-4)])
@pytest.mark.parametrize("name", SIMULATED.split())
def test_values_and_gradients_of_the_kernels(gpu, name, dtype, tolerance):
    cases = proof.cases_of(REGISTRY[name])
    for i in {0, len(cases) - 1}:
        call, leaves = proof.prepare(REGISTRY[name], cases[i], i)
        leaves = [proof._narrow(x) if dtype == "float32" else x for x in leaves]
        with kernels.use("reference"):
            wide = [proof._widen(x) for x in leaves]
            expected = proof._outputs(call, wide)
            seeds = [proof._noise(o.data) for o in expected]
            expected += proof._vjp(call, wide, seeds)
        there = [proof._put(x, "cuda") for x in leaves]
        found = proof._outputs(call, there)
        found += proof._vjp(call, there, [proof._put(seed, "cuda") for seed in seeds])
        if gpu is not fake_cupy and dtype == "float32":
            tolerance = 3e-3  # products in TF32
        for a, b in zip(expected, found, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                like = a.data if dtype == "float64" else proof._narrow(a.data)
                assert b.device == "cuda:0" and b.dtype == like.dtype
                scale = max(1.0, np.abs(a.numpy()).max(initial=0))
                np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=0, atol=tolerance * scale)
