"""What is known to help a model that goes wrong, as flags that change what is set now.

A way is a set of options with the values that they would get, which may depend on the present
options. Ways that change nothing, that are out of range, or that do not go together with the rest
are not proposed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Way = Mapping[str, Any]
PROPOSED = 2  # ways, at most


def propose(*ways: Way, check: Callable[[Any], None]) -> Callable[[Any], str]:
    """A function of a model's options: 'try --set ..., or --set ...' of the first ways that fit:
    those after which `check`, given the options, raises no ValueError.
    """

    def remedy(options: Any) -> str:
        fitting = [text for text in (_flags(way, options, check) for way in ways) if text]
        return f"try {', or '.join(fitting[:PROPOSED])}" if fitting else "try another --seed"

    return remedy


def _flags(way: Way, options: Any, check: Callable[[Any], None]) -> str:
    """The changes of a way as flags; "" where it is none, or is refused."""
    if not all(hasattr(options, name) for name in way):
        return ""
    values = {k: v(options) if callable(v) else v for k, v in way.items()}
    changed = {k: v for k, v in values.items() if v != getattr(options, k)}
    if not changed or not all(_allowed(options, *each) for each in changed.items()):
        return ""
    try:
        check(dataclasses.replace(options, **changed))
    except ValueError:
        return ""
    return " ".join(f"--set {name}={_text(value)}" for name, value in changed.items())


def _allowed(options: Any, name: str, value: Any) -> bool:
    """Whether the option may have the value, by what its field says (`nn.option`)."""
    field = next(each for each in dataclasses.fields(options) if each.name == name)
    choices, least = field.metadata.get("choices"), field.metadata.get("least")
    return not (choices and value not in choices) and (
        least is None or all(each >= least for each in np.ravel(value))
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
