"""RUN/evaluation.json: what `minigen evaluate` found, of each step of a run that was evaluated and
of each way in which it was.

An evaluation is {"step", "data", "images", "samples", "features", "seed", "metrics"}, where metrics
maps a name to {"value", "low", "high"}.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigen import files
from minigen.train.errors import RunError

_NUMBERS = ("value", "low", "high")


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """The evaluations by rising step, and of a step by rising number of samples; none where there
    is no file. RunError for a damaged one.
    """
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))["evaluations"]
        for each in found:
            each["step"] = int(each["step"])
            for interval in each["metrics"].values():
                for key in _NUMBERS:
                    interval[key] = math.nan if interval[key] is None else float(interval[key])
        return sorted(found, key=lambda each: (each["step"], each.get("samples") or 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: damaged ({error!r}); remove it") from error


def add_evaluation(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Keep an evaluation beside the others. One that was made alike (the same step, data, images,
    samples, features and seed) is completed: its metrics stay but for those that come again.

    The file is written whole or not at all; raises RunError when it cannot be.
    """
    new, kept = dict(evaluation), read_evaluations(path)
    for old in reversed(kept):  # the one of most samples first
        if all(_alike(old.get(key), new[key]) for key in new if key != "metrics"):
            known = {key: value for key, value in new.items() if value is not None}
            new = {**old, **known, "metrics": {**old["metrics"], **new["metrics"]}}
            kept.remove(old)
            break
    kept.append(new)
    document = {"evaluations": [{**each, "metrics": jsonable(each["metrics"])} for each in kept]}
    try:
        files.write_text_atomic(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise RunError(str(error)) from error


def _alike(old: Any, new: Any) -> bool:
    """Whether a setting is the same, or was of no matter to one of the two."""
    return old == new or old is None or new is None


def jsonable(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Metrics as JSON can hold them, which has no NaN: a bound that there is not is null."""
    return {
        name: {key: float(each[key]) if math.isfinite(each[key]) else None for key in _NUMBERS}
        for name, each in metrics.items()
    }
