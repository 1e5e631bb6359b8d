"""main(): from the command line to a verb and to an exit code.

0 done, 2 bad usage, 1 anything else, 130 on Ctrl-C, 143 on SIGTERM; whatever went wrong is one line
on standard error. Verbs import what they need when they run, so that help comes at once.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import minigen
from minigen.cli.output import Output
from minigen.train.errors import RunError, UsageError, nearest

VERBS = {
    "list": "models, datasets and tasks",
    "info": "versions, devices, and which kernels serve which op",
    "train": "train a model on images, or go on with a run",
    "sample": "make new images with a trained model",
    "evaluate": "measure a trained model on images not trained on",
    "restore": "denoise, brighten, enlarge or restyle photographs",
    "gradcheck": "check the gradients of every op against finite differences",
    "weights": "import trained networks that measure images",
    "kernels": "compile the CUDA kernels ahead of time",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's); returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "-v" in argv or "--verbose" in argv or bool(os.environ.get("MINIGEN_DEBUG"))
    output = None
    try:
        args = parse(argv)
        output = Output(args)
        _set_threads(args)
        code = importlib.import_module(f"minigen.cli.{args.verb}").run(args, output)
        if sys.stdout is not None:  # it is None where it was closed
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output (`minigen list | head -1`) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        return _failed(*_explained(error, debug))
    finally:
        if output is not None:
            output.close()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a verb; UsageError, with the nearest right word, for a wrong one."""
    parser = _Parser(
        prog="minigen",
        description="Deep generative models on arrays, gradients and kernels from scratch.",
        epilog="`minigen VERB --help` says more. Exit codes: 0 done, 2 bad usage, 1 anything else,"
        " 130 on Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"minigen {minigen.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    parsers = {}
    asked = next((word for word in argv if not word.startswith("-")), None)
    if asked is not None:
        if asked not in VERBS:
            raise UsageError(f"no verb {asked!r}{nearest(asked, VERBS)}")
        at = list(argv).index(asked)
        argv = [asked, *argv[:at], *argv[at + 1 :]]  # `minigen -q train` is `minigen train -q`
    for verb, text in VERBS.items():
        parsers[verb] = verbs.add_parser(verb, help=text, description=text, allow_abbrev=False)
        if verb == asked:
            module = importlib.import_module(f"minigen.cli.{verb}")
            _add_common(parsers[verb])
            module.add_arguments(parsers[verb])
    args, unknown = parser.parse_known_args(argv)
    if args.verb is None:
        words = [w for w in unknown if w.startswith("-")]
        wrong = f"no option {words[0]!r}" if words else "no verb given"
        raise UsageError(f"{wrong}; there are: {', '.join(VERBS)}; `minigen --help` says more")
    if unknown:
        flags = [flag for action in parsers[args.verb]._actions for flag in action.option_strings]
        word = unknown[0].partition("=")[0]
        if word.startswith("-"):
            raise UsageError(f"{args.verb}: no option {word!r}{nearest(word, flags)}")
        raise UsageError(f"{args.verb}: {unknown[0]!r} is one argument too many; see --help")
    return args


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        verb = self.prog.partition(" ")[2]
        message = message.replace("the following arguments are required", "missing")
        raise UsageError(f"{verb}: {message}; see `{self.prog} --help`".removeprefix(": "))


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("everywhere")
    group.add_argument("--json", action="store_true", help="print one JSON document, nothing else")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    group.add_argument("-q", "--quiet", action="store_true", help="print results and warnings only")
    group.add_argument("-v", "--verbose", action="store_true", help="print details and tracebacks")


def _set_threads(args: argparse.Namespace) -> None:
    """Through the environment, which kernels read when they are first imported."""
    if args.threads is None:
        return
    if args.threads < 1:
        raise UsageError(f"--threads is {args.threads}, expected at least 1")
    os.environ["MINIGEN_NUM_THREADS"] = str(args.threads)
    if "minigen.kernels" in sys.modules:
        sys.modules["minigen.kernels"].set_num_threads(args.threads)


def _explained(error: Exception, debug: bool) -> tuple[str, int]:
    """(line, exit code) of an error."""
    data = sys.modules.get("minigen.data")
    usage = (UsageError,) if data is None else (UsageError, data.DataError)
    if isinstance(error, usage):
        return str(error), 2
    if isinstance(error, MemoryError):
        return "out of memory; a smaller --batch-size, -n or --tile needs less", 1
    if isinstance(error, (RunError, OSError)):
        return str(error), 1
    more = "" if debug else " (-v shows where)"
    return f"{type(error).__name__}: {error}{more}", 1


def _failed(line: str, code: int) -> int:
    text = " ".join(line.split())
    print(f"minigen: {text}", file=sys.stderr, flush=True)
    return code
