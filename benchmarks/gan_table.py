"""Every GAN of `minigen list`, trained on Fashion-MNIST by one command each and measured.

    python benchmarks/gan_table.py [--models dcgan,wgan-gp] [--jobs 1] [--samples 10000]
    python benchmarks/gan_table.py --table-only      the table and the pictures from the JSON

Trains with `minigen train` and the settings in ROWS, then compares samples with the held-out images
in the features of lenet-fashion: Frechet distance with its interval, kernel distance, precision and
recall, density and coverage, and of conditional models how many samples are of the class that was
asked for. CPU minutes are those that a run's process used.

    python benchmarks/gan_table.py --time --threads 2

on a machine that does nothing else runs a fiftieth of each command again and adds the minutes that
the whole takes on two cores, so that training itself may share the machine.

For `biggan` the curve of truncation is measured as well. What was found is written into
results/gan_table.json as each model ends, with results/gan_table.md and pictures beside it. Models
that are there already, of the same command, are left as they are, and a run that was interrupted
goes on.
"""

from models_table import FEATURES, SEED, Row, Table

# About two minutes each on two cores. The networks are half as wide as the papers', for images of
# this size, and most have the same widths, so that what differs is how they are trained. Where the
# paper's learning rate is for ten and more times as many steps it is raised.
SAME = "channels=32 batch_size=64"
ROWS = {
    "gan": Row(5000, SAME),
    "dcgan": Row(10_000, SAME),
    "lsgan": Row(8000, SAME),
    "wgan": Row(2400, f"{SAME} lr=3e-4"),
    "wgan-gp": Row(1600, f"{SAME} lr=5e-4"),
    "hinge": Row(9000, SAME),
    "r1": Row(6000, f"{SAME} lr=2e-4"),
    "began": Row(4500, "batch_size=16 channels=16 gain=0.1 gamma=0.7 lr=5e-4"),
    "pacgan": Row(8000, SAME),
    "cgan": Row(9000, SAME),
    "pggan": Row(2400, "phase_steps=600"),
    "biggan": Row(1400, "batch_size=64"),
}
METRICS = "frechet,kernel-distance,precision-recall,density-coverage,classes,ms-ssim"
TRUNCATED = "biggan"
TRUNCATIONS = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, None)


def measured(model, args):
    """A model's row of the JSON; of one that truncates, with the curve."""
    run, held_out, row = TABLE.trained(model, args)
    if model == TRUNCATED:
        row["truncation"] = truncation_curve(run.model, held_out, args.samples)
    return row


def truncation_curve(model, held_out, samples):
    """Quality and variety of samples whose noise is redrawn beyond each limit."""
    from minigen.metrics import density_coverage, frechet_distance, precision_recall
    from minigen.metrics.features import feature_network
    from minigen.random import Generator

    network = feature_network(FEATURES)
    real = network.features(held_out.batch(range(min(samples, len(held_out))))[0])
    points = []
    for limit in TRUNCATIONS:
        rng = Generator(SEED).spawn("truncation")
        fake = network.features(model.sample(len(real), rng, truncation=limit))
        precision, recall = precision_recall(real, fake)
        density, coverage = density_coverage(real, fake)
        points.append(
            {"truncation": limit, "frechet": frechet_distance(fake, real), "precision": precision,
             "recall": recall, "density": density, "coverage": coverage}
        )  # fmt: skip
    return points


TABLE = Table(
    "gan_table",
    ROWS,
    measured,
    page="gan_page",
    metrics=lambda model: ("--features", FEATURES, "--metrics", METRICS),
    times=("phase_steps",),
)

if __name__ == "__main__":
    TABLE.main(__doc__)
