"""Every VAE of `minigen list`, trained on Fashion-MNIST by one command each and measured.

    python benchmarks/vae_table.py [--models vae,vae-gan] [--jobs 1] [--samples 10000]
    python benchmarks/vae_table.py --table-only      the table and the pictures from the JSON

Trains with `minigen train` and the settings in ROWS. Of held-out images are then measured: the
bound of the likelihood with its parts, in nats an image and bits per dimension, the units in use,
log p(x) of 1,000 images by importance sampling with 500 codes each, PSNR and SSIM of
reconstructions. Samples are compared with held-out images in the features of lenet-fashion, and of
conditional models it is counted how many are of the class that was asked for.

    python benchmarks/vae_table.py --time --threads 2

on a machine that does nothing else runs a fiftieth of each command again and adds the minutes that
the whole takes on two cores, so that training itself may share the machine.

What was found is written into results/vae_table.json as each model ends, with results/vae_table.md
and pictures beside it. Models that are there already, of the same command, are left as they are,
and a run that was interrupted goes on. (`enhance-vae` makes no images out of nothing, and has a
benchmark of its own.)
"""

from models_table import FEATURES, GRID, Row, Table

# About two CPU minutes each. conv-vae, beta-vae, cvae, iwae, mmd-vae and vae-gan have the same
# networks, so that what differs is how they are trained.
ROWS = {
    "vae": Row(40_000, "batch_size=64 latent=16"),
    "conv-vae": Row(7500, ""),
    "beta-vae": Row(7500, ""),
    "cvae": Row(7000, ""),
    "style-vae": Row(10_000, ""),
    "iwae": Row(4500, "network=conv activation=relu latent=32 binarize=none samples=10"),
    "mmd-vae": Row(7000, ""),
    "vae-gan": Row(4000, ""),
    "vq-vae": Row(3500, ""),
}
METRICS = "losses,reconstruction,frechet,precision-recall,classes"
CODES, IMAGES = 500, 1000  # of the likelihood by importance sampling


def metrics(model):
    """What `minigen evaluate` is asked for; the likelihood where a model can estimate it."""
    from minigen.train.registry import model_class

    asked = ("--features", FEATURES, "--metrics")
    if not hasattr(model_class(model), "log_likelihood"):
        return *asked, METRICS
    return *asked, f"{METRICS},log-likelihood", "-k", CODES, "--images", IMAGES


def measured(model, args):
    """A model's row of the JSON, with what its numbers are of."""
    run, held_out, row = TABLE.trained(model, args)
    reconstructions(run.model, held_out, TABLE.picture(args, f"{model}-reconstructions"))
    options = run.model.options
    return {
        **row,
        "likelihood": options.likelihood,
        "sigma": None if options.likelihood == "gaussian-pixels" else options.sigma,
        "binarize": getattr(options, "binarize", "none"),
        "latent": getattr(options, "latent", None),
        "conditional": run.model.classes > 0,
    }


def reconstructions(model, held_out, path):
    """Draw the first held-out images, and under each row of them the row of what comes back."""
    import numpy as np
    from models_page import draw

    rows, columns = GRID
    images, labels = held_out.batch(range(rows // 2 * columns))
    back = model.reconstruct(images, labels if model.classes else None)
    both = np.stack([part.reshape(-1, columns, *images.shape[1:]) for part in (images, back)], 1)
    draw(both.reshape(-1, *images.shape[1:]), columns, path)


TABLE = Table(
    "vae_table",
    ROWS,
    measured,
    page="vae_page",
    metrics=metrics,
    head={"codes": CODES, "likelihoods": IMAGES},
    times=("warmup", "capacity_steps"),
)

if __name__ == "__main__":
    TABLE.main(__doc__)
