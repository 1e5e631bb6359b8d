"""Losses on logits, one pass over memory; the sums of logit_cost are among those of `reduction`."""

from __future__ import annotations

import math

from .blocks import load, share, span, store
from .elementwise import sigmoid_element
from .language import FLOATS, cuda, device, divide, int64, kernel
from .loads import FEW, RUN
from .softmax import ARGUMENTS, WIDE, team


@device
def _row(i, rows, columns):
    if rows == 1:
        return int64(0)
    return i if columns == 1 else divide(i, columns)


@kernel("dx: T*, grad: T*, x: T*, target: T*, rows: int, columns: int", T=FLOATS)
def logit_cost_grad(T):
    def run(dx, grad, x, target, rows, columns):
        v = cuda.local.array(8, T)
        t = cuda.local.array(8, T)
        i, count = span(rows * columns)
        if count > 0:
            load(v, x, i, 256, count)
            load(t, target, i, 256, count)
            for u in range(RUN):
                if u < count:
                    g = grad[_row(i + u * 256, rows, columns)]
                    v[u] = g * (sigmoid_element(v[u]) - t[u])
            store(dx, v, i, 256, count)

    return run


@kernel(f"out: T*, x: T*, labels: int64*, {ARGUMENTS}", T=FLOATS, WIDE=WIDE)
def label_cost(T, WIDE):
    """A label that is too large reads nothing and costs NaN."""
    place, _, exponentials = team(T, WIDE)

    def run(out, x, labels, rows, columns, lanes):
        shared = cuda.shared.array(8, T)
        first, row, thread, step, lanes = place(lanes)
        while first < rows:
            count = share(columns, thread, lanes) if row < rows else int64(0)
            top, total = exponentials(x, row * columns + thread, count, lanes, shared)
            if thread == 0 and row < rows:
                label, cost = labels[row], T(0)
                if label >= columns:
                    cost = T(math.nan)
                elif label >= 0:
                    cost = math.log(total) - (x[row * columns + label] - top)
                out[row] = cost
            row += step
            first += step

    return run


@kernel(f"dx: T*, grad: T*, x: T*, labels: int64*, {ARGUMENTS}", T=FLOATS, WIDE=WIDE)
def label_cost_grad(T, WIDE):
    """A label that is too large gives its row NaN."""
    place, _, exponentials = team(T, WIDE)

    def run(dx, grad, x, labels, rows, columns, lanes):
        shared = cuda.shared.array(8, T)
        v = cuda.local.array(4, T)
        first, row, thread, step, lanes = place(lanes)
        while first < rows:
            start = row * columns
            count = share(columns, thread, lanes) if row < rows else int64(0)
            top, total = exponentials(x, start + thread, count, lanes, shared)
            label, g = int64(-1), T(0)
            if row < rows:
                label, g = labels[row], grad[row]
            g = T(math.nan) if label >= columns else g
            j, scale = thread, g / total
            while count > 0:
                load(v, x, start + j, lanes, count)
                for u in range(FEW):
                    if u < count:
                        v[u] = math.exp(v[u] - top) * scale if label >= 0 else T(0)
                        v[u] -= g if j + u * lanes == label else T(0)
                store(dx, v, start + j, lanes, count)
                j += FEW * lanes
                count -= FEW
            row += step
            first += step

    return run
