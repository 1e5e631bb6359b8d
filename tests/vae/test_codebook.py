"""The codebook: the nearest vector, averages against their closed form, new beginnings."""

import numpy as np
import pytest

import minigen as mg
from minigen.vae.codebook import Codebook, perplexity, rows


def make(codes=6, size=3, learnt=False, decay=0.9, restart=0.0):
    book = Codebook(codes, size, learnt=learnt, decay=decay, restart=restart, rng=mg.Generator(0))
    book.vectors.data[...] = np.random.default_rng(1).normal(size=(codes, size))
    return book


def vectors_of_a_step(seed, n=4, size=3):
    return mg.Generator(seed).normal((n, size, 2, 5))


def test_the_code_is_that_of_the_nearest_vector():
    book, z = make(codes=50), vectors_of_a_step(2)
    codes = book.nearest(z).numpy()
    gaps = z.numpy().transpose(0, 2, 3, 1)[..., None, :] - book.vectors.numpy()
    np.testing.assert_array_equal(codes, (gaps**2).sum(-1).argmin(-1))
    assert codes.shape == (4, 2, 5) and len(set(codes.reshape(-1))) > 10
    np.testing.assert_array_equal(book.nearest(book.look_up(mg.asarray(codes))).numpy(), codes)


def test_vectors_are_the_averages_of_what_they_stood_for():
    """N_t = (1 - d) sum d^(t - s) n_s, m_t likewise of the sums, e = m / N (appendix A.1)."""
    book, start = make(), make().vectors.numpy()
    usage, sums = np.zeros(6), np.zeros((6, 3))
    for seed in range(3, 8):
        z = vectors_of_a_step(seed)
        codes = book.nearest(z)
        flat, chosen = rows(z).numpy(), codes.numpy().reshape(-1)
        n = np.bincount(chosen, minlength=6)
        m = np.stack([flat[chosen == k].sum(0) for k in range(6)])
        usage, sums = 0.9 * usage + 0.1 * n, 0.9 * sums + 0.1 * m
        counts = book.update(z, codes, mg.Generator(0))
        np.testing.assert_array_equal(counts.numpy(), n)
    np.testing.assert_allclose(book.usage.numpy(), usage, rtol=1e-5)
    expected = np.where(usage[:, None] > 0, sums / np.maximum(usage, 1e-9)[:, None], start)
    np.testing.assert_allclose(book.vectors.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_vector_that_has_stood_for_nothing_stays():
    book = make()
    book.vectors.data[4] = 100
    z = vectors_of_a_step(2)
    book.update(z, book.nearest(z), mg.Generator(0))
    assert (book.vectors.numpy()[4] == 100).all() and np.isfinite(book.vectors.numpy()).all()


@pytest.mark.parametrize("learnt", [False, True])
def test_dead_vectors_begin_again_among_those_of_the_step(learnt):
    book, z = make(codes=4, learnt=learnt, restart=0.1), vectors_of_a_step(2)
    book.vectors.data[1:3] = 100  # which nothing is near to
    book.usage.data[...] = 10  # the mean of a step is 40 / 4
    book.sums.data[...] = 10 * book.vectors.data
    rng, steps = mg.Generator(5), 0
    while (book.vectors.numpy()[1:3] > 50).all():
        alive = book.vectors.numpy()[[0, 3]].copy()
        book.update(z, book.nearest(z), rng)
        steps += 1
    assert steps == 22  # 10 * 0.9^22 < 1
    given = rows(z).numpy()
    for k in (1, 2):
        assert (book.vectors.numpy()[k] == given).all(1).any()
    assert (book.vectors.numpy()[[0, 3]] == alive).all() == learnt
    np.testing.assert_allclose(book.usage.numpy()[1:3], 2, rtol=1e-5)
    np.testing.assert_allclose(book.sums.numpy()[1:3], 2 * book.vectors.numpy()[1:3], rtol=1e-5)
    after = set(book.nearest(z).numpy().reshape(-1))
    assert {1, 2} & after  # and they are used


def test_without_restart_dead_vectors_stay_dead():
    book, z = make(codes=4, restart=0.0), vectors_of_a_step(2)
    book.vectors.data[1] = 100
    for _ in range(40):
        book.update(z, book.nearest(z), mg.Generator(5))
    assert (book.vectors.numpy()[1] == 100).all()


def test_learnt_vectors_get_gradients_and_averages_do_not():
    for learnt in (True, False):
        assert len(make(learnt=learnt).parameters()) == learnt


def test_perplexity_counts_the_codes_in_use():
    assert perplexity(mg.asarray([3.0, 3, 3, 3, 0, 0])).item() == pytest.approx(4, rel=1e-5)
    assert perplexity(mg.asarray([0.0, 7, 0])).item() == pytest.approx(1, rel=1e-5)
    p = np.array([0.5, 0.25, 0.25])
    uneven = perplexity(mg.asarray((8 * p).astype(np.float32))).item()
    assert uneven == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
