"""The compiled code of the kernels, executed without a GPU; and the machine that does it."""

import numpy as np
import pytest

pytest.importorskip("greenlet")  # of the threads of the simulator, and of this machine

from minigen import kernels
from tests.cuda import fake_cupy, ptx_machine, test_optim
from tests.cuda.comparing import check, reference
from tests.cuda.ptx_memory import Global
from tests.cuda.ptx_parse import parse
from tests.cuda.test_ptx import needs_compiler

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def whole(high, *shape):
    return RNG.integers(0, high, shape)


PAIR = (2, 2)
ONE = (1, 1)
X, Y, GRAD = normal(3, 2, 4, 5)
ROWS, MORE = normal(2, 5, 9)
IMAGES = normal(2, 3, 4, 6)
MEAN, VAR, WEIGHT, BIAS = normal(4, 3) ** 2 + 0.5
POOLED = normal(2, 3, 2, 3)
TAPS, PLACES = whole(4, 2, 3, 2, 3), whole(24, 2, 3, 2, 3)
CASES = [
    ("leaky_relu", X, 0.2),
    ("leaky_relu_grad", GRAD, X, 0.2),
    ("contiguous", normal(2, 9, 40).transpose(0, 2, 1)),
    *[(name, X) for name in ("exp", "sigmoid", "softplus", "erf", "gelu", "silu")],
    *[(name, GRAD, X) for name in ("gelu_grad", "silu_grad", "sigmoid_grad", "tanh_grad")],
    ("elu", X, 0.7),
    ("elu_grad", GRAD, X, 0.7),
    ("choose", X, Y, X > 0),
    ("winner_share", GRAD, X, Y),
    ("band", GRAD, X, -1.0, 1.0, True),
    ("times_sign", GRAD, X),
    ("squared_error", X, Y),
    ("scaled_difference", X, Y, np.array(2, np.float32)),
    ("axis_sum", X, (1,)),
    ("axis_sum", X, (0, 2)),
    ("channel_sum", IMAGES),
    ("leaky_relu_grad_sum", IMAGES, IMAGES[::-1].copy(), 0.2),
    ("softmax", ROWS),
    ("log_softmax_grad", ROWS, MORE),
    ("logit_cost", ROWS, MORE, 1),
    ("logit_cost_grad", normal(5), ROWS, MORE),
    ("label_cost", ROWS, whole(9, 5)),
    ("label_cost_grad", normal(5), ROWS, whole(9, 5)),
    ("batch_norm_train", IMAGES, WEIGHT, BIAS, 1e-5, 0.2),
    ("batch_norm_train_grad", IMAGES, IMAGES + 1, MEAN, VAR, WEIGHT, BIAS, 1e-5, 0.2),
    ("batch_norm_eval_grad", IMAGES, IMAGES + 1, MEAN, VAR, WEIGHT, BIAS, 1e-5, 1.0),
    ("group_norm", ROWS, normal(9), normal(9), 3, 1e-5),
    ("group_norm_grad", IMAGES, IMAGES[::-1].copy(), normal(2, 1), VAR[:2, None], WEIGHT, 1, 1e-5),
    ("gather_rows", ROWS, whole(5, 7)),
    ("scatter_add_rows", ROWS, whole(3, 5), 3),
    ("unfold", IMAGES, PAIR, ONE, ONE, ONE),
    ("fold", normal(2, 12, 6), (4, 6), PAIR, ONE, (0, 0), PAIR),
    ("max_pool2d", IMAGES, PAIR, PAIR, (0, 0), PAIR[:1] + (3,)),
    ("max_pool2d_grad", POOLED, TAPS.astype(np.uint8), PAIR, PAIR, (0, 0), (4, 6)),
    ("pool_gather", IMAGES, PLACES),
    ("pool_scatter", POOLED, PLACES, (4, 6)),
    ("avg_pool2d", IMAGES, PAIR, PAIR, (0, 0), (2, 3), True, None),
    ("avg_pool2d_grad", POOLED, (4, 6), PAIR, PAIR, (0, 0), (2, 3), True, None),
    ("matmul", ROWS, normal(9, 7)),
    ("linear", ROWS, normal(7, 9), normal(7), 0.2),
    ("linear_grads", normal(5, 7), ROWS, normal(7, 9), normal(5, 7), 0.2, (True, True, True)),
    ("conv2d", IMAGES, normal(5, 3, 2, 2), normal(5), ONE, ONE, ONE, 1, 0.2),
    ("conv2d", IMAGES, normal(3, 1, 2, 2), None, PAIR, ONE, ONE, 3),
    ("conv_transpose2d", POOLED, normal(3, 4, 2, 2), None, (4, 6), PAIR, (0, 0), ONE, 1),
    ("conv2d_weight_grad", IMAGES, normal(2, 4, 2, 3), PAIR, PAIR, (0, 0), ONE, 1),
    ("reparameterize", X, GRAD, 2**63 + 5, 11),
]


@pytest.fixture
def compiled(gpu, monkeypatch):
    """Kernels are compiled to PTX, which the machine runs."""
    if gpu is not fake_cupy:
        pytest.skip("a GPU runs the kernels themselves")
    from minigen.kernels.cuda import launch

    found = []
    monkeypatch.setattr(
        launch, "find", lambda *kernel: found.append(kernel) or ptx_machine.find(*kernel)
    )
    monkeypatch.setattr(launch, "_functions", {})
    yield
    assert found


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_compiled_kernels_equal_the_reference(compiled, case):
    check(*case)


@needs_compiler
def test_products_on_tensor_cores(compiled, monkeypatch):
    from minigen.kernels.cuda import tensor_core

    monkeypatch.setattr(tensor_core, "SMALLEST", 1)
    monkeypatch.setattr(tensor_core, "LEAST", 1)
    x, weight = normal(1, 8, 5, 4), normal(16, 8, 3, 3)
    call = (ONE, ONE, ONE, 1)
    check("conv2d", x, weight, normal(16), *call, 0.2, rtol=1e-2, atol=2e-3)
    check("conv2d_weight_grad", x, normal(1, 16, 5, 4), (3, 3), *call, rtol=1e-2, atol=2e-3)


@needs_compiler
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "ema"])
def test_optimisers(compiled, gpu, name):
    test_optim.test_numbers_on_the_device_give_the_same_bits(gpu, name)
    numbers = test_optim.CASES[name][0]
    arrays = test_optim.arrays_for(name, "float32")
    expected = [a.astype(np.float64) for a in arrays]
    reference(name)(*expected, *numbers)
    for e, f in zip(expected, test_optim.run(gpu, name, arrays, numbers), strict=True):
        np.testing.assert_allclose(f, e, rtol=2e-6, atol=2e-6)


@needs_compiler
@pytest.mark.parametrize("name", ["philox_uniform", "philox_normal"])
def test_random_numbers_bit_for_bit(compiled, gpu, name):
    found = kernels.implementation(name, "cuda")[0](5, 2**64 - 3, 70, np.float32)
    np.testing.assert_array_equal(found.get(), getattr(kernels, name)(5, 2**64 - 3, 70, "f4"))


# ------------------------------------------------------------------------------------ the machine

REGISTERS = {"p": "pred", "rs": "b16", "r": "b32", "rd": "b64", "f": "f32", "fd": "f64"}


def run(body, *arrays, threads=32, blocks=1, dynamic=0):
    """Execute instructions; the arrays' addresses are in %rd1, %rd2 and so on, %tid.x in %r1."""
    memory = Global()
    numbers = [np.array([memory.add(a)], np.uint64) for a in arrays]
    names = [f"p{i}" for i in range(len(arrays))]
    head = [f".reg .{kind} %{prefix}<40>" for prefix, kind in REGISTERS.items()]
    head += [f"ld.param.u64 %rd{i + 1}, [{name}]" for i, name in enumerate(names)]
    lines = "; ".join([*head, "mov.u32 %r1, %tid.x", *body.strip().split("\n"), "ret;"])
    parameters = ", ".join(f".param .u64 {name}" for name in names)
    text = (
        ".shared .align 8 .b8 s[64];\n.extern .shared .align 16 .b8 d[];\n"
        f".visible .entry e({parameters}) {{ {lines.replace(':;', ':')} }}"
    )
    ptx_machine.execute(parse(text), "e", (blocks,), threads, numbers, memory, dynamic)


BIG = 2.0**30
CALCULATED = [  # an instruction, its first operands and the result
    ("fma.rn.f32", (1 + 2**-23, 1 + 2**-23, 2.0**-60), 1 + 2**-22),
    ("fma.rn.f32", (1 + 2**-12, 1 + 2**-12, 2.0**-60), 1 + 2**-11 + 2**-23),  # not a tie any more
    ("fma.rn.f64", (1 + 2**-52, 1 + 2**-52, -1 - 2**-51), 2.0**-104),
    ("fma.rm.f32", (-1.0, 1.0, -(2.0**-60)), -1 - 2**-23),
    ("add.rz.f32", (-1.0, -(2.0**-60)), -1.0),
    ("mul.hi.u32", (2**31, 6), 3),
    ("div.s64", (-7, 2), -3),
    ("rem.s64", (-7, 2), -1),
    ("shl.b32", (1, 40), 0),
    ("shr.s32", (-5, 99), -1),
    ("bfi.b64", (5, 2**40 + 7, 8, 2), 2**40 + 7 + 256),
    ("min.f32", (np.nan, 2.0), 2.0),
    ("max.NaN.f32", (np.nan, 2.0), np.nan),
    ("cvt.rzi.s32.f32", (-1.7,), -1),
    ("cvt.rzi.s32.f32", (1e20,), 2**31 - 1),
    ("cvt.rzi.s32.f32", (np.nan,), 0),
    ("cvt.rni.f32.f32", (2.5,), 2.0),
    ("cvt.sat.f32.f32", (np.nan,), 0.0),
    ("cvt.s64.s32", (-2,), -2),
    ("cvt.rn.f32.s64", (2**24 + 1,), 2.0**24),
    ("ex2.approx.ftz.f32", (-130.0,), 0.0),
    ("copysign.f32", (-1.0, 2.0), -2.0),
]  # fmt: skip


def _register(kind, number):
    prefix = {"f32": "f", "f64": "fd"}.get(kind) or ("rd" if kind.endswith("64") else "r")
    return f"%{prefix}{number}"


@pytest.mark.parametrize(("name", "operands", "expected"), CALCULATED)
def test_arithmetic(name, operands, expected):
    kinds = [part for part in name.split(".") if part[1:] in ("32", "64")]
    to, of = kinds[0], kinds[-1]
    dtype = {"f32": "float32", "f64": "float64"}
    lines, arrays = [], [np.zeros(1, dtype.get(to, f"int{to[1:]}"))]
    for i, value in enumerate(operands):
        kind = "u32" if name[:3] in ("shl", "shr", "bfi") and i > len(operands) - 1 - (
            1 + (name[:3] == "bfi")
        ) else of  # fmt: skip
        arrays.append(np.array([value]).astype(dtype.get(kind, f"int{kind[1:]}")))
        lines.append(f"ld.global.{kind} {_register(kind, 10 + i)}, [%rd{i + 2}]")
        operands = *operands[:i], _register(kind, 10 + i), *operands[i + 1 :]
    lines.append(f"{name} {_register(to, 20)}, {', '.join(operands)}")
    run("\n".join([*lines, f"st.global.{to} [%rd1], {_register(to, 20)}"]), *arrays, threads=1)
    np.testing.assert_array_equal(arrays[0][0], np.array(expected, arrays[0].dtype))


EACH = "mul.wide.u32 %rd10, %r1, 4\nadd.s64 %rd11, %rd1, %rd10\n"
IN_SHARED = "mov.u64 %rd12, s\nadd.s64 %rd13, %rd12, %rd10\n"


def test_threads_that_part_meet_again():
    """Lane i makes i rounds; then all lanes are there for a shuffle."""
    body = EACH + """mov.u32 %r2, 0
LOOP:
setp.ge.u32 %p1, %r2, %r1
@%p1 bra DONE
add.s32 %r2, %r2, 1
bra.uni LOOP
DONE:
shfl.sync.down.b32 %r3|%p2, %r2, 1, 31, -1
st.global.u32 [%rd11], %r3"""
    found = np.zeros(32, np.uint32)
    run(body, found)
    np.testing.assert_array_equal(found, [*range(1, 32), 31])


COPY = "mov.u32 %r5, d\nadd.s64 %rd20, %rd1, 0\nmov.u32 %r6, 16\n"
COPY += "@%p1 cp.async.cg.shared.global [%r5], [%rd20], 16, %r6\ncp.async.commit_group\n"
BLOCK = "mov.u32 %r7, %ctaid.x\nsetp.eq.u32 %p1, %r7, 0\n"
FIRST = EACH + "setp.eq.u32 %p1, %r1, 0\n"


def test_a_copy_is_seen_when_it_has_been_waited_for():
    data, found = np.arange(4, dtype=np.float32), np.zeros(2, np.float32)
    body = FIRST + COPY + """@%p1 ld.shared.f32 %f1, [d+4]
@%p1 st.global.f32 [%rd2], %f1
cp.async.wait_group 0
@%p1 ld.shared.f32 %f2, [d+4]
@%p1 st.global.f32 [%rd2+4], %f2"""
    run(body, data, found, dynamic=16)
    np.testing.assert_array_equal(found, [np.nan, 1])


@pytest.mark.parametrize("body, message", [
    (EACH + "ld.global.f32 %f1, [%rd11+4]", r"4 bytes at 4 to 128 .* array 1, which has 128 bytes"),
    (EACH + "ld.global.f32 %f1, [%rd11+-4]", "4 bytes at -4"),
    (EACH + "ld.global.v2.f32 {%f1, %f2}, [%rd11]", "8 bytes at an address that is no multiple"),
    ("ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [s]", "16 bytes at an address that is no multiple"),
    ("ld.shared.f32 %f1, [s+64]", "bytes of shared memory|of shared memory"),
    ("mov.u64 %rd30, 64\nld.global.f32 %f1, [%rd30]", "is in no array"),
    ("st.global.u32 [%rd1], %r1", "threads store different values in one place"),
    (FIRST + "@%p1 bra END\nbar.sync 0\nEND:", "not all threads come there"),
    (FIRST + "@%p1 bra END\nshfl.sync.bfly.b32 %r3, %r1, 1, 31, -1\nEND:", "not all threads come"),
    (FIRST + "@%p1 st.shared.u32 [s], %r1\nld.shared.u32 %r2, [s]", "reads what another has wri"),
    (FIRST + "ld.shared.u32 %r2, [s]\n@%p1 st.shared.u32 [s], %r1", "writes where another has re"),
    (BLOCK + "@%p1 st.global.u32 [%rd1], 7\n@!%p1 ld.global.u32 %r2, [%rd1]", "block reads what"),
    (BLOCK + "@%p1 st.global.u32 [%rd1], 7\n@!%p1 st.global.u32 [%rd1], 8", "block writes where"),
    ("mov.u32 %r2, 0\ndiv.u32 %r3, %r1, %r2", "a division by zero"),
    ("popc.b32 %r2, %r1", "does not know popc.b32"),
    ("add.sat.s32 %r2, %r1, %r1", "does not know add.sat.s32"),
])  # fmt: skip
def test_what_a_gpu_would_not_survive_raises(body, message):
    with pytest.raises(RuntimeError, match=message):
        run(body, np.zeros(32, np.float32), blocks=2)
