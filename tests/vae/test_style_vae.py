"""`style-vae`: what each half of the code can know, and that what is put together from two images
is nearer to the truth than either.
"""

import numpy as np
import pytest

import minigen as mg
from minigen.metrics.psnr import psnr
from minigen.vae.style_vae import StyleVAE

DRAW = np.random.default_rng(0)


def make(shape=(3, 12, 12), **options):
    options = {"channels": 4, "latent": 6, "style": 2, **options}
    return StyleVAE(StyleVAE.Options(**options), shape, rng=mg.Generator(0))


def halves(model, images):
    """(content, style) of q(z | x), mu beside log sigma^2, of each image."""
    k = model.options.latent - model.options.style
    mu, log_var = (each.numpy() for each in model.encode(images))
    return np.hstack([mu[:, :k], log_var[:, :k]]), np.hstack([mu[:, k:], log_var[:, k:]])


def bars(n, draw, side=12):
    """(n, 1, side, side): a bar of a third of the image, across or upright, at one of 3 places."""
    masks = np.zeros((n, 1, side, side))
    third = side // 3
    for mask, (upright, place) in zip(masks, draw.integers(0, (2, 3), (n, 2)), strict=True):
        bar = mask[0].T if upright else mask[0]
        bar[place * third : (place + 1) * third] = 1
    return masks


def tones(n, draw):
    """(darkest, span) of each channel, each (n, 3, 1, 1)."""
    dark = draw.uniform(0, 0.7, (n, 3, 1, 1))
    return dark, (1 - dark) * draw.uniform(0.3, 1, (n, 1, 1, 1))


def toned(masks, tone):
    dark, span = tone
    return (dark + span * masks).astype(np.float32)


# what each half can know -------------------------------------------------------------------------


@pytest.mark.parametrize("colours", [1, 3])
def test_content_is_the_same_whatever_the_tone(colours):
    model = make((colours, 12, 12))
    images = DRAW.uniform(0.2, 0.8, (5, colours, 12, 12))
    gain, offset = DRAW.uniform(0.4, 1, (2, 5, colours, 1, 1))
    again = gain * images + 0.3 * offset
    content, style = halves(model, images.astype(np.float32))
    toned_content, toned_style = halves(model, again.astype(np.float32))
    assert abs(toned_content - content).max() < 0.01 * content.std(0).max()
    assert abs(toned_style - style).max() > style.std(0).max()


def test_style_is_the_same_wherever_the_pixels_are():
    model, images = make(), DRAW.uniform(0, 1, (5, 3, 12, 12)).astype(np.float32)
    moved = images.reshape(5, 3, -1)[:, :, DRAW.permutation(144)].reshape(images.shape)
    content, style = halves(model, images)
    moved_content, moved_style = halves(model, moved)
    np.testing.assert_allclose(moved_style, style, rtol=1e-4, atol=1e-6)
    assert abs(moved_content - content).max() > content.std(0).max()


def test_an_image_without_contrast_has_a_code():
    assert np.isfinite(np.hstack(halves(make(), np.full((2, 3, 12, 12), 0.5, np.float32)))).all()


@pytest.mark.parametrize("unused", [{"encoder": (9,)}, {"decoder": (9,)}, {"classes": 3}], ids=str)
def test_what_it_makes_no_use_of_is_refused(unused):
    (name,) = unused
    with pytest.raises(ValueError, match=f"style-vae: {name}=.*, but its networks .*; expected "):
        make(**unused)


# training and swapping ---------------------------------------------------------------------------


def test_what_is_put_together_is_nearer_to_the_truth_than_either_image():
    draw = np.random.default_rng(1)
    images = toned(bars(1024, draw), tones(1024, draw))
    masks, tone = bars(12, draw), tones(12, draw)
    seen = toned(masks, tone)
    truth = np.stack([toned(masks[[i] * 12], tone) for i in range(12)])
    model = make(channels=8, latent=8, style=4, sigma=0.1, lr=5e-3)
    rng, before = mg.Generator(1), model.swap(seen, seen)
    for i in range(200):
        model.step(images[32 * (i % 32) :][:32], None, rng)
    found = model.swap(seen, seen)

    other = ~np.eye(12, dtype=bool)
    differ = [abs(each - truth).max((2, 3, 4)) > 0.1 for each in (seen[:, None], seen[None])]
    pairs = other & differ[0] & differ[1]  # not those that are one of the two images
    near = {
        name: psnr(np.broadcast_to(each, truth.shape)[pairs], truth[pairs], data_range=1)
        for name, each in (
            ("swap", found), ("untrained", before), ("content", seen[:, None]), ("style", seen),
        )
    }  # fmt: skip
    assert near["swap"] > max(near.values()) - 1e-9
    assert near["swap"] - near["content"] > 3
    assert near["swap"] - near["style"] > 3


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 12, 20)])
def test_swaps_of_any_size_have_a_content_a_row_and_a_style_a_column(shape):
    model = make(shape)
    contents, styles = (DRAW.uniform(0, 1, (n, *shape)).astype(np.float32) for n in (2, 3))
    found = model.swap(contents, styles)
    assert found.shape == (2, 3, *shape) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    z, k = model.codes(contents), model.options.latent - model.options.style
    z = np.hstack([z[[1], :k], model.codes(styles)[[2], k:]])
    np.testing.assert_allclose(found[1, 2], model.decode(z)[0], rtol=1e-4, atol=1e-6)
    own = model.swap(contents, contents)
    np.testing.assert_allclose(
        own[[0, 1], [0, 1]], model.reconstruct(contents), rtol=1e-4, atol=1e-6
    )


def test_the_two_kls_add_up_and_are_in_nats():
    model, images = make(), DRAW.uniform(0, 1, (8, 3, 12, 12)).astype(np.float32)
    losses = {k: v.item() for k, v in model.step(images, None, mg.Generator(0)).items()}
    assert losses["kl"] == pytest.approx(losses["kl_content"] + losses["kl_style"])
    assert losses["loss"] == pytest.approx(losses["reconstruction"] + losses["kl"], rel=1e-5)
    mu, log_var = (each.numpy() for each in make().encode(images))
    kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var)
    assert losses["kl_content"] == pytest.approx(kl[:, :4].sum(1).mean(), rel=1e-5)
    assert losses["kl_style"] == pytest.approx(kl[:, 4:].sum(1).mean(), rel=1e-5)


def test_the_penalty_weighs_both():
    images = DRAW.uniform(0, 1, (8, 3, 12, 12)).astype(np.float32)
    terms = [make(beta=b, sigma=1.0).step(images, None, mg.Generator(0)) for b in (0.0, 3.0)]
    free, weighed = ({k: v.item() for k, v in each.items()} for each in terms)
    assert weighed["loss"] - free["loss"] == pytest.approx(3 * free["kl"], rel=1e-3)


def test_style_that_leaves_nothing_for_content_is_refused():
    with pytest.raises(ValueError, match="style=6 of latent=6"):
        make(style=6)
    sizes = [p.shape for p in make(style=5).parameters()]
    assert sizes != [p.shape for p in make().parameters()]
