"""What gan_table.py shows of its JSON: a table in Markdown, a picture of all grids, a chart."""

import io

import models_page
from models_page import distance, shown, table
from models_table import REAL

from minigen import files
from minigen.train.samples import save_bytes

ACROSS = 3  # grids beside each other in the picture of all
METRICS = (  # (column, name in the JSON)
    ("kernel distance", "kernel-distance-lenet"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("density", "density"),
    ("coverage", "coverage"),
    ("MS-SSIM", "ms-ssim"),
    ("right class", "class-accuracy"),
)
TRUNCATION = ("frechet", "precision", "recall", "density", "coverage")


def write(document, folder):
    """gan_table.md, the picture of all grids and the chart of truncation; the table's text."""
    text = markdown(document)
    files.write_text_atomic(folder / "gan_table.md", text)
    pictures = folder / "gan_table"
    grids = {name: pictures / f"{name}.png" for name in [*document["models"], REAL]}
    save_bytes(folder / "gan_table.png", models_page.overview(grids, ACROSS))
    for row in document["models"].values():
        if "truncation" in row:
            save_bytes(pictures / "truncation.png", chart(row["truncation"]))
    return text


# ------------------------------------------------------------------------------------- the table


def markdown(document):
    """The table, how to read it, the commands, and the curve of truncation."""
    models = document["models"]
    first = next(iter(models.values()))
    rows = [_cells(name, row) for name, row in models.items()]
    head = ["model", "steps", "minutes", "CPU minutes", "Frechet distance"]
    head += [column for column, _ in METRICS]
    parts = [
        "# Every GAN of `minigen list` on Fashion-MNIST",
        f"Measured on {document['date']} on {document['machine']}: `{document['command']}`.",
        table([*head, "alarms"], [*rows, _of_real(first)]),
        f"Of {first['samples']:,} samples against {first['held_out']:,} held-out images, in the "
        f"features of `{document['features']}` (a Frechet distance in other features is another "
        "number), with a 95 % interval over halves of the images. The last row has real images in "
        "place of samples, what a perfect generator would get: training images, but "
        "held-out ones for the right class. Precision and density say how "
        "good samples are, recall and coverage how many kinds there are. MS-SSIM is the likeness "
        "of two samples: more than that of real images means fewer kinds. Minutes are all "
        "steps at the time of one on two cores that do nothing else, CPU minutes what the run used"
        " on one.",
        "![Samples of each model](gan_table.png)",
        "Nothing is chosen: the first images of a fixed seed. Where a model knows classes, each "
        "column has one.",
        models_page.commands(models),
        *models_page.alarms(models),
    ]
    for name, row in models.items():
        if "truncation" in row:
            parts += truncation(name, row["truncation"])
    return "\n\n".join(parts) + "\n"


def _cells(name, row):
    metrics = row["metrics"]
    rest = [shown(metrics.get(key)) for _, key in METRICS]
    return [f"`{name}`", models_page.steps(row), *models_page.minutes(row),
            distance(metrics["frechet-lenet"]), *rest, str(len(row["alarms"]) or "-")]  # fmt: skip


def _of_real(row):
    """The cells of real images: the metrics that have such a yardstick."""
    metrics = row["metrics"]
    rest = [shown(metrics.get(f"{key}-of-real")) for _, key in METRICS]
    return ["real images", "-", "-", "-", distance(metrics["frechet-lenet-of-real"]), *rest, "-"]


def truncation(name, points):
    """The parts of the page on the curve of truncation."""
    rows = [
        ["none" if point["truncation"] is None else f"{point['truncation']:g}",
         f"{point['frechet']:.2f}", *(f"{point[key]:.3f}" for key in TRUNCATION[1:])]
        for point in points
    ]  # fmt: skip
    return [
        f"## Truncation of `{name}`",
        "Numbers of the noise beyond the limit are drawn again (Brock et al. 2018): the tighter, "
        "the better the samples (precision, density), and the fewer kinds of them (recall).",
        table(["limit", *TRUNCATION], rows),
        "![Truncation](gan_table/truncation.png)",
    ]


def chart(points):
    """The bytes of a PNG: quality and variety, and the distance, over the limit of the noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(points))
    for key, line in (("precision", "-"), ("density", "--"), ("recall", "-"), ("coverage", "--")):
        colour = "#1f5f8b" if key in ("precision", "density") else "#c1440e"
        left.plot(places, [p[key] for p in points], line, color=colour, marker="o", label=key)
    right.plot(places, [p["frechet"] for p in points], color="#0b3954", marker="o")
    left.legend(frameon=False, fontsize=8)
    names = ["none" if p["truncation"] is None else f"{p['truncation']:g}" for p in points]
    for axes, title in ((left, "quality and variety"), (right, "Frechet distance")):
        axes.set(title=title, xlabel="noise redrawn beyond")
        axes.set_xticks(places, names)
        axes.set_ylim(0, 1.08 * max(value for each in axes.lines for value in each.get_ydata()))
        axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=110)
    return stream.getvalue()
