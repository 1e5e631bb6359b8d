"""What optimisers, averages and clipping share: naming parameters, loading a state."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from minigen import backend
from minigen.tensor import Tensor, raw


def named_leaves(name: str, parameters: Any) -> tuple[list[str], list[Tensor]]:
    """Names and Tensors of a Module's parameters, or of a sequence of Tensors, checked."""
    if hasattr(parameters, "named_parameters"):
        pairs = parameters.named_parameters()
    else:
        pairs = [(str(i), t) for i, t in enumerate(parameters)]
    if not pairs:
        raise ValueError(f"{name}: got no parameters; is the module frozen or empty?")
    for key, t in pairs:
        if not isinstance(t, Tensor):
            kind = type(t).__name__
            raise TypeError(f"{name}: parameter {key} is a {kind}, expected Tensors or one Module")
        if not t.requires_grad or not t.is_leaf or t.dtype.kind != "f":
            what = f"requires_grad={t.requires_grad}, is_leaf={t.is_leaf}, dtype={t.dtype}"
            raise ValueError(f"{name}: parameter {key} has {what}; expected True, True and a float")
    if len({id(t) for _, t in pairs}) < len(pairs):
        raise ValueError(f"{name}: one Tensor is twice among the {len(pairs)} parameters")
    return [key for key, _ in pairs], [t for _, t in pairs]


def load_views(
    name: str,
    views: Mapping[str, Any],
    state: Mapping[str, Any],
    others: AbstractSet[str] = frozenset(),
    optional: AbstractSet[str] = frozenset(),
) -> None:
    """Write arrays into the views of the same names; `others` are due too, `optional` may be.

    Raises KeyError naming what is missing or unexpected, ValueError for a shape; nothing has been
    written then.
    """
    expected = others | views.keys()
    missing, unexpected = expected - state.keys(), state.keys() - expected - optional
    if missing or unexpected:
        parts = [
            f"{len(names)} {kind}: {', '.join(sorted(names)[:8])}"
            for names, kind in ((missing, "missing"), (unexpected, "unexpected"))
            if names
        ]
        raise KeyError(f"{name}.load_state_dict: {'; '.join(parts)}")
    arrays = {key: raw(state[key]) for key in views}
    for key, view in views.items():
        shape = np.shape(arrays[key])
        if shape != view.shape:
            what = f"{key} has shape {shape}, expected {view.shape}"
            raise ValueError(f"{name}.load_state_dict: {what}")
    for key, view in views.items():
        view[...] = backend.to_device(backend.as_array(arrays[key]), backend.device_of(view))
