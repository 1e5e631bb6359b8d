"""Every op, one name per line, and the table that attaches operators and methods to Tensor.

What may never live here: an op itself. Each op is declared in the file of its kind, its VJP under
its forward.
"""
# ruff: noqa: F401

from minigen.ops import fft, linalg
from minigen.ops.activation import (
    celu,
    dropout,
    dropout2d,
    elu,
    gelu,
    glu,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
)
from minigen.ops.batchnorm import batch_norm
from minigen.ops.choosing import (
    around,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    ceil,
    clip,
    equal,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    nan_to_num,
    not_equal,
    rint,
    round,
    sign,
    trunc,
    where,
)
from minigen.ops.conv import (
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    fold,
    unfold,
)
from minigen.ops.creation import (
    arange,
    astype,
    conj,
    copy,
    empty,
    eye,
    full,
    full_like,
    imag,
    linspace,
    ones,
    ones_like,
    real,
    to_device,
    zeros,
    zeros_like,
)
from minigen.ops.einstein import (
    einsum,
)
from minigen.ops.elementwise import (
    abs,
    absolute,
    add,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cos,
    cosh,
    divide,
    exp,
    exp2,
    expm1,
    hypot,
    lerp,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    mod,
    multiply,
    negative,
    positive,
    power,
    reciprocal,
    remainder,
    sin,
    sinh,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    true_divide,
)
from minigen.ops.index import (
    argsort,
    diag,
    diagonal,
    embedding,
    getitem,
    index_add,
    index_put,
    median,
    nonzero,
    repeat,
    sort,
    take,
    take_along_axis,
    topk,
    trace,
)
from minigen.ops.labels import cross_entropy, nll_loss
from minigen.ops.linalg import (
    cholesky,
    det,
    eigh,
    inv,
    slogdet,
    solve,
    svd,
)
from minigen.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_similarity,
    gaussian_nll_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from minigen.ops.norm import (
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
    pixel_norm,
)
from minigen.ops.pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    max_pool2d,
    max_unpool2d,
)
from minigen.ops.products import (
    bmm,
    dot,
    inner,
    linear,
    matmul,
    matrix_transpose,
    outer,
    tensordot,
    vdot,
    vecdot,
)
from minigen.ops.reduction import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    count_nonzero,
    cumprod,
    cumsum,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from minigen.ops.resample import (
    interpolate,
)
from minigen.ops.sampling import (
    affine_grid,
    channel_shuffle,
    grid_sample,
    one_hot,
    pixel_shuffle,
    pixel_unshuffle,
    reparameterize,
)
from minigen.ops.shape import (
    array_split,
    broadcast_to,
    concat,
    concatenate,
    expand_dims,
    flatten,
    flip,
    fliplr,
    flipud,
    hstack,
    moveaxis,
    pad,
    permute_dims,
    ravel,
    reshape,
    roll,
    rot90,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    tril,
    triu,
    unpad,
    vstack,
)
from minigen.ops.special import (
    erf,
)
from minigen.tensor import Tensor

norm = linalg.norm  # there is a file of that name too, which must not hide the function

# ------------------------------------------------------------------------------- methods of Tensor


def _shape_of(args):
    """The shape or axes in x.reshape(2, 3) and x.reshape((2, 3))."""
    return args[0] if len(args) == 1 and not isinstance(args[0], int) else args


def _to(x, device):
    return x if device == x.device else to_device(x, device)


METHODS = {
    # operators
    "__add__": lambda x, y: add(x, y),
    "__radd__": lambda x, y: add(y, x),
    "__sub__": lambda x, y: subtract(x, y),
    "__rsub__": lambda x, y: subtract(y, x),
    "__mul__": lambda x, y: multiply(x, y),
    "__rmul__": lambda x, y: multiply(y, x),
    "__truediv__": lambda x, y: divide(x, y),
    "__rtruediv__": lambda x, y: divide(y, x),
    "__floordiv__": lambda x, y: floor_divide(x, y),
    "__rfloordiv__": lambda x, y: floor_divide(y, x),
    "__mod__": lambda x, y: remainder(x, y),
    "__rmod__": lambda x, y: remainder(y, x),
    "__pow__": lambda x, y: power(x, y),
    "__rpow__": lambda x, y: power(y, x),
    "__matmul__": lambda x, y: matmul(x, y),
    "__rmatmul__": lambda x, y: matmul(y, x),
    "__neg__": lambda x: negative(x),
    "__pos__": lambda x: positive(x),
    "__abs__": lambda x: abs(x),
    "__eq__": lambda x, y: equal(x, y),
    "__ne__": lambda x, y: not_equal(x, y),
    "__lt__": lambda x, y: less(x, y),
    "__le__": lambda x, y: less_equal(x, y),
    "__gt__": lambda x, y: greater(x, y),
    "__ge__": lambda x, y: greater_equal(x, y),
    "__and__": lambda x, y: bitwise_and(x, y),
    "__rand__": lambda x, y: bitwise_and(y, x),
    "__or__": lambda x, y: bitwise_or(x, y),
    "__ror__": lambda x, y: bitwise_or(y, x),
    "__xor__": lambda x, y: bitwise_xor(x, y),
    "__rxor__": lambda x, y: bitwise_xor(y, x),
    "__invert__": lambda x: bitwise_not(x),
    "__getitem__": lambda x, index: getitem(x, index),
    # in place
    "__iadd__": lambda x, y: x._in_place(add, y),
    "__isub__": lambda x, y: x._in_place(subtract, y),
    "__imul__": lambda x, y: x._in_place(multiply, y),
    "__itruediv__": lambda x, y: x._in_place(divide, y),
    "__ifloordiv__": lambda x, y: x._in_place(floor_divide, y),
    "__imod__": lambda x, y: x._in_place(remainder, y),
    "__ipow__": lambda x, y: x._in_place(power, y),
    "__iand__": lambda x, y: x._in_place(bitwise_and, y),
    "__ior__": lambda x, y: x._in_place(bitwise_or, y),
    "__ixor__": lambda x, y: x._in_place(bitwise_xor, y),
    # shape
    "reshape": lambda x, *shape, order="C": reshape(x, _shape_of(shape), order),
    "transpose": lambda x, *axes: transpose(x, _shape_of(axes) or None),
    "permute": lambda x, *axes: transpose(x, _shape_of(axes)),
    "T": property(lambda x: transpose(x)),
    "mT": property(lambda x: matrix_transpose(x)),
    # what it is made of
    "to": _to,
    "cpu": lambda x: _to(x, "cpu"),
    "cuda": lambda x: _to(x, "cuda"),
    "real": property(lambda x: real(x)),
    "imag": property(lambda x: imag(x)),
}  # fmt: skip
FUNCTIONS = {  # x.name(...) is name(x, ...)
    "abs": abs,
    "all": all,
    "any": any,
    "argmax": argmax,
    "argmin": argmin,
    "argsort": argsort,
    "astype": astype,
    "clip": clip,
    "clone": copy,
    "conj": conj,
    "copy": copy,
    "cos": cos,
    "cumprod": cumprod,
    "cumsum": cumsum,
    "diagonal": diagonal,
    "dot": dot,
    "exp": exp,
    "flatten": flatten,
    "index_put": index_put,
    "log": log,
    "max": max,
    "mean": mean,
    "min": min,
    "nonzero": nonzero,
    "prod": prod,
    "ravel": ravel,
    "repeat": repeat,
    "round": round,
    "sin": sin,
    "sqrt": sqrt,
    "square": square,
    "squeeze": squeeze,
    "std": std,
    "sum": sum,
    "swapaxes": swapaxes,
    "take": take,
    "tanh": tanh,
    "trace": trace,
    "var": var,
}
# NumPy's `x.sort()` sorts in place; here there is only the function `sort(x)`.


def _method(function):
    return lambda x, *args, **static: function(x, *args, **static)


for _name, _function in FUNCTIONS.items():
    METHODS[_name] = _method(_function)
for _name, _function in METHODS.items():
    setattr(Tensor, _name, _function)
