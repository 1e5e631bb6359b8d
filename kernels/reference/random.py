"""Philox4x32-10 counter-based random numbers (Salmon et al. 2011) in plain NumPy.

A block is Philox(key, counter): four 32-bit words w0..w3 from a 64-bit key (its low word first) and
a 128-bit counter (its lowest word first). Element i of a draw that starts at block `counter`:

    bits, uniform float32, normal   block counter + i // 4, see below
    uniform float64                 block counter + i // 2, words 2 (i % 2) and 2 (i % 2) + 1

    bits            w[i % 4]
    uniform float32 (w[i % 4] >> 8) * 2^-24
    uniform float64 ((high >> 5) * 2^26 + (low >> 6)) * 2^-53, high the first of the two words
    normal          words (w0, w1) make elements 0 and 1, words (w2, w3) elements 2 and 3 (Box &
                    Muller 1958): radius = sqrt(-2 log((first + 1/2) 2^-32)), angle = second * 2^-32
                    turns; the even element is radius * cos(angle), the odd one radius * sin(angle).
                    Both dtypes: float64 throughout, rounded to the dtype at the end.

log, cos and sin are spelt out in IEEE additions, multiplications and divisions (with fdlibm's
polynomials), so that every target that does not fuse them gives the same bits.
"""

import numpy as np

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOG = (  # log(1 + f) = f - f^2/2 + s (f^2/2 + z LOG(z)), s = f / (2 + f), z = s^2
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
SIN = (  # sin(x) = x + x z SIN(z), z = x^2, |x| <= pi / 4
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
COS = (  # cos(x) = 1 - z / 2 + z^2 COS(z)
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)
QUARTER = np.pi / 2 * 2.0**-30  # radians in one step of an angle counted in 2^-32 turns


def philox_bits(key: int, counter: int, n: int) -> np.ndarray:
    """n random uint32; key < 2**64, counter < 2**128 the first block."""
    low32 = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    start = np.uint64(counter & 0xFFFFFFFFFFFFFFFF)
    low = start + np.arange(-(-n // 4), dtype=np.uint64)  # wraps
    carry = (low < start).astype(np.uint64)
    high = np.uint64(counter >> 64) + carry
    c0, c1, c2, c3 = low & low32, low >> shift, high & low32, high >> shift
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(ROUNDS):
        p0 = c0 * np.uint64(MULTIPLIERS[0])
        p1 = c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (p1 >> shift) ^ c1 ^ np.uint64(k0),
            p1 & low32,
            (p0 >> shift) ^ c3 ^ np.uint64(k1),
            p0 & low32,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).reshape(-1)[:n]


def philox_uniform(key: int, counter: int, n: int, dtype) -> np.ndarray:
    """n uniform numbers in [0, 1): multiples of 2^-24 in float32, of 2^-53 in float64."""
    if np.dtype(dtype) == np.float32:
        words = philox_bits(key, counter, n)
        return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    words = philox_bits(key, counter, 2 * n).reshape(-1, 2)
    high = (words[:, 0] >> np.uint32(5)).astype(np.float64)
    low = (words[:, 1] >> np.uint32(6)).astype(np.float64)
    return ((high * 2.0**26 + low) * 2.0**-53).astype(dtype)


def philox_normal(key: int, counter: int, n: int, dtype) -> np.ndarray:
    """n standard normal numbers, |value| < 6.77."""
    words = philox_bits(key, counter, 2 * -(-n // 2)).reshape(-1, 2)
    radius = np.sqrt(-2.0 * _log((words[:, 0].astype(np.float64) + 0.5) * 2.0**-32))
    cos, sin = _cos_sin(words[:, 1])
    return np.stack([radius * cos, radius * sin], axis=1).reshape(-1)[:n].astype(dtype)


def _log(u):
    """Natural logarithm of normal positive float64 numbers, below 1 ulp."""
    bits = u.view(np.int64)
    # The exponent is chosen so that the mantissa lies in [sqrt(1/2), sqrt(2)).
    bits = bits + (0x3FF00000 - 0x3FE6A09E << 32)
    exponent = ((bits >> 52) - 1023).astype(np.float64)
    mantissa = ((bits & 0x000FFFFFFFFFFFFF) + (0x3FE6A09E << 32)).view(np.float64)
    f = mantissa - 1.0
    s = f / (2.0 + f)
    half = 0.5 * f * f
    z = s * s
    series = s * (half + z * _polynomial(LOG, z)) + exponent * LN2_LOW
    return exponent * LN2_HIGH + (f - (half - series))


def _cos_sin(turns):
    """cos and sin of angles given as uint32, 2**32 to the turn: the reduction is exact."""
    quadrant = (turns + np.uint32(1 << 29)) >> np.uint32(30)
    x = (turns - (quadrant << np.uint32(30))).view(np.int32).astype(np.float64) * QUARTER
    z = x * x
    sin = x + x * z * _polynomial(SIN, z)
    cos = 1.0 - 0.5 * z + z * z * _polynomial(COS, z)
    odd = (quadrant & 1) == 1
    c, s = np.where(odd, sin, cos), np.where(odd, cos, sin)
    return np.where((quadrant == 1) | (quadrant == 2), -c, c), np.where(quadrant >= 2, -s, s)


def _polynomial(coefficients, z):
    """Horner's rule; the first coefficient is the constant."""
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * z + coefficient
    return total
