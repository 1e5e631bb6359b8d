"""The gradient certificate of every op, and that nothing public escapes it."""

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

import minigen.ops as ops
from minigen.autograd import REGISTRY, Op
from minigen.ops import choosing, creation, elementwise, fft
from minigen.ops.cases import Spec, case, normal
from minigen.ops.certificate import TOLERANCE, cases_of, certificate, name_of
from minigen.testing import gradient_errors

MODULES = [
    importlib.import_module(f"minigen.ops.{path.stem}")
    for path in sorted(Path(ops.__file__).parent.glob("*.py"))
    if path.stem not in ("__init__", "cases", "certificate", "fft")
]
NAMES = sorted(name for name in REGISTRY if REGISTRY[name].__module__.startswith("minigen."))
# Public functions outside the registry: those that make constants, and those that draw random
# numbers or keep statistics and then call the inner op named here, which the certificate checks.
MAKERS = {"arange", "empty", "eye", "full", "linspace", "one_hot", "ones", "zeros"}
AROUND = {
    "dropout": "masked",
    "dropout2d": "masked",
    "reparameterize": "reparameterize_at",
}
# Ops in the registry that only other ops and VJPs call.
INNER = """
    adaptive_max_indices affine affine_activated affine_grads alias band batch_norm_eval
    batch_norm_eval_grad batch_norm_train batch_norm_train_grad bernoulli_cost clamped_logit
    convolution convolution_activated convolution_transposed convolution_transposed_activated
    convolution_weight_grad counted_labels cut dense elu_grad gelu_exact gelu_grad grouped_norm
    grouped_norm_grad label_cost label_cost_grad label_mean label_mean_grad leaky_relu_grad
    leaky_relu_grad_sum log_softmax_grad logit_cost logit_cost_grad masked max_pick
    max_pool2d_indices max_spread max_windows mean_windows pool_gather pool_scatter positions
    reparameterize_at reparameterize_grad resample resample2d scaled_difference scaled_sign
    shortfall sigmoid_grad silu_grad softmax_grad spread spread_windows squared_error absolute_error
    standardize tanh_grad times_sign vector_norm winner_share
"""


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    rows = list(certificate([name]))
    assert rows
    for row in rows:
        assert row.passed, row


def public(module):
    return {
        n: f
        for n, f in vars(module).items()
        if not n.startswith("_") and callable(f) and not inspect.isclass(f)
    }


def test_every_public_function_is_in_the_registry_and_the_other_way_round():
    exported = public(ops) | {n: getattr(fft, n) for n in fft.__all__}
    assert not public(ops).keys() & {"fft", "linalg"}
    outside = {n for n, f in exported.items() if REGISTRY.get(name_of(f)) is not f}
    assert outside == MAKERS | AROUND.keys()
    inside = {name_of(f) for f in exported.values()}
    inner = {n for n in NAMES if n not in inside and not n.startswith("_")}
    assert inner == set(INNER.split())
    assert inner.issuperset(AROUND.values())


def test_every_name_in_all_is_exported():
    for module in MODULES:
        for name in getattr(module, "__all__", ()):  # some hold only inner parts
            assert getattr(ops, name) is getattr(module, name), name


def test_every_composed_function_has_cases():
    for name in NAMES:
        assert cases_of(REGISTRY[name]) or not REGISTRY[name].differentiable


SHAPED = [
    (name, i)
    for module in (elementwise, choosing, creation)
    for name in sorted({name_of(getattr(module, n)) for n in module.__all__} - MAKERS)
    if REGISTRY[name].differentiable
    for i, each in enumerate(cases_of(REGISTRY[name]))
    if any(isinstance(x, Spec) for x in each.inputs)
    and not any(isinstance(x, np.ndarray) for x in each.inputs)
]


@pytest.mark.parametrize("name, i", SHAPED)
def test_elementwise_gradients_of_any_shape(name, i):
    each = cases_of(REGISTRY[name])[i]
    specs = [x for x in each.inputs if isinstance(x, Spec)]

    @settings(max_examples=6, deadline=None, derandomize=True, database=None)
    @given(
        hnp.mutually_broadcastable_shapes(num_shapes=len(specs), max_dims=3, min_side=0, max_side=3)
    )
    def check(shapes):
        rng, sizes = np.random.default_rng(1), iter(shapes.input_shapes)
        inputs = [x.draw(rng, next(sizes)) if isinstance(x, Spec) else x for x in each.inputs]
        inputs = [np.asarray(x) if isinstance(x, np.generic) else x for x in inputs]
        errors = gradient_errors(lambda *a: REGISTRY[name](*a, **each.static), inputs)
        assert max(errors) <= TOLERANCE, (shapes, errors)

    check()


# ------------------------------------------------------------- the certificate finds what is wrong


@pytest.fixture
def registered():
    """A function that registers an op for one test."""
    before = dict(REGISTRY)
    yield lambda forward, **options: Op(forward, **options)
    REGISTRY.clear()
    REGISTRY.update(before)


def failed(name):
    return [row for row in certificate([name]) if not row.passed]


def test_a_wrong_gradient_fails(registered):
    def wrong(x):
        return np.sin(x)

    registered(wrong).vjp(x=lambda g: g)
    assert failed("wrong")


def test_a_wrong_second_order_fails(registered):
    def wrong(x):
        return x**3

    registered(wrong).vjp(x=lambda g, x: g * 3 * x.detach() ** 2)
    rows = failed("wrong")
    assert rows and all(
        row.order1 <= TOLERANCE < row.order2 for row in rows if row.order2 is not None
    )


def test_writing_into_an_input_fails(registered):
    def greedy(x):
        out = x * 1
        x *= 1 + 1e-9
        return out

    registered(greedy, linear=("x",)).vjp(x=lambda g: g)
    assert any("written" in row.note for row in failed("greedy"))


def test_a_float64_gradient_of_float32_fails(registered):
    def narrow(x):
        return x.astype(np.float32)

    registered(narrow).vjp(x=lambda g: g)
    assert failed("narrow")


def test_what_breaks_on_strides_fails(registered):
    def flat(x):
        return x * (2 if x.flags.c_contiguous else 3)

    registered(flat, cases=[case(normal(3))]).vjp(x=lambda g: g * 2)
    assert any("strided" in row.note for row in failed("flat"))


def test_unknown_names_raise():
    with pytest.raises(ValueError, match="no op 'nothing'"):
        list(certificate(["nothing"]))


def test_rows_of_ops_without_gradient():
    (row,) = certificate(["equal"])
    assert row.note == "no gradient" and row.passed and row.order1 is None


def test_both_targets_are_checked():
    rows = list(certificate(["erf"]))
    assert {(r.target, r.dtype) for r in rows} == {
        *(("reference", "float64"), ("cpu", "float64"), ("cpu", "float32"))
    }
