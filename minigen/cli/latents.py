"""The pictures of `minigen sample` that begin with codes of images: planes, traversals,
reconstructions, ways between two images, swaps of style.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from minigen.train.errors import UsageError

A_ROW, ROWS = 8, 8  # images in a row, and rows, unless told otherwise
SIDE, REACH = 20, 3.0  # images along a plane; how far from 0 a traversal goes
PAIRS, A_LINE = 32, 16  # images reconstructed, and how many in a row at most
RANKED, CHUNK = 1000, 250  # held-out images that rank units, and how many at a time

# What a model cannot do that lacks a method.
_LACKS = {
    "codes": "has no latent units that images have a code in, as VAEs have",
    "reconstruct": "cannot reconstruct images, as VAEs can",
    "swap": "cannot swap styles, as cvae and style-vae can",
}


@dataclass
class Picture:
    """Images (n, C, H, W) in reading order, in so many columns or in a grid near square."""

    kind: str  # the beginning of the file's name
    said: str  # what is shown, in words
    images: np.ndarray
    columns: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # more for the JSON document


@dataclass
class Start:
    """Where a plane or a traversal begins: a code (latent,), and of which image, if of one."""

    code: np.ndarray
    label: int = 0
    index: int | None = None  # in the test set

    @property
    def words(self) -> str:
        return "the prior's mean" if self.index is None else f"held-out image {self.index}"


# the pictures ------------------------------------------------------------------------------------


def plane(
    latents: "Latents", side: int, units: str | None, where: str | None, classes: str | None
) -> Picture:
    """Images of codes that differ in two units, at equally likely places of N(0, 1) (Kingma &
    Welling 2013, fig. 4).
    """
    latent = latents.latent
    if latent < 2:
        raise UsageError(f"--manifold: {latents.name} has 1 latent unit, a plane needs 2")
    if latent == 2 and where is not None:
        raise UsageError(f"--start: {latents.name} has 2 latent units, both of them the plane's")
    if units is None:
        chosen = [0, 1] if latent == 2 else latents.ranked()[:2]
    else:
        chosen = numbers("--units", units, latent, count=2)
    start, (right, up) = latents.start(where or "prior"), chosen
    places = np.array([NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)])
    z = np.tile(start.code, (side * side, 1))
    z[:, right], z[:, up] = np.tile(places, side), np.repeat(places[::-1], side)
    return Picture(
        "manifold",
        f"{side} x {side} quantiles of N(0, 1) for units {right} (to the right) and {up} (upwards)"
        f" at {start.words}",
        latents.decode(z, latents.shown(classes, start)),
        side,
        {"units": chosen, "start": start.index},
    )


def traversal(
    latents: "Latents", n: int, units: str, where: str | None, classes: str | None, rng: Any
) -> Picture:
    """A row a unit, which goes from -REACH to REACH while the others stay; above, the image whose
    code that begins with, and its reconstruction.
    """
    start = latents.start(where or "image", rng)
    label = latents.shown(classes, start)
    if units in ("", "all"):
        chosen = latents.ranked()[: ROWS if units == "" else None]
    else:
        chosen = numbers("--traverse", units, latents.latent, otherwise=", or all")
    z = np.tile(start.code, (len(chosen), n, 1))
    for row, unit in enumerate(chosen):
        z[row, :, unit] = np.linspace(-REACH, REACH, n)
    made = latents.decode(z.reshape(len(chosen) * n, -1), label)
    rows = list(made.reshape(len(chosen), n, *made.shape[1:]))
    if start.index is not None:
        image = latents.batch([start.index])[0]
        rows.insert(0, np.concatenate([image, latents.decode(start.code[None], label)]))
    nats = [round(float(latents.kl[unit]), 4) for unit in chosen]
    told = ", ".join(f"{unit} ({kl:.2f})" for unit, kl in zip(chosen, nats, strict=True))
    said = f"units {told} (KL in nats) from {-REACH:g} to {REACH:g} at {start.words}"
    return _rows("traversal", said, rows, units=chosen, kl=nats, start=start.index)


def reconstructions(latents: "Latents", n: int | None, rng: Any) -> Picture:
    """Held-out images, and below each its reconstruction."""
    n = n or min(PAIRS, len(latents.data))
    images, x, labels = latents.batch(latents.drawn(n, rng))
    made = latents.model.reconstruct(x) if labels is None else latents.model.reconstruct(x, labels)
    columns = -(-n // -(-n // A_LINE))  # as few lines as can be, of one length
    parts = [slice(i, i + columns) for i in range(0, n, columns)]
    rows = [row[part] for part in parts for row in (images, made)]
    return _rows("reconstruction", f"{n} held-out images and, below, reconstructions", rows)


def way_between(latents: "Latents", between: str, n: int) -> Picture:
    """Two held-out images, and between them n images on the straight line between their codes, of
    the class of the one that is nearer.
    """
    from minigen.nn.latent import straight_line

    pair = numbers("--between", between, len(latents.data), count=2)
    images, x, labels = latents.batch(pair)
    a, b = latents.model.codes(x, labels)
    z = straight_line(a, b, n)
    nearer = np.arange(n) >= n / 2
    made = latents.decode(z, 0 if labels is None else labels.numpy()[nearer.astype(int)])
    said = f"{n} steps between held-out images {pair[0]} and {pair[1]}"
    return _rows("interpolation", said, [np.concatenate([images[:1], made, images[1:]])])


def swaps(latents: "Latents", n: int | None, rng: Any) -> Picture:
    """Each held-out image of the first column in the style of each of the top row; those of the
    column are of different classes as far as may be.
    """
    n = n or max(1, min(A_ROW, len(latents.data) // 2))
    indices = latents.drawn(2 * n, rng)
    if latents.data.labels is not None:  # one of each class first
        first = np.unique(latents.data.labels[indices], return_index=True)[1]
        indices = np.concatenate([indices[first], np.delete(indices, first)])
    contents, x, labels = latents.batch(indices[:n])
    styles, y, kinds = latents.batch(indices[n:])
    try:
        made = latents.model.swap(x, y, labels, kinds)
    except ValueError as error:
        raise UsageError(f"--swap: {error}") from error
    rows = [np.concatenate([np.ones_like(styles[:1]), styles])]
    rows += [np.concatenate([contents[i : i + 1], made[i]]) for i in range(n)]
    said = f"the contents of {n} held-out images (left) in the styles of {n} others (top)"
    return _rows("swap", said, rows)


def _rows(kind: str, said: str, rows: Sequence[np.ndarray], **facts: Any) -> Picture:
    """A picture of rows of images, white where a row ends early."""
    columns = max(len(row) for row in rows)
    cells = np.ones((len(rows), columns, *rows[0].shape[1:]), np.float32)
    for there, row in zip(cells, rows, strict=True):
        there[: len(row)] = row
    facts["n"] = sum(len(row) for row in rows)
    return Picture(kind, said, cells.reshape(-1, *cells.shape[2:]), columns, facts)


# what they need ----------------------------------------------------------------------------------


class Latents:
    """A trained model between images and codes, and the images that it was not trained on.

    `flag` is the option that asks; `method` is what it needs of the model: "codes" for the units of
    a code, "reconstruct" or "swap". UsageError for a model without it.
    """

    def __init__(self, trained: Any, flag: str, method: str):
        self.config, self.model, self.flag = trained.config, trained.model, flag
        self.name, self.classes = trained.config.model, getattr(self.model, "classes", 0)
        self.latent = getattr(self.model.options, "latent", 0)  # units; vq-vae's codes have none
        if not hasattr(self.model, method) or (method == "codes" and not self.latent):
            raise UsageError(f"{flag}: {self.name} {_LACKS[method]}")

    @cached_property
    def data(self) -> Any:
        """The images held out of training."""
        from minigen.train.build import open_data

        return open_data(self.config, "test")

    def drawn(self, n: int, rng: Any) -> np.ndarray:
        """The numbers of n different held-out images; UsageError where there are not so many."""
        if n > len(self.data):
            raise UsageError(
                f"{self.flag}: needs {n} held-out images, {self.data.name} has {len(self.data)};"
                " give a smaller -n"
            )
        return rng.permutation(len(self.data)).numpy()[:n]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, Any, Any]:
        """Held-out images (n, C, H, W) in [0, 1]; the same as the model takes them, and their
        labels if it takes those.
        """
        import minigen as mg
        from minigen.data.batches import in_range

        images, labels = self.data.batch(indices)
        x = mg.asarray(in_range(images, self.model.value_range), device=self.config.device)
        return images, x, self._told(labels) if self.classes else None

    def decode(self, z: np.ndarray, labels: Any) -> np.ndarray:
        """Images (n, C, H, W) in [0, 1] of codes (n, latent), of one class or of classes (n,)."""
        import minigen as mg

        codes = mg.asarray(z.astype(np.float32), device=self.config.device)
        return self.model.decode(codes, *([self._told(labels, len(z))] if self.classes else []))

    def _told(self, labels: Any, n: int | None = None) -> Any:
        import minigen as mg

        labels = np.asarray(labels, np.int64)
        labels = labels if n is None else np.ascontiguousarray(np.broadcast_to(labels, n))
        return mg.asarray(labels, device=self.config.device)

    @cached_property
    def kl(self) -> np.ndarray:
        """KL(q(z | x) || p(z)) of each unit, (latent,), in nats: the mean over held-out images."""
        import minigen as mg

        n = min(RANKED, len(self.data))
        parts = []
        with mg.no_grad(), self.model.evaluating():
            for i in range(0, n, CHUNK):
                _, x, labels = self.batch(range(i, min(i + CHUNK, n)))
                mu, log_var = (each.numpy() for each in self.model.encode(x, labels))
                parts.append(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var))
        return np.concatenate(parts).mean(0)

    def ranked(self) -> list[int]:
        """All units, the one with the largest KL first."""
        return np.argsort(-self.kl, kind="stable").tolist()

    def start(self, where: str, rng: Any = None) -> Start:
        """What `where` names: "prior", "image" for one drawn, or a held-out image's number."""
        if where == "prior":
            return Start(np.zeros(self.latent, np.float32))
        if where == "image":
            index = int(self.drawn(1, rng)[0])
        else:
            index = numbers("--start", where, len(self.data), count=1, otherwise=", or prior")[0]
        _, x, labels = self.batch([index])
        label = 0 if labels is None else int(labels.numpy()[0])
        return Start(self.model.codes(x, labels)[0], label, index)

    def shown(self, classes: str | None, start: Start) -> int:
        """The class to decode: the one asked for, or that of the image where it starts."""
        if classes is None:
            return start.label
        check_conditional(self.name, self.classes)
        return numbers("--classes", classes, self.classes, count=1)[0]


def check_conditional(model: str, classes: int) -> None:
    """UsageError for a model that cannot be asked for a class."""
    if not classes:
        raise UsageError(
            f"--classes: {model} is not conditional, as --set conditional=... makes it"
        )


def numbers(
    flag: str, text: str, known: int, *, count: int | None = None, otherwise: str = ""
) -> list[int]:
    """The numbers below `known` that a text as 0,3,5 names; UsageError for others, or for another
    count of them, which are to be different.
    """
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not word.isdecimal() or not int(word) < known]
    if wrong or (count is not None and not count == len(words) == len({*words})):
        what = {1: "a number", 2: "two different numbers"}.get(count or 0, "numbers")
        raise UsageError(
            f"{flag}: got {wrong[0] if wrong else text!r}, expected {what} from 0 to"
            f" {known - 1}{otherwise}"
        )
    return [int(word) for word in words]
