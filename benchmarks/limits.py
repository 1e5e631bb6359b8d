"""What this machine can do at most, measured on the spot: multiply-adds and copied bytes."""

import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from llvmlite import ir
from minigen.kernels.cpu.tile_code import VECTOR_BYTES
from numba import types
from numba.extending import intrinsic

LANES = VECTOR_BYTES // 4
SUMS = 12  # vectors that wait for nothing but themselves: more than latency times units


def peak_gflops(threads, seconds=0.5):
    """10^9 float32 additions and multiplications a second, of registers alone, by all threads."""
    numba.set_num_threads(threads)
    count = 1 << 18
    return 2 * LANES * SUMS * count * threads / _best(lambda: _burn(threads, count), seconds) / 1e9


def copy_gbs(threads, seconds=0.5):
    """10^9 bytes a second read and written by a copy of 256 MB (libc's, a part a thread)."""
    source = np.ones((threads, (1 << 26) // threads), np.float32)
    target = np.zeros_like(source)
    with ThreadPoolExecutor(threads) as pool:
        took = _best(lambda: list(pool.map(np.copyto, target, source)), seconds)
    return 2 * source.nbytes / took / 1e9


def _best(run, seconds):
    """The fastest call in a while: a limit is what happens undisturbed."""
    run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


@intrinsic
def _multiply_add(typing_context, count):
    """SUMS vectors, each multiplied and added to `count` times; returns something of them all."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(ir.FloatType(), LANES)
        kind = ir.FunctionType(vector, [vector] * 3)
        fma = ir.Function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        factor = ir.Constant(vector, [0.5] * LANES)
        before = builder.block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        turn = builder.phi(args[0].type)
        turn.add_incoming(ir.Constant(turn.type, 0), before)
        sums = [builder.phi(vector) for _ in range(SUMS)]
        for i, phi in enumerate(sums):
            phi.add_incoming(ir.Constant(vector, [float(i)] * LANES), before)
            phi.add_incoming(builder.call(fma, [phi, factor, factor]), loop)
        following = builder.add(turn, ir.Constant(turn.type, 1))
        turn.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, done)
        builder.position_at_end(done)
        total = sums[0]
        for each in sums[1:]:
            total = builder.fadd(total, each)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(types.intp), codegen


@numba.njit(parallel=True)
def _burn(threads, count):
    found = np.zeros(threads, np.float32)
    for thread in numba.prange(threads):
        found[thread] = _multiply_add(count)
    return found
