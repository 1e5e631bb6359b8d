"""Generator: reproducible streams, fair integers, permutations, children, state."""

import threading
from collections import Counter

import numpy as np
import pytest

from minigen import kernels
from minigen.random import Generator, _below, _multiply


def draws(rng):
    """One of everything."""
    return [
        rng.normal((3, 5)),
        rng.normal(7, 1.5, 0.1, np.float64),
        rng.uniform((2, 3), -1, 1),
        rng.uniform(5, dtype=np.float64),
        rng.integers(-3, 9, (4, 4)),
        rng.integers(10),
        rng.permutation(20),
        rng.bernoulli(0.3, (6,)),
    ]


def test_one_seed_one_stream_on_every_target_and_in_threads():
    first = draws(Generator(11))
    with kernels.use("reference"):
        second = draws(Generator(11))
    third = []
    worker = threading.Thread(target=lambda: third.extend(draws(Generator(11))))
    worker.start()
    worker.join()
    for a, b, c in zip(first, second, third, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        np.testing.assert_array_equal(a.numpy(), c.numpy())


def test_shapes_dtypes_and_parameters():
    rng = Generator(0)
    assert rng.normal().shape == () and rng.normal().dtype == np.float32
    assert rng.uniform(3).shape == (3,) and rng.uniform((0, 4)).shape == (0, 4)
    x = rng.normal(100_000, 3.0, 2.0, np.float64).numpy()
    assert abs(x.mean() - 3) < 0.03 and abs(x.std() - 2) < 0.03
    u = rng.uniform(100_000, 5.0, 7.0).numpy()
    assert u.min() >= 5 and u.max() < 7 and abs(u.mean() - 6) < 0.02
    assert rng.uniform(10_000, 1.0, 1.0 + 2e-7).numpy().max() < np.float32(1.0 + 2e-7)
    b = rng.bernoulli(0.25, (100_000,))
    assert b.dtype == np.bool_ and abs(b.numpy().mean() - 0.25) < 0.01
    assert not rng.bernoulli(0.0, (100,)).numpy().any()
    assert rng.bernoulli(1.0, (100,)).numpy().all()


def test_a_draw_takes_whole_blocks():
    rng = Generator(1)
    for draw, blocks in [
        (lambda: rng.normal(5), 2),
        (lambda: rng.uniform(4), 1),
        (lambda: rng.uniform(4, dtype=np.float64), 2),
        (lambda: rng.integers(8, shape=3), 2),
        (lambda: rng.permutation(5), 3),
        (lambda: rng.reserve(9), 3),
        (lambda: rng.normal((0,)), 0),
    ]:
        before = rng.counter
        draw()
        assert rng.counter - before == blocks
    assert rng.reserve(4) == (1, rng.counter - 1)


def test_integers_are_fair():
    counts = np.bincount(Generator(2).integers(7, shape=70_000).numpy(), minlength=7)
    assert len(counts) == 7 and np.sum((counts - 1e4) ** 2) / 1e4 < 30  # 6 degrees of freedom
    rng = Generator(3)
    low, high = -(1 << 63), 1 << 63
    whole = rng.integers(low, high, 1000).numpy()
    assert whole.dtype == np.int64 and whole.min() < -(1 << 62) and whole.max() > 1 << 62
    assert (rng.integers(high - 1, high, 5).numpy() == high - 1).all()


def test_multiplication_equals_pythons():
    words = np.array([0, 1, 2**32 - 1, 2**32, 2**63 + 12345, 2**64 - 1], np.uint64)
    for bound in (1, 3, 2**32 - 1, 2**32 + 1, 2**63 + 1, 2**64 - 1):
        high, low = _multiply(words, bound)
        products = [int(word) * bound for word in words]
        assert high.tolist() == [p >> 64 for p in products]
        assert low.tolist() == [p & (2**64 - 1) for p in products]


def test_unfair_words_are_drawn_again():
    bound = 3 << 62  # 2**64 words on 3 * 2**62 values: words whose remainder is 0 are one too many
    fair, unfair = [1, 2**63 + 2, 2**64 - 1], 0
    supply = iter([[unfair, fair[1], unfair], [fair[0], unfair], [fair[2]]])
    got = _below(bound, 3, lambda n: np.array(next(supply), np.uint64))
    assert got.tolist() == [word * bound >> 64 for word in fair]


def test_the_values_that_small_words_reach_are_equally_many():
    # The same arithmetic on 8-bit words, exhausted: what is kept covers each value equally often.
    for bound in (3, 7, 100, 255):
        kept = [word * bound >> 8 for word in range(256) if word * bound % 256 >= 256 % bound]
        assert set(np.bincount(kept, minlength=bound).tolist()) == {256 // bound}


def test_permutation():
    rng = Generator(4)
    order = rng.permutation(1000).numpy()
    assert sorted(order.tolist()) == list(range(1000)) and order[0] != 0
    assert rng.permutation(0).shape == (0,)
    rng = Generator(99)
    orders = Counter(tuple(rng.permutation(4).tolist()) for _ in range(7200))
    assert len(orders) == 24
    assert sum((n - 300) ** 2 for n in orders.values()) / 300 < 50  # 23 degrees of freedom


def test_children_are_apart_and_do_not_disturb_the_parent():
    rng = Generator(5)
    labels = [0, 1, 2**64 - 1, "", "a", "b", "data", "data\0", "a long label of many words"]
    children = [rng.spawn(label) for label in labels]
    assert rng.counter == 0
    assert len({child.seed for child in children} | {rng.seed}) == len(labels) + 1
    rng.normal(10)
    assert rng.spawn("a").seed == children[4].seed
    assert Generator(6).spawn("a").seed != children[4].seed
    x, y = (child.normal(10_000).numpy() for child in children[:2])
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.05


def test_state_goes_on_where_it_stopped():
    rng = Generator(2**64 - 1)
    rng.normal(10)
    state = rng.state_dict()
    assert state == {"seed": 2**64 - 1, "counter": 3}
    right = rng.normal(5).numpy()
    other = Generator(0)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.normal(5).numpy(), right)
    assert repr(other) == f"Generator(seed={2**64 - 1}, counter=5)"


@pytest.mark.parametrize(
    "call,error,text",
    [
        (lambda: Generator(-1), ValueError, r"seed is -1, expected an int in \[0, 2\*\*64\)"),
        (lambda: Generator(2**64), ValueError, "expected an int"),
        (lambda: Generator(1.5), TypeError, "seed is 1.5"),
        (lambda: Generator(0).normal(3, dtype=np.int32), TypeError, "dtype is int32"),
        (lambda: Generator(0).uniform((2, -1)), ValueError, r"shape \(2, -1\)"),
        (lambda: Generator(0).integers(3, 3), ValueError, r"range is \[3, 3\)"),
        (lambda: Generator(0).permutation(-1), ValueError, "n is -1"),
        (lambda: Generator(0).bernoulli(1.5), ValueError, "p is 1.5"),
        (lambda: Generator(0).load_state_dict({"seed": 1}), ValueError, "state has"),
    ],
)
def test_mistakes_raise_one_line(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)
