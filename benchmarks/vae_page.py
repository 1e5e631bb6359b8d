"""What vae_table.py shows of its JSON: two tables in Markdown, a picture of all grids."""

import models_page
from models_page import distance, shown, table
from models_table import REAL

from minigen import files
from minigen.train.samples import save_bytes

ACROSS = 4  # grids beside each other in the picture of all: two models in a row
OF_CODES = ("likelihood", "nats", "bits / dim", "reconstruction", "KL", "active units", "log p(x)",
            "PSNR", "SSIM")  # fmt: skip
OF_SAMPLES = ("Frechet distance", "precision", "recall", "right class", "alarms")


def write(document, folder):
    """vae_table.md and the picture of all grids; the text of the tables."""
    text = markdown(document)
    files.write_text_atomic(folder / "vae_table.md", text)
    pictures, grids = folder / "vae_table", {}
    for name in document["models"]:
        grids[name] = pictures / f"{name}.png"
        grids[f"{name}: held-out, reconstructed"] = pictures / f"{name}-reconstructions.png"
    grids["held-out images"] = pictures / f"{REAL}.png"
    save_bytes(folder / "vae_table.png", models_page.overview(grids, ACROSS))
    return text


def markdown(document):
    """The tables, how to read them, and the commands."""
    models = document["models"]
    first = next(iter(models.values()))
    codes, images = f"{document['codes']:,}", f"{document['likelihoods']:,}"
    parts = [
        "# Every VAE of `minigen list` on Fashion-MNIST",
        f"Measured on {document['date']} on {document['machine']}: `{document['command']}`.",
        "## What they explain",
        table(
            ["model", "steps", "minutes", "CPU minutes", *OF_CODES],
            [_of_codes(name, row, document) for name, row in models.items()],
        ),
        f"Of {first['held_out']:,} held-out images. Nats an image are the negative evidence lower "
        "bound, reconstruction and KL summed over all pixels and units; the fewer, the better, "
        "among models of one likelihood: **numbers of different likelihoods do not compare**. "
        "`bernoulli` of grey pixels is their cross-entropy, which is no likelihood (it does not sum"
        " to 1), and its bits per dimension are no code length; a `gaussian` is a density, whose "
        "bits per dimension are of 256 levels, and whose nats can be negative. "
        f"log p(x) is estimated for {images} images by importance sampling with {codes} codes each "
        "(a lower bound on average, and of the same likelihood as the rest of the row). A "
        "conditional model's numbers are of the image given its class. KL in `vq-vae` is what its "
        "prior pays for the codes, and the units are the perplexity of its codebook. `vae-gan` is "
        "trained by the likelihood of features; its row says what its encoder and decoder make of "
        "the pixels' likelihood, which nothing in training makes good. PSNR in dB.",
        "## What they make",
        table(["model", *OF_SAMPLES], [*map(_of_samples, models.items()), _of_real(models)]),
        f"Of {first['samples']:,} samples against {first['held_out']:,} held-out images, in the "
        f"features of `{document['features']}` (a Frechet distance in other features is another "
        "number), with a 95 % interval over halves of the images. Samples are the means of "
        "p(x | z). The last row has training images in place of samples, and held-out ones for the "
        "right class. Minutes are all steps at the time of one on two cores that do nothing else, "
        "CPU minutes what the run used on one.",
        "![Samples and reconstructions of each model](vae_table.png)",
        "Nothing is chosen: the first images of a fixed seed, and the first held-out images, each "
        "row of them above what comes back. Where a model knows classes, each column of samples "
        "has one.",
        models_page.commands(models),
        *models_page.alarms(models),
    ]
    return "\n\n".join(parts) + "\n"


def _of_codes(name, row, document):
    metrics = row["metrics"]
    shares = metrics.get("kl") or metrics.get("prior")
    units = metrics.get("active_units") or metrics.get("perplexity")
    latent = f" of {row['latent']}" if row["latent"] and "active_units" in metrics else ""
    likelihood = metrics.get(f"log-likelihood-k{document['codes']}")
    return [
        f"`{name}`", models_page.steps(row), *models_page.minutes(row), _likelihood(row),
        shown(metrics["negative_elbo"], 1), shown(metrics["bits_per_dimension"]),
        shown(metrics["reconstruction"], 1), shown(shares, 1), f"{shown(units, 0)}{latent}",
        shown(likelihood, 1), shown(metrics.get("reconstruction-psnr"), 2),
        shown(metrics.get("reconstruction-ssim")),
    ]  # fmt: skip


def _likelihood(row):
    """The likelihood of pixels that a row's numbers are of."""
    name, sigma = row["likelihood"], row["sigma"]
    if name == "bernoulli":
        return name if row["binarize"] == "none" else f"{name} of 0 or 1 ({row['binarize']})"
    if sigma is None:
        return name
    return f"{name}, sigma {f'{sigma:g}' if sigma else 'learnt'}"


def _of_samples(named):
    name, row = named
    metrics = row["metrics"]
    return [
        f"`{name}`", distance(metrics["frechet-lenet"]), shown(metrics.get("precision")),
        shown(metrics.get("recall")), shown(metrics.get("class-accuracy")),
        str(len(row["alarms"]) or "-"),
    ]  # fmt: skip


def _of_real(models):
    """The cells of real images: what a perfect model would get."""
    known = {}
    for row in models.values():  # only conditional models' rows tell of the right class
        known |= row["metrics"]
    return [
        "real images", distance(known["frechet-lenet-of-real"]), "-", "-",
        shown(known.get("class-accuracy-of-real")), "-",
    ]  # fmt: skip
