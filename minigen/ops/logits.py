"""What logits cost under targets or labels, and the gradients: one kernel each.

What may never live here: checks of what users pass, weights, reductions by name (loss).
"""

import numpy as np

import minigen.kernels as kernels
from minigen import backend
from minigen.autograd import op
from minigen.ops.activation import sigmoid, softmax
from minigen.ops.cases import case, distinct, integers, normal, uniform
from minigen.ops.shape import expand_dims, reshape
from minigen.tensor import Tensor, raw


@op(
    cases=[
        case(normal(2, 3), uniform(0, 1, 2, 3), 2),
        case(normal(2, 3, 2, 2), uniform(0, 1, 2, 3, 2, 2), 1),
        case(distinct(3, 20), 1.0, 0),
    ]
)
def logit_cost(input, target, keep):
    """binary_cross_entropy_with_logits, summed over all axes but the first `keep`, in one pass."""
    input, target = _alike(input, target)
    return kernels.logit_cost(input, target, keep)


@op(cases=[case(normal(2), normal(2, 3), uniform(0, 1, 2, 3)), case(normal(), normal(3), 0.5)])
def logit_cost_grad(grad, input, target):
    """The gradient of logit_cost by input."""
    input, target = _alike(input, target)
    return kernels.logit_cost_grad(grad, input, target)


def _logit_cost_grad(grad, input, target):
    """logit_cost_grad in plain ops."""
    return _over(grad, input) * (sigmoid(input) - target)


logit_cost.vjp(
    input=lambda g, input, target: logit_cost_grad(g, input, target),
    target=lambda g, input: -_over(g, input) * input,
)
logit_cost_grad.vjp_from(("grad", "input", "target"), _logit_cost_grad)


def _over(grad, input):
    """grad of the first axes of input, with the others of length 1."""
    return reshape(grad, grad.shape + (1,) * (input.ndim - grad.ndim))


def _alike(input, target):
    """Both of one floating dtype and input's shape."""
    target = np.asarray(target, like=input) if isinstance(target, (int, float)) else target
    dtype = np.result_type(input, target) if target.ndim else input.dtype
    dtype = dtype if dtype.kind == "f" else np.result_type(dtype, np.float32)
    target = target if target.shape == input.shape else np.broadcast_to(target, input.shape)
    return input.astype(dtype, copy=False), target.astype(dtype, copy=False)


LABELS = np.array([1, -1, 2, 0])


@op(cases=[case(normal(4, 3), LABELS), case(normal(2, 3, 2), integers(0, 3, 2, 2))])
def label_cost(input, labels):
    """-log softmax of input (N, C, ...) at labels (N, ...), each; 0 where a label is below 0."""
    return kernels.label_cost(input, labels)


@op(cases=[case(normal(4), normal(4, 3), LABELS)])
def label_cost_grad(grad, input, labels):
    """The gradient of label_cost by input."""
    return kernels.label_cost_grad(grad, input, labels)


def _label_cost_grad(grad, input, labels):
    """label_cost_grad in plain ops."""
    labels = raw(labels)
    classes = backend.like(labels).arange(input.shape[1])
    classes = classes.reshape((1, -1) + (1,) * (labels.ndim - 1))
    chosen = Tensor((labels[:, None] == classes).astype(input.dtype))
    counted = Tensor((labels >= 0).astype(input.dtype))
    return expand_dims(grad * counted, 1) * (softmax(input, 1) - chosen)


label_cost.vjp(input=lambda g, input, labels: label_cost_grad(g, input, labels))
label_cost_grad.vjp_from(("grad", "input"), _label_cost_grad)
