"""The meaning of the PTX instructions that compute: numbers from numbers, as the PTX ISA defines them.

`meaning(opcode)` gives the types of an instruction's result and sources and a function of NumPy arrays of these types.
What an instruction does beyond that (memory, control, exchange within a warp) is in execution.py. One that is not
defined here raises NotImplementedError: add it, and its definition to tests/test_ptx_interpreter.py.
"""

import ctypes
import functools
import os
import pathlib
import subprocess
import tempfile
from typing import NamedTuple

import numpy as np

TYPES = {
    "pred": np.bool_,
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}").type for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}").type for bits in (8, 16, 32, 64)},
    "f32": np.float32,
    "f64": np.float64,
}


class Meaning(NamedTuple):
    result: type
    sources: tuple
    function: callable
    approximate: bool = False  # the function takes, last, which way its error goes: -1, 0 or 1


@functools.cache
def meaning(opcode):
    """The Meaning of an opcode, split at its points."""
    name, *modifiers = opcode
    if name in ("cvt", "setp"):
        return (convert if name == "cvt" else compare)(modifiers)
    kind, dtype = modifiers.pop(), TYPES[opcode[-1]]
    ftz = take(modifiers, "ftz")
    if take(modifiers, "approx"):
        found = approximation(name, dtype, ftz)
    elif kind.startswith("f"):
        take(modifiers, "rn")
        found = floating(name, dtype, ftz)
    elif kind == "pred":
        found = logical(name)
    else:
        found = integral(name, dtype, modifiers)
    if found is None or modifiers:
        raise NotImplementedError(f"the PTX instruction {'.'.join(opcode)}")
    return found


def take(modifiers, one):
    """Whether that is among the modifiers, from which it is removed."""
    if one in modifiers:
        modifiers.remove(one)
        return True
    return False


# ---- Floating point ----


def flush(a):
    """Denormal numbers as zeros of their sign (.ftz)."""
    return np.where(np.abs(a) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), a), a)


def smaller(a, b):
    """The smaller number, the one that is not NaN; -0 is smaller than 0."""
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), a, b), np.fmin(a, b))


def larger(a, b):
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), b, a), np.fmax(a, b))


@functools.cache
def compiled_fma():
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/fma.so"
        source = pathlib.Path(__file__).parent / "fma.cpp"
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(source), "-o", library], check=True)
        return ctypes.CDLL(library)


def fma(a, b, c):
    """a*b + c, rounded once."""
    a, b, c = (np.ascontiguousarray(array) for array in np.broadcast_arrays(a, b, c))
    out = np.empty_like(a)
    run = getattr(compiled_fma(), f"fma_{a.dtype}")
    run(ctypes.c_int64(a.size), *(ctypes.c_void_p(array.ctypes.data) for array in (a, b, c, out)))
    return out


FLOATING = {
    "mov": (1, lambda a: a),
    "neg": (1, np.negative),
    "abs": (1, np.abs),
    "sqrt": (1, np.sqrt),
    "rcp": (1, lambda a: a.dtype.type(1) / a),
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "mul": (2, np.multiply),
    "div": (2, np.divide),
    "min": (2, smaller),
    "max": (2, larger),
    "fma": (3, fma),
}


def floating(name, dtype, ftz):
    if name == "selp":
        return select(dtype)
    if name not in FLOATING:
        return None
    count, function = FLOATING[name]
    if ftz:
        return Meaning(dtype, (dtype,) * count, lambda *a: flush(function(*map(flush, a))))
    return Meaning(dtype, (dtype,) * count, function)


def step(a, off):
    """The neighbour of a float32 number that is `off` ulp larger in size; of zero, infinity and NaN themselves."""
    moved = (a.view(np.int32) + np.asarray(off, np.int32)).view(np.float32)
    return np.where((a == 0) | ~np.isfinite(a), a, moved)


def off_ulp(exact):
    """Within an ulp."""
    return lambda a, off: step(exact(a.astype(np.float64)).astype(np.float32), off)


def off_relative(exact, error):
    return lambda a, off: (exact(a.astype(np.float64)) * (1 + off * error)).astype(np.float32)


def off_absolute(exact, error):
    return lambda a, off: (exact(a.astype(np.float64)) + off * error).astype(np.float32)


def approximate_log2(a, off):
    """Absolutely off near 1, relatively elsewhere."""
    exact = np.log2(a.astype(np.float64))
    near = (a > 0.5) & (a < 2)
    return np.where(near, exact + off * 2.0**-22, exact * (1 + off * 2.0**-22)).astype(np.float32)


# The largest errors that the PTX ISA states.
APPROXIMATIONS = {
    "rcp": off_ulp(np.reciprocal),
    "sqrt": off_ulp(np.sqrt),
    "rsqrt": off_relative(lambda a: 1 / np.sqrt(a), 2.0**-22.9),
    "lg2": approximate_log2,
    "ex2": off_relative(np.exp2, 2.0**-22),
    "sin": off_absolute(np.sin, 2.0**-20.5),
    "cos": off_absolute(np.cos, 2.0**-20.5),
}


def approximation(name, dtype, ftz):
    if name not in APPROXIMATIONS or dtype is not np.float32:
        return None
    function = APPROXIMATIONS[name]
    if ftz:
        return Meaning(dtype, (dtype,), lambda a, off: flush(function(flush(a), off)), approximate=True)
    return Meaning(dtype, (dtype,), function, approximate=True)


# ---- Integers and predicates ----

LOGICAL = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


def logical(name):
    if name in LOGICAL:
        return Meaning(np.bool_, (np.bool_,) * 2, LOGICAL[name])
    if name in ("mov", "not"):
        return Meaning(np.bool_, (np.bool_,), (lambda a: a) if name == "mov" else np.logical_not)
    return None


def select(dtype):
    return Meaning(dtype, (dtype, dtype, np.bool_), lambda a, b, chosen: np.where(chosen, a, b))


def quotient(a, b):
    """Rounded to zero."""
    if not np.all(b):
        raise ZeroDivisionError("an integer divided by zero")
    if np.issubdtype(a.dtype, np.unsignedinteger):
        return a // b
    rounded_down = a // b
    return rounded_down + ((a % b != 0) & ((a < 0) != (b < 0)))


def wide_product(a, b):
    """In twice the width."""
    wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return np.asarray(a).astype(wide) * np.asarray(b).astype(wide)


def high_product(a, b):
    return (wide_product(a, b) >> 8 * a.dtype.itemsize).astype(a.dtype)


def shift_left(a, n):
    """Zeros from the width on."""
    width = 8 * a.dtype.itemsize
    return np.where(n < width, a << np.minimum(n, width - 1).astype(a.dtype), a.dtype.type(0))


def shift_right(a, n):
    """Zeros from the width on, or the sign."""
    width = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(n, width - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.where(n < width, shifted, a.dtype.type(0))


def reverse_bits(a):
    for step, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        a = (a >> np.uint32(step)) & np.uint32(mask) | (a & np.uint32(mask)) << np.uint32(step)
    return a


def leading_zeros(a):
    return (np.uint32(32) - np.frexp(a.astype(np.float64))[1].astype(np.uint32)).astype(np.uint32)


def shift_to_top(a):
    """How far to shift for the highest bit that is set to become the top one; all ones of 0."""
    return np.where(a == 0, np.uint32(0xFFFFFFFF), leading_zeros(a))


def insert_field(a, b, start, length):
    """b with `length` of its bits from `start` on taken from a."""
    ones = shift_right(~np.zeros_like(b), 8 * b.dtype.itemsize - length)
    mask = np.where(length == 0, b.dtype.type(0), shift_left(ones, start))
    return b & ~mask | shift_left(a, start) & mask


INTEGRAL = {
    "mov": (1, lambda a: a),
    "neg": (1, lambda a: np.zeros_like(a) - a),
    "not": (1, np.invert),
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "div": (2, quotient),
    "rem": (2, lambda a, b: a - quotient(a, b) * b),
    **{name: (2, function) for name, function in LOGICAL.items()},
}
OF_WORDS = {"popc": lambda a: np.bitwise_count(a).astype(np.uint32), "brev": reverse_bits, "clz": leading_zeros}


def integral(name, dtype, modifiers):
    if name == "selp":
        return select(dtype)
    if name in INTEGRAL:
        count, function = INTEGRAL[name]
        return Meaning(dtype, (dtype,) * count, function)
    if name in ("shl", "shr"):
        return Meaning(dtype, (dtype, np.uint32), shift_left if name == "shl" else shift_right)
    if name in OF_WORDS and dtype is np.uint32:
        return Meaning(dtype, (dtype,), OF_WORDS[name])
    if name == "bfind" and dtype is np.uint32 and take(modifiers, "shiftamt"):
        return Meaning(dtype, (dtype,), shift_to_top)
    if name == "bfi":
        return Meaning(dtype, (dtype, dtype, np.uint32, np.uint32), insert_field)
    if name in ("mul", "mad"):
        more = () if name == "mul" else (dtype,)
        if take(modifiers, "wide"):
            wide = np.dtype(f"{np.dtype(dtype).kind}{2 * np.dtype(dtype).itemsize}").type
            more = more and (wide,)
            return Meaning(wide, (dtype, dtype, *more), lambda a, b, *c: wide_product(a, b) + (c[0] if c else wide(0)))
        if take(modifiers, "hi"):
            product = high_product if np.dtype(dtype).itemsize < 8 else None
        else:
            product = np.multiply if take(modifiers, "lo") else None
        if product:
            return Meaning(dtype, (dtype, dtype, *more), lambda a, b, *c: product(a, b) + (c[0] if c else dtype(0)))
    return None


# ---- Comparison and conversion ----

COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
UNSIGNED_COMPARISONS = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}


def compare(modifiers):
    kind, how = modifiers.pop(), modifiers.pop(0)
    dtype, ftz = TYPES[kind], take(modifiers, "ftz")
    if modifiers:
        raise NotImplementedError(f"the PTX instruction setp.{how}.{'.'.join(modifiers)}.{kind}")
    if not kind.startswith("f"):
        return Meaning(np.bool_, (dtype,) * 2, COMPARISONS[UNSIGNED_COMPARISONS.get(how, how)])

    def function(a, b):
        if ftz:
            a, b = flush(a), flush(b)
        unordered = np.isnan(a) | np.isnan(b)
        if how in ("nan", "num"):
            return unordered if how == "nan" else ~unordered
        if how in COMPARISONS:
            return COMPARISONS[how](a, b) & ~unordered
        return COMPARISONS[how[:-1]](a, b) | unordered

    return Meaning(np.bool_, (dtype,) * 2, function)


ROUNDINGS = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}


def convert(modifiers):
    source, target = TYPES[modifiers.pop()], TYPES[modifiers.pop()]
    is_float = [np.issubdtype(dtype, np.floating) for dtype in (source, target)]
    if is_float == [True, False] and len(modifiers) == 1 and modifiers[0] in ROUNDINGS:
        rounding = ROUNDINGS[modifiers[0]]
        return Meaning(target, (source,), lambda a: to_integer(rounding(a), target))
    if modifiers not in ([], ["rn"]):
        raise NotImplementedError(f"the PTX instruction cvt.{'.'.join(modifiers)} to {target} from {source}")
    return Meaning(target, (source,), lambda a: a.astype(target))


def to_integer(a, target):
    """The nearest there is of a whole number; of NaN 0, or the top bit alone where there are 64 bits on a side."""
    info = np.iinfo(target)
    wide = a.dtype == np.float64 or info.bits == 64
    nan = np.array(1 << info.bits - 1 if wide else 0, f"u{info.bits // 8}").view(target)
    top = 2.0 ** (info.bits - (info.min < 0))
    inside = np.where((a < top) & (a >= info.min), a, 0).astype(target)
    return np.where(np.isnan(a), nan, np.where(a >= top, info.max, np.where(a < info.min, info.min, inside)))
