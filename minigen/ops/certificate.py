"""The gradient certificate: every registered op and composed function, proved on all of its cases.

What may never live here: the proofs themselves (minigen.testing) or any op in particular. `minigen
gradcheck` prints these rows and the tests assert them.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.autograd import REGISTRY, Op, grad, op
from minigen.ops.cases import Case, case, draw, normal
from minigen.tensor import Tensor
from minigen.testing import gradient_errors

TOLERANCE = 1e-6  # of a directional derivative in float64, relative to its size, at least 1
ADJOINT_TOLERANCE = 1e-10
FLOAT32_TOLERANCE = 1e-3  # of a gradient in float32 against the one in float64


class Row(NamedTuple):
    """One line of the certificate; errors are relative, None where there is nothing to check."""

    op: str
    case: int | None
    dtype: str
    target: str
    order1: float | None
    order2: float | None
    adjoint: float | None
    passed: bool
    note: str = ""


def certificate(names: Iterable[str] | None = None, device: str = "cpu") -> Iterator[Row]:
    """Check ops (all of them without `names`) to order 2; a Row for each case and kernel target.

    On the CPU the targets are "reference" and "cpu", and "winograd" for convolutions wherever that
    algorithm can serve them, on a GPU "cuda". Each check is made on
    contiguous and on strided input and the worse error reported; writing into an input fails it,
    and inputs that the op is linear in also get the inner-product test. A float32 row compares the
    gradient in float32 with the one in float64.
    """
    import minigen.ops  # noqa: F401  (fills the registry)

    public = sorted(n for n in REGISTRY if not n.startswith("_strided"))
    for name in public if names is None else names:
        if name not in REGISTRY:
            raise ValueError(f"certificate: no op {name!r}; there are: {', '.join(public)}")
        function = REGISTRY[name]
        if not function.differentiable:
            yield Row(name, None, "-", "-", None, None, None, True, "no gradient")
            continue
        for i, each in enumerate(cases_of(function)):
            for target in _targets(function, device):
                yield _double_row(function, i, each, target, device)
            yield _single_row(function, i, each, target, device)


def cases_of(function: Any) -> list[Case]:
    """The cases declared for an op, or one of normal (2, 3) for each differentiable input."""
    if function.cases:
        return function.cases
    if not isinstance(function, Op):
        raise ValueError(f"{function.__name__}: a composed function needs cases=[...]")
    last = max((p for positions, *_ in function.rules for p in positions), default=0)
    return [case(*[normal(2, 3)] * (last + 1))]


def prepare(function: Any, each: Case, seed: int = 0) -> tuple[Callable, list[Any]]:
    """(fn, leaves): the drawn inputs as a flat list, and the call on such a list."""
    inputs = draw(each.inputs, np.random.default_rng(seed))
    leaves = [leaf for x in inputs for leaf in (x if isinstance(x, list) else [x])]

    def call(*flat: Any) -> Any:
        rest = iter(flat)
        args = [[next(rest) for _ in x] if isinstance(x, list) else next(rest) for x in inputs]
        return function(*args, **each.static)

    call.__name__ = name_of(function)
    return call, leaves


def name_of(function: Any) -> str:
    return function.name if isinstance(function, Op) else function.__name__


def _double_row(function, i, each, target, device):
    name = name_of(function)
    call, leaves = prepare(function, each, zlib.crc32(name.encode()) + i)
    notes = []
    with _kernels(target):
        errors = gradient_errors(_on(device, call), leaves)
        strided = gradient_errors(_on(device, _on_strided(call)), leaves)
        for order, (plain, other) in enumerate(zip(errors, strided, strict=True), 1):
            if other > TOLERANCE >= plain:
                notes.append(f"order {order} fails on strided input only")
        leaves = [_put(leaf, device) for leaf in leaves]
        changed = _changed(call, leaves)
        if changed is not None:
            notes.append(f"input {changed} was written to")
        gap = _adjoint_gap(function, each, call, leaves)
    order1, order2 = (max(pair) for pair in zip(errors, strided, strict=True))
    right = max(order1, order2) <= TOLERANCE and (gap is None or gap <= ADJOINT_TOLERANCE)
    dtype = "complex128" if any(_kind(x) == "c" for x in leaves) else "float64"
    passed = bool(right and changed is None)
    return Row(name, i, dtype, target, order1, order2, gap, passed, "; ".join(notes))


def _single_row(function, i, each, target, device):
    """The gradient in float32 has its input's dtype and agrees with float64's."""
    name = name_of(function)
    call, leaves = prepare(function, each, zlib.crc32(name.encode()) + i)
    narrow = [_put(_narrow(leaf), device) for leaf in leaves]
    wide = [_put(_widen(leaf), device) for leaf in narrow]
    with _kernels(target):
        cotangents = [_noise(o.data) for o in _outputs(call, wide)]
        exact, approximate = _vjp(call, wide, cotangents), _vjp(call, narrow, cotangents)
    error, note = 0.0, ""
    for x, a, b in zip((x for x in narrow if _kind(x) in "fc"), approximate, exact, strict=True):
        if a is not None and b is not None and b.size:
            if a.dtype != x.dtype:
                error, note = math.inf, f"the gradient of {x.dtype} is {a.dtype}"
            gap = float(np.linalg.norm(a.data - b.data) / max(1.0, float(np.linalg.norm(b.data))))
            error = float(np.maximum(error, gap))  # NaN stays, and fails
        elif (a is None) != (b is None):
            error, note = math.inf, "there is a gradient in one precision only"
    dtype = "complex64" if any(_kind(x) == "c" for x in leaves) else "float32"
    return Row(name, i, dtype, target, error, None, None, error <= FLOAT32_TOLERANCE, note)


# ------------------------------------------------------------------------------------- the checks


@op(linear=("x",))
def _strided(x):
    """x as a strided view of a larger array whose other elements are NaN."""
    frame = backend.like(x).full([2 * n + 1 for n in x.shape], math.nan, x.dtype)
    view = frame[(*[slice(1, None, 2) for _ in x.shape], ...)]
    view[...] = x
    return view


_strided.vjp(x=lambda g: _strided(g))


def _on_strided(call):
    """The same call on strided views, whose outputs' gradients are strided too."""

    def strided(*leaves):
        outs = call(*[_strided(x) if isinstance(x, Tensor) else x for x in leaves])
        if not isinstance(outs, (tuple, list)):
            outs = (outs,)
        return [_strided(o) if _kind(o) in "fc" else o for o in outs]

    return strided


def _on(device, call):
    """The same call made on a device, for finite differences that are taken on the CPU."""
    if device == backend.CPU:
        return call

    def there(*leaves):
        moved = [x.to(device) if isinstance(x, Tensor) else _put(x, device) for x in leaves]
        outs = call(*moved)
        return [o.to(backend.CPU) for o in (outs if isinstance(outs, (tuple, list)) else (outs,))]

    return there


def _changed(call, leaves):
    """The position of an input that computing gradients twice over has changed, or None."""
    tensors = [_leaf(x) if _kind(x) in "fc" else x for x in leaves]
    arrays = {
        i: x.data if isinstance(x, Tensor) else x for i, x in enumerate(tensors) if _kind(x) != "-"
    }
    before = {i: np.array(_host(x), copy=True) for i, x in arrays.items()}
    free = [t for t in tensors if isinstance(t, Tensor)]
    outs = [o for o in _outputs(call, tensors) if o.requires_grad]
    weights = [_leaf(_noise(o.data)) for o in outs]
    seeds = [w.data.copy() for w in weights]
    if outs:
        first = grad(outs, free, weights, create_graph=True, allow_unused=True)
        again = [g for g in first if g is not None and g.requires_grad]
        if again:
            grad(again, free, [g.detach() for g in again], allow_unused=True)
    for i, b in before.items():
        if not np.array_equal(_host(arrays[i]), b, equal_nan=b.dtype.kind in "fc"):
            return i
    for w, seed in zip(weights, seeds, strict=True):
        if not np.array_equal(_host(w.data), _host(seed)):
            return "g"
    return None


def _adjoint_gap(function, each, call, leaves):
    """The worst of |<Ax, y> - <x, A'y>| / |x||y| over inputs it is linear in (up to a constant)."""
    if not function.linear:
        return None
    worst, start = 0.0, 0
    for position, value in enumerate(each.inputs):
        size = len(value) if isinstance(value, list) else 1
        if function.names[position] in function.linear:
            for i in range(start, start + size):
                if _kind(leaves[i]) in "fc":
                    worst = float(np.maximum(worst, _gap(call, leaves, i)))
        start += size
    return worst


def _gap(call, leaves, i):
    x = _leaf(leaves[i])
    outs = _outputs(call, [*leaves[:i], x, *leaves[i + 1 :]])
    zero = _outputs(call, [*leaves[:i], Tensor(np.zeros_like(x.data)), *leaves[i + 1 :]])
    ys = [_noise(o.data) for o in outs]
    left = sum(_inner(o.data - z.data, y) for o, z, y in zip(outs, zero, ys, strict=True))
    (back,) = grad(outs, x, [Tensor(y) for y in ys], allow_unused=True)
    right = 0.0 if back is None else _inner(x.data, back.data)
    scale = float(np.linalg.norm(x.data)) * math.sqrt(sum(_inner(y, y) for y in ys))
    return abs(left - right) / max(1.0, scale)


def _vjp(call, leaves, cotangents):
    tensors = [_leaf(x) if _kind(x) in "fc" else x for x in leaves]
    free = [t for t in tensors if isinstance(t, Tensor)]
    outs = _outputs(call, tensors)
    pairs = [(o, c) for o, c in zip(outs, cotangents, strict=True) if o.requires_grad]
    if not pairs:
        return [None] * len(free)
    seeds = [Tensor(c.astype(o.dtype)) for o, c in pairs]
    return grad([o for o, _ in pairs], free, seeds, allow_unused=True)


def _outputs(call, leaves):
    """The floating outputs of a call, as a list of Tensors."""
    outs = call(
        *[Tensor(x) if _kind(x) in "fc" and not isinstance(x, Tensor) else x for x in leaves]
    )
    outs = outs if isinstance(outs, (tuple, list)) else (outs,)
    return [o for o in outs if _kind(o) in "fc"]


def _noise(like):
    """Normal values of the shape, dtype and device of an array."""
    rng = np.random.default_rng(like.size + 1)
    values = rng.standard_normal(like.shape)
    if like.dtype.kind == "c":
        values = values + 1j * rng.standard_normal(like.shape)
    return _put(np.asarray(values).astype(like.dtype), backend.device_of(like))


def _inner(a, b):
    return float((a * b.conj()).real.sum())


def _kind(x):
    return getattr(getattr(x, "dtype", None), "kind", "-")


def _narrow(x):
    kinds = {"f": np.float32, "c": np.complex64}
    return x.astype(kinds[_kind(x)]) if _kind(x) in kinds else x


def _widen(x):
    kinds = {"f": np.float64, "c": np.complex128}
    return x.astype(kinds[_kind(x)]) if _kind(x) in kinds else x


def _leaf(x):
    out = Tensor(x)
    out.requires_grad = True
    return out


def _put(x, device):
    if _kind(x) == "-" or device == backend.CPU:
        return x
    return backend.to_device(backend.as_array(x), device)


def _host(x):
    return backend.to_device(x, backend.CPU) if hasattr(x, "shape") else x


def _targets(function, device):
    if device != backend.CPU:
        return ("cuda",)
    convolves = function.__module__ == "minigen.ops.conv"  # which holds unfold and fold too
    convolves = convolves and name_of(function).startswith("conv")
    return ("reference", "cpu", "winograd") if convolves else ("reference", "cpu")


def _kernels(target):
    if target == "winograd":
        return kernels.use("cpu", convolution="winograd")
    # All digits on a GPU: what TF32 leaves out is no error of a gradient.
    return kernels.use(precision="float32") if target == "cuda" else kernels.use(target)
