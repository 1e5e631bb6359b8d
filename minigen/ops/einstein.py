"""Einstein's summation, numpy.einsum: its gradients are the same function with operands exchanged.

What may never live here: other products (linalg). Ellipses are first spelled out in letters; then
operand i's gradient is the same sum with the output's subscripts and operand i's in each other's
place.
"""

import string
from typing import Any

import numpy as np

from minigen import backend
from minigen.autograd import composed, op
from minigen.ops.cases import case, complex_normal, normal
from minigen.ops.creation import conj, ones
from minigen.ops.index import index_add
from minigen.tensor import Tensor, raw

__all__ = ["einsum"]


@composed(
    cases=[
        case("ij,jk->ik", normal(2, 3), normal(3, 4)),
        case("ij,kj", normal(2, 3), normal(2, 3)),
        case("ii", normal(3, 3)),
        case("iij->ji", normal(3, 3, 2)),
        case("ij->", normal(2, 3)),
        case("...ij,...j->...i", normal(2, 1, 3, 4), normal(2, 4)),
        case("bi,ijk,bk->bj", normal(2, 3), normal(3, 2, 4), normal(2, 4)),
        case("i,i->i", normal(1), normal(3)),
        case("ii,ij->j", normal(2, 2), normal(2, 3)),
        case("ij,jk", complex_normal(2, 3), complex_normal(3, 2)),
    ]
)
def einsum(subscripts: Any, *operands: Any) -> Tensor:
    """Einstein's summation: einsum("bij,bjk->bik", x, y), with ellipses and repeated letters.

    NumPy's other form, einsum(x, [0, 1], y, [1, 2], [0, 2]), works too.
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists(subscripts, *operands)
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, got {len(operands)}")
    if not arrow:  # then the letters that occur once, in alphabetical order, after the ellipsis
        letters = inputs.replace(",", "").replace("...", "")
        output = "".join(s for s in sorted(set(letters)) if letters.count(s) == 1)
        output = ("..." if "..." in inputs else "") + output
    if "..." in inputs:
        terms, output = _spell_out(terms, output, [np.ndim(raw(x)) for x in operands])
    return _einsum(list(operands), ",".join(terms) + "->" + output)


@op(
    sequence=True,
    view=True,
    linear=("xs",),
    cases=[case([normal(2, 3), normal(3, 4)], "ij,jk->ik"), case([normal(2, 2)], "ii->i")],
)
def _einsum(xs, subscripts):
    return np.einsum(subscripts, *xs, optimize=len(xs) > 1)


def _einsum_x(g, i, xs, xs_shape, subscripts):
    """The same sum with operand i and the output exchanged."""
    inputs, _, output = subscripts.partition("->")
    terms, shape = inputs.split(","), xs_shape[i]
    mine, others = terms[i], [j for j in range(len(xs)) if j != i]
    terms = [output, *(terms[j] for j in others)]
    operands = [g, *(conj(xs[j]) for j in others)]
    once = "".join(dict.fromkeys(mine))
    alone = "".join(s for s in once if not any(s in t for t in terms))
    if alone:  # letters that nobody else has were summed: spread the gradient over them
        terms.append(alone)
        operands.append(ones([shape[mine.index(s)] for s in alone], g.dtype, device=g.device))
    found = _einsum(operands, ",".join(terms) + "->" + once)
    if len(once) == len(mine):
        return found
    # A letter that stands twice: onto its diagonal.
    steps = [backend.like(g.data).arange(shape[mine.index(s)]) for s in once]
    steps = dict(zip(once, np.meshgrid(*steps, indexing="ij", sparse=True), strict=True))
    return index_add(found, tuple(steps[s] for s in mine), shape)


_einsum.vjp(xs=_einsum_x)


def _spell_out(terms, output, ndims):
    """Terms in which every ellipsis is replaced by letters that the others leave free."""
    free = [s for s in string.ascii_letters if s not in "".join(terms)]
    counts = [n - len(t) + 3 if "..." in t else 0 for t, n in zip(terms, ndims, strict=True)]
    if max(counts) and "..." not in output:
        raise ValueError(f"einsum: an ellipsis stands for {max(counts)} axes, the output has none")
    batch = "".join(free[: max(counts)])
    spelled = [
        t.replace("...", batch[len(batch) - c :]) for t, c in zip(terms, counts, strict=True)
    ]
    return spelled, output.replace("...", batch)


def _from_lists(*args):
    """(subscripts, operands) of the form x, [0, 1], y, [1, 2], ..., [output]."""
    pairs, output = args[: len(args) // 2 * 2], args[len(args) // 2 * 2 :]

    def spell(labels):
        return "".join("..." if s is Ellipsis else string.ascii_letters[s] for s in labels)

    text = ",".join(map(spell, pairs[1::2])) + ("->" + spell(output[0]) if output else "")
    return text, pairs[::2]
