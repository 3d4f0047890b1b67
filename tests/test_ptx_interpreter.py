"""The interpreter that executes PTX: each instruction against its definition, and that it sees what is wrong.

The definitions are written with Python's integers and fractions; kernels are PTX text, the package's own with one
mistake put into each among them.
"""

import dataclasses
import fractions
import math
import re
import struct

import numpy as np
import pytest
import torch
from cuda_on_host import build
from cuda_on_host.launchers import Draw
from cuda_on_ptx import nvcc
from cuda_on_ptx.device import Device, kernels
from cuda_on_ptx.execution import Launch, execute
from cuda_on_ptx.instructions import meaning
from cuda_on_ptx.memory import Fault, Memory
from cuda_on_ptx.parse import Module

# ---- Instructions ----

INTEGERS = [
    0,
    1,
    2,
    3,
    5,
    31,
    32,
    33,
    63,
    64,
    255,
    2**15,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
INTEGERS += [0x123456789ABCDEF0, 0xDEADBEEFCAFEF00D, 0x8000000080000000]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 1.5, -2.5, 3.0, 1e-3, 0.1, 1 / 3, 1e10, -7e20, 1e-30, 3e38, 1e-44, 2.0**-1060, 1e308]
NUMBERS += [math.inf, -math.inf, math.nan]


def sources(dtype, count):
    """Every combination of interesting values of a type, as arrays."""
    if np.issubdtype(dtype, np.floating):
        with np.errstate(over="ignore"):
            values = np.array(NUMBERS).astype(dtype)
    elif dtype is np.bool_:
        values = np.array([False, True])
    else:
        bits = 8 * np.dtype(dtype).itemsize
        values = np.array([value % 2**bits for value in INTEGERS], f"u{bits // 8}").view(dtype)
    return [grid.ravel() for grid in np.meshgrid(*[np.unique(values)] * count)]


def rounded(exact, dtype):
    """The number of a type nearest to a fraction, ties to even."""
    if dtype is np.float64:
        try:
            return float(exact)
        except OverflowError:
            return math.inf if exact > 0 else -math.inf
    with np.errstate(over="ignore"):
        near = np.float32(rounded(exact, np.float64))
    neighbours = [near, np.nextafter(near, np.float32(-math.inf)), np.nextafter(near, np.float32(math.inf))]
    finite = [n for n in neighbours if np.isfinite(n)]
    if not np.isfinite(near):
        return float(near)
    return float(min(finite, key=lambda n: (abs(fractions.Fraction(float(n)) - exact), n.view(np.uint32) & 1)))


def wrapped(value, dtype):
    """An integer modulo 2^bits, in a type's range."""
    bits = 8 * np.dtype(dtype).itemsize
    value %= 2**bits
    return value - 2**bits if np.dtype(dtype).kind == "i" and value >= 2 ** (bits - 1) else value


def truncated(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


INTEGER_DEFINITIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul.lo": lambda a, b: a * b,
    "mad.lo": lambda a, b, c: a * b + c,
    "min": min,
    "max": max,
    "neg": lambda a: -a,
    "div": truncated,
    "rem": lambda a, b: a - truncated(a, b) * b,
}


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("name", INTEGER_DEFINITIONS)
def test_integer_arithmetic_is_pythons_modulo_the_width(name, kind):
    definition, found = INTEGER_DEFINITIONS[name], meaning((*name.split("."), kind))
    arrays = sources(found.result, len(found.sources))
    if name in ("div", "rem"):
        arrays = [array[arrays[1] != 0] for array in arrays]
    with np.errstate(over="ignore"):
        got = found.function(*arrays)
    assert got.dtype == found.result
    for result, *values in zip(got.tolist(), *(array.tolist() for array in arrays), strict=True):
        assert result == wrapped(definition(*values), found.result), values


@pytest.mark.parametrize("kind", ["s32", "u32"])
def test_wide_and_high_products_hold_all_bits(kind):
    wide, high = meaning(("mul", "wide", kind)), meaning(("mul", "hi", kind))
    a, b = sources(high.result, 2)
    arrays = (wide.function(a, b), high.function(a, b), a, b)
    for product, top, x, y in zip(*(array.tolist() for array in arrays), strict=True):
        assert product == x * y and top == wrapped(x * y >> 32, high.result)


@pytest.mark.parametrize("bits", [32, 64])
def test_bits_are_pythons(bits):
    kind, every = f"b{bits}", 2**bits - 1
    definitions = {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
        "not": lambda a: every ^ a,
    }
    for name, definition in definitions.items():
        found = meaning((name, kind))
        arrays = sources(found.result, len(found.sources))
        values = zip(*(array.tolist() for array in arrays), strict=True)
        assert found.function(*arrays).tolist() == [definition(*v) for v in values]
    a, n = sources(np.dtype(f"u{bits // 8}").type, 1)[0], np.arange(0, 70, 3, dtype=np.uint32)
    a, n = (grid.ravel() for grid in np.meshgrid(a, n))
    for name in (f"shl.b{bits}", f"shr.u{bits}", f"shr.s{bits}"):
        found = meaning(tuple(name.split(".")))
        signed = a.view(found.result)
        for result, x, k in zip(found.function(signed, n).tolist(), signed.tolist(), n.tolist(), strict=True):
            expected = x << k if name.startswith("shl") else x >> k
            assert result == wrapped(expected, found.result), (name, x, k)


def test_counts_and_fields_of_bits():
    (a,) = sources(np.uint32, 1)
    text = [f"{x:032b}" for x in a.tolist()]
    assert meaning(("popc", "b32")).function(a).tolist() == [t.count("1") for t in text]
    assert meaning(("brev", "b32")).function(a).tolist() == [int(t[::-1], 2) for t in text]
    assert meaning(("clz", "b32")).function(a).tolist() == [len(t) - len(t.lstrip("0")) for t in text]
    to_top = meaning(("bfind", "shiftamt", "u32")).function(a)
    assert to_top.tolist() == [t.index("1") if "1" in t else 2**32 - 1 for t in text]
    for bits, dtype in ((32, np.uint32), (64, np.uint64)):
        a, b = sources(dtype, 2)
        insert = meaning(("bfi", f"b{bits}")).function
        for start, length in ((0, 0), (0, bits), (5, 7), (bits - 4, 4), (0, 32)):
            mask = (2**length - 1) << start
            got = insert(a, b, np.uint32(start), np.uint32(length)).tolist()
            assert got == [y & ~mask | x << start & mask for x, y in zip(a.tolist(), b.tolist(), strict=True)]


FLOAT_DEFINITIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div.rn": lambda a, b: a / b,
    "fma.rn": lambda a, b, c: a * b + c,
    "rcp.rn": lambda a: 1 / a,
    "neg": lambda a: -a,
    "abs": abs,
}


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", FLOAT_DEFINITIONS)
def test_arithmetic_is_exact_and_rounded_once(name, kind):
    definition, found = FLOAT_DEFINITIONS[name], meaning((*name.split("."), kind))
    arrays = sources(found.result, len(found.sources))
    with np.errstate(all="ignore"):
        got = found.function(*arrays)
    for result, *values in zip(got.tolist(), *(array.tolist() for array in arrays), strict=True):
        if not all(map(math.isfinite, values)) or (name in ("div.rn", "rcp.rn") and values[-1] == 0):
            continue  # IEEE's special values, which NumPy and C have from the processor
        exact = definition(*map(fractions.Fraction, values))
        assert result == rounded(exact, found.result), values


def test_a_fused_sum_keeps_what_a_product_loses():
    a = np.float64(1 + 2**-30)
    assert meaning(("fma", "rn", "f64")).function(a, a, -(a * a)) == 2.0**-60
    b = np.float32(1 + 2**-13)
    assert meaning(("fma", "rn", "f32")).function(b, b, -(b * b)) == 2.0**-26


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_minima_and_maxima_ignore_nan_and_order_zeros(kind):
    for name, pick in (("min", min), ("max", max)):
        found = meaning((name, kind))
        a, b = sources(found.result, 2)
        for result, x, y in zip(found.function(a, b).tolist(), a.tolist(), b.tolist(), strict=True):
            if math.isnan(x) or math.isnan(y):
                expected = y if math.isnan(x) else x
                assert math.isnan(result) if math.isnan(expected) else result == expected
            else:
                key = lambda z: (z, math.copysign(1, z))  # noqa: E731
                assert key(result) == key(pick(x, y, key=key))


@pytest.mark.parametrize("kind", ["f32", "f64", "s32", "u32", "s64", "u64"])
def test_comparisons(kind):
    is_float = kind.startswith("f")
    definitions = {
        "eq": lambda a, b: a == b,
        "ne": lambda a, b: a != b,
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
    }
    for name, definition in definitions.items():
        for suffix in ("", "u") if is_float else ("",):
            found = meaning(("setp", name + suffix, kind))
            a, b = sources(found.sources[0], 2)
            for result, x, y in zip(found.function(a, b).tolist(), a.tolist(), b.tolist(), strict=True):
                unordered = is_float and (math.isnan(x) or math.isnan(y))
                assert result == (suffix == "u" if unordered else definition(x, y))
    if is_float:
        a, b = sources(meaning(("setp", "nan", kind)).sources[0], 2)
        nan = np.isnan(a) | np.isnan(b)
        assert np.array_equal(meaning(("setp", "nan", kind)).function(a, b), nan)
        assert np.array_equal(meaning(("setp", "num", kind)).function(a, b), ~nan)


def test_conversions():
    for bits, kind in ((32, "s32"), (32, "u32"), (64, "s64"), (64, "u64")):
        for source in ("f32", "f64"):
            found = meaning(("cvt", "rzi", kind, source))
            (a,) = sources(found.sources[0], 1)
            low, high = np.iinfo(found.result).min, np.iinfo(found.result).max
            for result, x in zip(found.function(a).tolist(), a.tolist(), strict=True):
                if math.isnan(x):
                    wide = bits == 64 or source == "f64"
                    assert result == (wrapped(2 ** (bits - 1), found.result) if wide else 0)
                else:
                    assert result == (max(low, min(high, int(x))) if math.isfinite(x) else high if x > 0 else low)
        for target in ("f32", "f64"):
            found = meaning(("cvt", "rn", target, kind))
            (a,) = sources(found.sources[0], 1)
            expected = [rounded(fractions.Fraction(x), found.result) for x in a.tolist()]
            assert found.function(a).tolist() == expected
    (a,) = sources(np.int32, 1)
    assert meaning(("cvt", "s64", "s32")).function(a).tolist() == a.tolist()
    (a,) = sources(np.uint64, 1)
    assert meaning(("cvt", "u32", "u64")).function(a).tolist() == [x % 2**32 for x in a.tolist()]
    assert meaning(("cvt", "rn", "f32", "f64")).function(np.array([1 + 2**-25])).tolist() == [1.0]


def test_choices():
    a, b = np.arange(4, dtype=np.uint32), np.arange(4, 8, dtype=np.uint32)
    p = np.array([True, False, False, True])
    assert meaning(("selp", "b32")).function(a, b, p).tolist() == [0, 5, 6, 3]
    x, y = sources(np.bool_, 2)
    assert meaning(("xor", "pred")).function(x, y).tolist() == [False, True, True, False]
    assert meaning(("not", "pred")).function(x).tolist() == (~x).tolist()


@pytest.mark.parametrize(
    "name, exact, error, start, end",
    [
        ("rcp", lambda x: 1 / x, 2.0**-22, 1e-3, 1e3),
        ("sqrt", math.sqrt, 2.0**-22, 1e-3, 1e3),
        ("rsqrt", lambda x: 1 / math.sqrt(x), 2.0**-22, 1e-3, 1e3),
        ("ex2", lambda x: 2.0**x, 2.0**-21, -20, 20),
        ("lg2", math.log2, 2.0**-21, 2, 1e3),
    ],
)
def test_approximations_err_as_far_as_they_are_told(name, exact, error, start, end):
    """On either side of the exact value, unlike each other, and no further than twice the error of the PTX ISA."""
    x = np.geomspace(start, end, 200) if start > 0 else np.linspace(start, end, 200)
    x = x.astype(np.float32)
    function = meaning((name, "approx", "ftz", "f32")).function
    below, at, above = (function(x, off).astype(float) for off in (-1, 0, 1))
    true = np.array([exact(float(value)) for value in x])
    assert (np.abs(below) < np.abs(above)).all() and (below != at).all() and (above != at).all()
    for got in (below, at, above):
        assert (np.abs(got - true) <= error * np.abs(true)).all()


def test_approximate_sines_err_absolutely():
    x = np.linspace(-3, 3, 100).astype(np.float32)
    for name, exact in (("sin", np.sin), ("cos", np.cos)):
        function = meaning((name, "approx", "ftz", "f32")).function
        for off in (-1, 0, 1):
            shift = function(x, off) - exact(x.astype(float))
            assert np.abs(shift - off * 2.0**-20.5).max() <= 2.0**-24


def test_small_numbers_are_flushed_where_an_instruction_says_so():
    tiny = np.array([1e-40, -1e-40], np.float32)
    assert meaning(("add", "ftz", "f32")).function(tiny, tiny).tolist() == [0, 0]
    assert meaning(("add", "f32")).function(tiny, tiny).tolist() == (tiny + tiny).tolist()
    with np.errstate(divide="ignore"):
        assert meaning(("rcp", "approx", "ftz", "f32")).function(tiny, 0).tolist() == [math.inf, -math.inf]


def test_an_instruction_without_a_definition_is_an_error():
    for opcode in ("dp4a.u32.u32", "add.sat.f32", "fma.rz.f32", "cvt.rm.f32.f64", "setp.eq.and.s32", "sin.f32"):
        with pytest.raises(NotImplementedError, match=re.escape(opcode.split(".")[0])):
            meaning(tuple(opcode.split(".")))


# ---- Threads and memory ----


def module_of(body, tmp_path, declarations=""):
    """A kernel of (output, input), 64-bit addresses, with the given body."""
    text = f"""
.version 8.0
.target sm_75
.address_size 64
{declarations}
.extern .shared .align 16 .b8 room[];
.visible .entry kernel(.param .u64 out, .param .u64 in)
.maxntid 256, 1, 1
{{
	.reg .pred %p<9>;
	.reg .b16 %rs<9>;
	.reg .b32 %r<40>;
	.reg .b64 %rd<40>;
	.reg .f32 %f<9>;
	ld.param.u64 %rd1, [out];
	ld.param.u64 %rd2, [in];
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, %ctaid.x;
	mov.u32 %r3, %ntid.x;
	mad.lo.s32 %r4, %r2, %r3, %r1;
	mul.wide.u32 %rd3, %r4, 4;
	add.s64 %rd4, %rd1, %rd3;
	add.s64 %rd5, %rd2, %rd3;
{body}
	ret;
}}
"""
    path = tmp_path / "kernel.ptx"
    path.write_text(text)
    return Module(path)


def run(body, tmp_path, grid=2, threads=64, shared=1024, declarations=""):
    """What threads write to out[their place in the grid], of in[i] = 3 i."""
    module = module_of(body, tmp_path, declarations)
    memory, count = Memory(), grid * threads
    arrays = []
    for data, writable in (
        (np.full(count, 0xFFFFFFFF, np.uint32), True),
        (3 * np.arange(count, dtype=np.uint32), False),
    ):
        whole = np.zeros(4 * count + 2 * 4096, np.uint8)
        whole[4096 : 4096 + 4 * count] = data.view(np.uint8)
        memory.place(whole, 4096, 4 * count, writable, not writable)
        arrays.append(whole)
    parameters = struct.pack("QQ", *(array.ctypes.data + 4096 for array in arrays))
    execute(module, module.kernels["kernel"], [Launch(grid, threads, shared, parameters)], memory)
    return arrays[0][4096 : 4096 + 4 * count].view(np.uint32)


def test_threads_part_and_meet_again(tmp_path):
    """Collatz's steps, a different number for each thread."""
    body = """
	add.s32 %r10, %r4, 1;
	mov.u32 %r11, 0;
$L_loop:
	setp.eq.s32 %p1, %r10, 1;
	@%p1 bra $L_end;
	add.s32 %r11, %r11, 1;
	and.b32 %r12, %r10, 1;
	setp.eq.s32 %p2, %r12, 0;
	@!%p2 bra $L_odd;
	shr.u32 %r10, %r10, 1;
	bra.uni $L_loop;
$L_odd:
	mad.lo.s32 %r10, %r10, 3, 1;
	bra.uni $L_loop;
$L_end:
	vote.sync.ballot.b32 %r13, %p1, -1;
	st.global.u32 [%rd4], %r11;
"""

    def steps(n):
        return 0 if n == 1 else 1 + steps(3 * n + 1 if n % 2 else n // 2)

    assert run(body, tmp_path).tolist() == [steps(i + 1) for i in range(128)]


def test_a_copy_of_a_register_keeps_its_value(tmp_path):
    body = """
	mov.u32 %r10, %r4;
	mov.u32 %r11, %r10;
	setp.lt.u32 %p1, %r1, 7;
	@%p1 bra $L_skip;
	mov.u32 %r10, 1000;
$L_skip:
	add.s32 %r12, %r10, %r11;
	st.global.u32 [%rd4], %r12;
"""
    assert run(body, tmp_path).tolist() == [2 * i if i % 64 < 7 else 1000 + i for i in range(128)]


@pytest.mark.parametrize(
    "how, source",
    [
        ("bfly.b32 %r11, %r10, 5, 31", lambda lane: lane ^ 5),
        ("idx.b32 %r11, %r10, 7, 31", lambda lane: 7),
        ("up.b32 %r11, %r10, 3, 0", lambda lane: lane - 3 if lane >= 3 else lane),
        ("down.b32 %r11, %r10, 4, 31", lambda lane: lane + 4 if lane < 28 else lane),
        ("idx.b32 %r11, %r10, 1, 6175", lambda lane: lane // 8 * 8 + 1),  # in groups of 8
    ],
)
def test_shuffles(tmp_path, how, source):
    body = f"""
	ld.global.nc.u32 %r10, [%rd5];
	shfl.sync.{how}, -1;
	st.global.u32 [%rd4], %r11;
"""
    assert run(body, tmp_path).tolist() == [3 * (i - i % 32 + source(i % 32)) for i in range(128)]


def test_votes_count_the_threads_that_are_for(tmp_path):
    body = """
	and.b32 %r10, %r4, 5;
	setp.eq.s32 %p1, %r10, 4;
	vote.sync.ballot.b32 %r11, %p1, -1;
	st.global.u32 [%rd4], %r11;
"""
    assert set(run(body, tmp_path)) == {sum(1 << lane for lane in range(32) if lane & 5 == 4)}


def test_generic_addresses_and_tables(tmp_path):
    table = ".global .align 4 .b8 table[16] = {1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255};"
    body = """
	and.b32 %r10, %r1, 3;
	mul.wide.u32 %rd10, %r10, 4;
	mov.u64 %rd11, table;
	cvta.global.u64 %rd12, %rd11;
	add.s64 %rd13, %rd12, %rd10;
	ld.u32 %r11, [%rd13];
	mov.u32 %r12, room;
	shl.b32 %r13, %r1, 2;
	add.s32 %r14, %r12, %r13;
	cvt.u64.u32 %rd14, %r14;
	cvta.shared.u64 %rd15, %rd14;
	st.u32 [%rd15], %r11;
	ld.shared.u32 %r15, [%r14];
	ld.shared.s8 %rs1, [%r14];
	cvt.s32.s16 %r16, %rs1;
	add.s32 %r17, %r15, %r16;
	st.global.u32 [%rd4], %r17;
"""
    assert run(body, tmp_path, declarations=table)[:4].view(np.int32).tolist() == [2, 4, 8, -2]


STORE = "	st.global.u32 [%rd4], %r1;\n"
SHIFTED = "	shl.b32 %r13, %r1, 2;\n	mov.u32 %r12, room;\n	add.s32 %r14, %r12, %r13;\n"
EXCHANGE = SHIFTED + "	st.shared.u32 [%r14], %r1;\n{}	xor.b32 %r15, %r14, 4;\n	ld.shared.u32 %r16, [%r15];\n"


@pytest.mark.parametrize(
    "body, fault",
    [
        ("	st.global.u32 [%rd4+4], %r1;\n", "out of bounds"),
        ("	ld.global.u32 %r10, [%rd5+-4];\n", "out of bounds"),
        ("	ld.global.u32 %r10, [%rd3];\n", "where nothing is"),
        ("	st.global.u32 [%rd5], %r1;\n", "a write to an input"),
        ("	ld.global.u32 %r10, [%rd4];\n", "nobody wrote"),
        ("	ld.global.v2.u32 {%r10, %r11}, [%rd5];\n", "not aligned to 8"),
        ("	st.global.u32 [%rd1], %r1;\n", "two threads write one place"),
        (STORE + "	st.global.u32 [%rd1+16], %r1;\n", "a race"),
        (STORE + "	ld.global.u32 %r10, [%rd1];\n", "another thread writes"),
        (SHIFTED + "	ld.shared.u32 %r10, [%r14];\n", "nobody wrote"),
        (SHIFTED + "	st.shared.u32 [%r14+1000], %r1;\n", "shared memory, out of bounds"),
        (EXCHANGE.format(""), "another thread writes"),
        (EXCHANGE.format("	shfl.sync.bfly.b32 %r20, %r1, 1, 31, -1;\n"), "another thread writes"),
        (EXCHANGE.format("	bar.warp.sync -1;\n") + "	st.shared.u32 [%r14], %r1;\n", "another thread reads"),
        (EXCHANGE.format("	bar.warp.sync -1;\n").replace("4;\n	ld", "128;\n	ld"), "another thread writes"),
        ("	setp.lt.u32 %p1, %r1, 7;\n	@%p1 bra $L_1;\n	bar.warp.sync -1;\n$L_1:\n", "of its mask"),
        ("	setp.lt.u32 %p1, %r1, 7;\n	@%p1 bra $L_1;\n	bar.sync 0;\n$L_1:\n", "at a barrier with 57"),
        ("	shfl.sync.bfly.b32 %r20, %r1, 1, 31, 65535;\n", "of its mask 0xffff"),
        ("	add.s32 %r10, %r11, 1;\n", "before it is written"),
        ("	div.u32 %r10, %r1, %r2;\n", "divided by zero"),
        ("$L_1:\n	bra.uni $L_1;\n", "does not end"),
    ],
)
def test_what_no_kernel_may_do_is_a_fault(tmp_path, body, fault, monkeypatch):
    monkeypatch.setattr("cuda_on_ptx.execution.MOST_STEPS", 10_000)
    with pytest.raises(Fault, match=fault):
        run(body, tmp_path)


@pytest.mark.parametrize("barrier, step", [("bar.warp.sync -1", 4), ("bar.sync 0", 128)])
def test_an_exchange_through_shared_memory_is_right_with_its_barrier(tmp_path, barrier, step):
    body = EXCHANGE.format(f"	{barrier};\n").replace("%r14, 4;", f"%r14, {step};")
    lanes = run(body + "	st.global.u32 [%rd4], %r16;\n", tmp_path)
    assert lanes.tolist() == [i % 64 ^ step // 4 for i in range(128)]


def test_a_launch_that_does_not_fit_its_kernel_is_refused(tmp_path):
    module, memory = module_of("", tmp_path), Memory()
    for launch in (Launch(1, 48, 0, bytes(16)), Launch(1, 512, 0, bytes(16)), Launch(1, 32, 0, bytes(12))):
        with pytest.raises(Fault):
            execute(module, module.kernels["kernel"], [launch], memory)


# ---- Mistakes in the package's own kernels ----


@dataclasses.dataclass
class Mistake:
    """One change of a kernel's text, and what then must be seen: a Fault, or a result that is wrong."""

    kernel: str
    change: callable
    seen: type[Exception]


def every(pattern, replacement):
    def change(text):
        changed, count = re.subn(pattern, replacement, text)
        assert count > 0, f"no {pattern}"
        return changed

    return change


MISTAKES = {
    "a dropped __syncwarp": Mistake("draw_tangents<float", every(r"bar\.warp\.sync[^;]*;", ""), Fault),
    "a table of zeros": Mistake(
        "compute_psi<float", every(r"(\.global [^=;]*\[\d+\]) = \{[^}]*\}", r"\1"), AssertionError
    ),
    "a wrong mask": Mistake("backward<float", every(r"(shfl\.sync\.bfly[^;]*), [^,;]+;", r"\1, 65535;"), Fault),
    "half the lanes of a sum": Mistake(
        "backward<float", every(r"(shfl\.sync\.bfly[^;]*), [^,;]+, ([^,;]+);", r"\1, 0, \2;"), AssertionError
    ),
    "an index one too far": Mistake(
        "draw_tangents<float", every(r"(st\.global\.f32 \t?\[%rd\d+)(\])", r"\1+4\2"), (Fault, AssertionError)
    ),
    "an input's index one too far": Mistake(
        "forward_ad<float", every(r"(ld\.global\.nc\.f32 \t?%f\d+, \[%rd\d+)(\])", r"\1+4\2"), (Fault, AssertionError)
    ),
    "shared memory one too far": Mistake(
        "draw_tangents<float", every(r"(st\.shared\.v4\.f32 \t?\[%r\d+)(\])", r"\1+4\2"), Fault
    ),
}


def executed(kernel, module):
    """Draws, and gradients, with that kernel taken from another module; checked against the CPU."""
    device = Device()
    (symbol,) = [symbol for symbol in module.kernels if symbol == device.kernels[kernel][1].name]
    device.kernels = device.kernels | {kernel: (module, module.kernels[symbol])}
    draw, library = Draw((2, 5, 17, 40, 600), torch.float32, rows=9), build.launches()
    made = draw.sample(library, device.place, device.output)
    gradients = draw.backward(library, device.place, device.output)
    tangent = draw.forward_ad(library, device.place, device.output)
    device.collect()
    device.run()
    different, _ = draw.check_sample(*made)
    assert different == 0
    draw.check_backward(*gradients)
    draw.check_forward_ad(tangent)


@pytest.mark.skipif(nvcc.find() is None, reason="no nvcc")
@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_a_mistake_in_a_kernel_is_seen(mistake, tmp_path):
    text = nvcc.ptx(next(path for path in nvcc.SOURCES if path.stem == "sampling")).read_text()
    change = MISTAKES[mistake] if mistake else Mistake("draw_tangents<float", lambda text: text, None)
    (name,) = [name for name in kernels() if f"::{change.kernel}" in name]
    begin = re.search(rf"\.entry {kernels()[name][1].name}\(", text).start()
    end = text.find(".entry", begin + 1) if ".entry" in text[begin + 1 :] else len(text)
    declarations, entry = text[: text.index(".entry")], text[begin:end]
    whole = change.change(declarations + entry)
    path = tmp_path / "kernel.ptx"
    path.write_text(whole)
    if mistake is None:
        executed(name, Module(path))
    else:
        with pytest.raises(change.seen):
            executed(name, Module(path))
