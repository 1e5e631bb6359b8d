"""The metrics of minigen and those of their authors' packages, on the same features and images.

    python benchmarks/metrics_parity.py [--count 1500] [--swd sliced_wasserstein.py] [--out FILE]

Needs torch-fidelity (Frechet distance, KID), prdc (precision, recall, density, coverage),
pytorch-msssim and scikit-image. For the sliced Wasserstein distance, whose authors' file may not be
shipped, stands a second writing of the paper's algorithm; --swd adds the authors' own, which is
metrics/sliced_wasserstein.py of tkarras/progressive_growing_of_gans. Exits with 1 where two values
differ by more than 1e-4 relative.
"""

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import sys
from pathlib import Path
from unittest import mock

import measure
import numpy as np

import minigen as mg
from minigen import data, files, metrics

TOLERANCE = 1e-4
PACKAGES = ("torch", "torch-fidelity", "prdc", "pytorch-msssim", "scikit-image")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1500, help="samples in a set")
    parser.add_argument("--swd", type=Path, help="the authors' sliced_wasserstein.py")
    default = measure.ROOT / "benchmarks" / "results" / "metrics_parity.json"
    parser.add_argument("--out", type=Path, default=default, help="the JSON document")
    parser.add_argument("--json", action="store_true", help="print the JSON document")
    args = parser.parse_args()

    rows = []
    real, fake = images(args.count)
    for name, x, y in feature_sets(real, fake):
        rows += [{"data": name, **row} for row in on_features(x, y)]
    rows += [{"data": "Fashion-MNIST", **row} for row in on_images(real, fake)]
    rows += [
        {"data": "Fashion-MNIST, 3 in a colour", **row} for row in sliced(real, fake, args.swd)
    ]
    for row in rows:
        row["relative"] = abs(row["minigen"] - row["reference"]) / abs(row["reference"])
    worst = max(row["relative"] for row in rows)
    peers = {name: measure.version(name) for name in PACKAGES}
    result = {**measure.header(), "peers": peers, "worst_relative": worst, "rows": rows}
    files.write_text_atomic(args.out, json.dumps(result, indent=1) + "\n")
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for row in rows:
            print(
                f"{row['metric']:24s} {row['of']:22s} {row['data']:28s} {row['minigen']:12.6g} "
                f"{row['reference']:12.6g}  {row['relative']:.1e}"
            )
        print(f"worst relative difference {worst:.1e} (tolerance {TOLERANCE:.0e})")
    sys.exit(not worst <= TOLERANCE)


def images(count):
    """Real images (N, 1, 28, 28), and other ones blurred a little in the place of generated."""
    pixels = data.load("fashion-mnist").batch(np.arange(2 * count))[0]
    real, other = pixels[:count], pixels[count:]
    return real, (other + np.roll(other, 1, axis=3)) / 2


def feature_sets(real, fake):
    rng, count = np.random.default_rng(0), len(real)
    mix = rng.normal(size=(64, 64)) / 8
    yield "random, 64", rng.normal(size=(count, 64)) @ mix, rng.normal(0.1, 0.9, (count, 64)) @ mix
    x, y = (s.reshape(count, -1).astype(np.float64) for s in (real, fake))
    yield "Fashion-MNIST pixels, 784", x, y
    axes = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:50].T
    yield "Fashion-MNIST PCA, 50", x @ axes, y @ axes


def on_features(x, y):
    import torch
    from prdc import compute_prdc
    from torch_fidelity import metric_fid, metric_kid

    tensors = torch.from_numpy(x), torch.from_numpy(y)
    statistics = [metric_fid.fid_features_to_statistics(t) for t in tensors]
    found = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    peer = "torch-fidelity"
    yield row("frechet_distance", peer, metrics.frechet_distance(x, y), *found.values())

    size, subsets, seed = 500, 20, 7
    found = metric_kid.kid_features_to_metric(
        *tensors, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    with replayed_subsets(np.random.RandomState(seed)) as rng:  # the ones that it has drawn
        ours = metrics.kernel_distance(x, y, rng=rng, subsets=subsets, subset_size=size)
    yield row("kernel_distance, mean", peer, ours[0], found[metric_kid.KEY_METRIC_KID_MEAN])
    yield row("kernel_distance, std", peer, ours[1], found[metric_kid.KEY_METRIC_KID_STD])

    for k in (3, 5):
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = compute_prdc(x, y, k)
        ours = (*metrics.precision_recall(x, y, k), *metrics.density_coverage(x, y, k))
        names = ("precision", "recall", "density", "coverage")
        for name, value in zip(names, ours, strict=True):
            yield row(f"{name}, k = {k}", "prdc", value, theirs[name])


@contextlib.contextmanager
def replayed_subsets(state):
    """A generator whose permutations begin with the rows that RandomState.choice draws."""
    rng = mg.Generator(0)
    # choice(n, size, replace=False) is the beginning of permutation(n)
    with mock.patch.object(rng, "permutation", lambda n: mg.asarray(state.permutation(n))):
        yield rng


def on_images(real, fake, pairs=100):
    import torch
    from pytorch_msssim import ms_ssim
    from skimage.metrics import structural_similarity

    a, b = real[:pairs].astype(np.float64), (0.7 * real[:pairs] + 0.3 * fake[:pairs]).astype(float)
    theirs = [
        structural_similarity(
            x, y, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    yield row("ssim", "scikit-image", metrics.ssim(a, b), np.mean(theirs))
    large = [np.kron(x[:8], np.ones((1, 1, 7, 7)))[..., :181] for x in (a, b)]  # 196 x 181
    for scales in (5, 3):
        weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
        found = ms_ssim(
            *map(torch.from_numpy, large), data_range=1.0, weights=list(weights / weights.sum())
        )
        ours = metrics.ms_ssim(*large, scales=scales)
        yield row(f"ms_ssim, {scales} scales", "pytorch-msssim", ours, found.item())


def sliced(real, fake, authors):
    """One run of minigen, whose draws are then replayed to the others."""
    count = len(real) // 3
    a, b = (
        np.pad(x[: 3 * count].reshape(count, 3, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2)))
        for x in (real, fake)
    )
    rng = Recorder(0)
    ours = metrics.sliced_wasserstein(a, b, rng=rng, patches_per_image=32)
    peers = {"the paper": (plain_pyramid, plain_patches, plain_distance)}
    if authors is not None:
        peers["its authors' code"] = authors_code(authors)
    for name, (pyramid, patches, distance) in peers.items():
        levels = [pyramid(x.copy(), len(ours)) for x in (a, b)]
        for level, (size, (places, directions)) in enumerate(zip(ours, rng.levels(), strict=True)):
            x, y = (
                patches(images[level], *where) for images, where in zip(levels, places, strict=True)
            )
            value = np.mean([distance(x, y, drawn) for drawn in directions]) * 1e3
            yield row(f"sliced_wasserstein, {size} px", name, ours[size], value)


class Recorder(mg.Generator):
    """A generator that remembers what it drew."""

    def __init__(self, seed):
        super().__init__(seed)
        self.drawn = []

    def integers(self, *arguments):
        return self.keep(super().integers(*arguments))

    def normal(self, *arguments):
        return self.keep(super().normal(*arguments))

    def keep(self, tensor):
        self.drawn.append(tensor.numpy())
        return tensor

    def levels(self):
        """Of each level: ((top, left) of the patches in either set), and the directions drawn."""
        turns = [list(group) for _, group in itertools.groupby(self.drawn, key=np.ndim)]
        for places, directions in zip(turns[::2], turns[1::2], strict=True):
            half = len(places) // 2
            sets = places[:half], places[half:]
            yield [[np.concatenate(s[::2]), np.concatenate(s[1::2])] for s in sets], directions


def plain_pyramid(images, levels):
    """Laplacian pyramid by one 5x5 filter (Burt & Adelson 1983)."""
    from scipy import ndimage

    taps = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(taps, taps)[None, None]
    found = []
    for _ in range(levels - 1):
        small = ndimage.convolve(images, kernel, mode="mirror")[:, :, ::2, ::2]
        spread = np.zeros_like(images)
        spread[:, :, ::2, ::2] = small
        found.append(images - ndimage.convolve(spread, 4 * kernel, mode="mirror"))
        images = small
    return [*found, images]


def plain_patches(images, top, left):
    """One patch after another; every channel then has mean 0 and deviation 1 over all of them."""
    share = len(top) // len(images)
    patches = np.stack(
        [
            images[i // share, :, y : y + 7, x : x + 7]
            for i, (y, x) in enumerate(zip(top, left, strict=True))
        ]
    ).astype(np.float64)
    for channel in range(patches.shape[1]):
        part = patches[:, channel]
        patches[:, channel] = (part - part.mean()) / part.std()
    return patches.reshape(len(patches), -1)


def plain_distance(x, y, drawn):
    """The mean over directions of the mean gap of sorted projections."""
    along = drawn / np.linalg.norm(drawn, axis=0)
    return np.mean([np.abs(np.sort(x @ d) - np.sort(y @ d)).mean() for d in along.T])


def authors_code(path):
    """The same three parts by the authors' functions, their draws replaced."""
    spec = importlib.util.spec_from_file_location("authors", path)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)

    def patches(images, top, left):  # they draw the centres of patches, first across, then down
        centres = iter([left + 3, top + 3])
        replay = lambda *a, size: next(centres).reshape(size)
        with mock.patch.object(np.random, "randint", replay):
            found = theirs.get_descriptors_for_minibatch(images, 7, len(top) // len(images))
        # their patches are transposed, and so would be the directions that they are projected on
        return theirs.finalize_descriptors(found.swapaxes(2, 3).copy())

    def distance(x, y, drawn):
        with mock.patch.object(np.random, "randn", lambda *shape: drawn.copy()):
            return theirs.sliced_wasserstein(x, y, 1, drawn.shape[1])

    return theirs.generate_laplacian_pyramid, patches, distance


def row(metric, of, ours, theirs):
    return {"metric": metric, "of": of, "minigen": float(ours), "reference": float(theirs)}


if __name__ == "__main__":
    main()
