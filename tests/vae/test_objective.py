"""What the KL weighs: beta, warm-up, free bits and capacity, each against its formula."""

import numpy as np
import pytest

import minigen as mg
from minigen.vae.objective import KLPenalty

KL = np.array([[0.02, 1.0, 3.0], [0.04, 2.0, 1.0]])


def penalty(steps=0, **options):
    made = KLPenalty(**options)
    for _ in range(steps):
        made.count()
    return made(mg.tensor(KL)).item()


def test_beta():
    assert penalty() == pytest.approx(KL.sum(1).mean())
    assert penalty(beta=4.0) == pytest.approx(4 * KL.sum(1).mean())


@pytest.mark.parametrize("steps, share", [(0, 0.0), (3, 0.3), (10, 1.0), (30, 1.0)])
def test_warmup(steps, share):
    got = penalty(steps, warmup=10, beta=2.0)
    assert got == pytest.approx(2 * share * KL.sum(1).mean(), rel=1e-6)


def test_free_bits_are_of_each_unit_over_the_batch():
    assert penalty(free_bits=0.5) == pytest.approx(0.5 + 1.5 + 2.0)
    made, kl = KLPenalty(free_bits=0.5), mg.tensor(KL, requires_grad=True)
    (slope,) = mg.grad(made(kl), [kl])
    np.testing.assert_allclose(slope.numpy(), [[0, 0.5, 0.5]] * 2)


@pytest.mark.parametrize("steps, ceiling", [(0, 0.0), (5, 5.0), (20, 10.0)])
def test_capacity_rises(steps, ceiling):
    got = penalty(steps, capacity=10.0, capacity_steps=10, beta=100.0)
    assert got == pytest.approx(100 * abs(KL.sum(1).mean() - ceiling), rel=1e-5)
    assert penalty(capacity=10.0) == pytest.approx(abs(KL.sum(1).mean() - 10))


def test_the_count_of_steps_is_kept():
    made = KLPenalty(warmup=10)
    made.count()
    other = KLPenalty(warmup=10)
    other.load_state_dict(made.state_dict())
    assert other.steps.item() == 1
    assert not KLPenalty().state_dict()
