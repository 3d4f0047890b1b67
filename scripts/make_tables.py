"""Writes the certified tables of tests/data/, which the accuracy tests hold the Bessel family to.

    python scripts/make_tables.py          # a few minutes on one core; needs python-flint (the `tables` extra)

Every entry is an enclosure by Arb of more than 90 bits, its working precision doubled until then, at arguments that the
dtype of the table represents exactly. I_v and I_{v+1} are Arb's; what is differentiated in x follows from them by the
recurrences (DLMF 10.29.2), and d/dv is a central difference of step 2^-120, whose truncation error is bounded by its
change when the step is doubled.

Files, one for float64 and one for float32 arguments (np.load; keys `family/column`):
    log    v, x: log_iv, log_ive, ive, of log_iv its derivatives dx, dx2, dx3 and dv, of log_ive scaled_dx
    ratio  v, x: r = I_v/I_{v-1} (the public order), complement 1-r, and of r its derivatives dx, dx2
A column is the nearest double; `column_low` is what is left of the exact value, in units of that double's last place
(float64 only: float32's eps is far above it).
"""

import argparse
import pathlib

import numpy as np
from flint import arb, ctx

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
BITS = 90
SMALLEST = arb(2) ** -1080  # below every double: an enclosure inside it is zero

# Where the kernels change their method, as s = sqrt(v^2 + x^2) (or with v + 1/2) and as x.
RINGS = {np.float64: (12.0, 26.0, 32.0, 60.0), np.float32: (6.0, 12.0, 14.0, 28.0, 30.0)}
LINES = {np.float64: (7.0, 8.0, 14.0), np.float32: (4.0, 6.0)}
LARGEST = {np.float64: (1e6, 1e10), np.float32: (2e5, 1e9)}


def certified(function):
    """The doubles nearest the values of function(), with what is left of each in units in the last place."""
    precision = 192
    while True:
        ctx.prec = precision
        values = function()
        if all(good(value) for value in values):
            ctx.prec = 2 * precision
            return [nearest(value) for value in values]
        precision *= 2


def good(value):
    return value.is_finite() and (value.rel_accuracy_bits() > BITS or abs(value) < SMALLEST)


def nearest(value):
    middle = value.mid()
    high = float(middle)
    if not np.isfinite(high) or high == 0.0:
        return high, 0.0
    return high, float((middle - arb(high)) / arb(float(np.spacing(abs(high)))))


def log_row(v, x):
    v, x = arb(float(v)), arb(float(x))
    bessel = x.bessel_i(v)
    r = x.bessel_i(v + 1) / bessel
    log_iv = bessel.log()
    slope = 1 - r * r - (2 * v + 1) * r / x
    curvature = -2 * r * slope + (2 * v + 1) * (r / x - slope) / x
    return [
        log_iv,
        log_iv - x,
        bessel * (-x).exp(),
        r + v / x,
        r - 1 + v / x,
        slope - v / x**2,
        curvature + 2 * v / x**3,
        order_slope(v, x),
    ]


def order_slope(v, x):
    def difference(exponent):
        step = arb(2) ** exponent
        return ((x.bessel_i(v + step) / x.bessel_i(v - step)).log()) / (2 * step)

    fine, coarse = difference(-120), difference(-119)
    # The truncation error is h^2/6 f''' + O(h^4): a third of the change.
    return fine + arb(0, abs(coarse - fine).upper() if fine.is_finite() and coarse.is_finite() else 1)


def ratio_row(v, x):
    v, x = arb(float(v)) - 1, arb(float(x))
    bessel, following = x.bessel_i(v), x.bessel_i(v + 1)
    r = following / bessel
    slope = 1 - r * r - (2 * v + 1) * r / x
    return [r, (bessel - following) / bessel, slope, -2 * r * slope + (2 * v + 1) * (r / x - slope) / x]


FAMILIES = {
    "log": (log_row, ("log_iv", "log_ive", "ive", "dx", "scaled_dx", "dx2", "dx3", "dv")),
    "ratio": (ratio_row, ("r", "complement", "dx", "dx2")),
}


def zero_of_log_iv(v):
    """x with I_v(x) = 1, by bisection."""
    ctx.prec = 128
    low, high = 1e-12, 3.0 * v + 3.0
    while high / low > 1 + 1e-15:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if arb(middle).bessel_i(arb(v)) < 1 else (low, middle)
    return low


def points(dtype, rng):
    """(v, x) over the whole domain and beside whatever is special about it; v >= 0."""
    v_end, x_end = np.log10(LARGEST[dtype])

    def log_uniform(low, high, n):
        return 10 ** rng.uniform(low, high, n)

    sets = [
        (rng.uniform(0, 512, 250), log_uniform(-3, 4, 250)),
        (rng.uniform(0, 3, 200), log_uniform(-3, 4, 200)),
        (log_uniform(2.7, 4.8, 150), log_uniform(0, 6, 150)),
        (log_uniform(-6, v_end, 350), log_uniform(-30, x_end, 350)),
        (log_uniform(-1, 3, 200), log_uniform(-1, 3, 200)),
        # The longest series and the shortest reach of the expansions.
        (log_uniform(-4, 1.5, 250), rng.uniform(5, 35, 250)),
        # Found by search to be hard for log_ive: log F - x just where the series is longest.
        (np.array([2.7707948290948257, 0.0017639428992304016]), np.array([25.15865905877434, 25.361852884779246])),
        # Small orders, where the power series of d/dv cancels.
        (log_uniform(-6, 0, 150), log_uniform(-1.5, 2, 150)),
        # Orders k + 1/2 (elementary functions), integers and beside them, zero.
        (rng.integers(0, 200, 80) + 0.5, log_uniform(-3, 4, 80)),
        (rng.integers(1, 64, 80), log_uniform(-2, 3, 80)),
        (rng.integers(1, 64, 80) * (1 + rng.choice([-1, 1], 80) * log_uniform(-15, -1, 80)), log_uniform(-2, 3, 80)),
        (np.zeros(100), log_uniform(-30, x_end, 100)),
        (np.zeros(40), log_uniform(-1, 2, 40)),
        # The far side, where log_ive is the small difference of log_iv and x.
        (log_uniform(-6, v_end, 60), np.full(60, 1e9)),
        (log_uniform(-6, v_end, 40), np.full(40, LARGEST[dtype][1])),
        (np.full(30, LARGEST[dtype][0]), log_uniform(0, x_end, 30)),
    ]
    v = log_uniform(-1, v_end, 200)
    sets.append((v, v * (1 + 0.1 * rng.standard_normal(200))))
    v = log_uniform(-3, 4.5, 60)
    zero = np.array([zero_of_log_iv(order) for order in v])
    sets += [(v, zero), (v, zero * (1 + rng.choice([-1, 1], 60) * log_uniform(-14, -2, 60)))]
    for ring in RINGS[dtype]:
        angle = np.concatenate([rng.uniform(0, np.pi / 2, 40), log_uniform(-4, 0, 20)])
        radius = ring * (1 + rng.choice([-1, 1], 60) * log_uniform(-6, -1, 60))
        v, x = radius * np.sin(angle), radius * np.cos(angle)
        sets += [(v, x), (np.maximum(v[:40] - 0.5, 0), x[:40])]
    for line in LINES[dtype]:
        sets.append((log_uniform(-4, 2, 40), line * (1 + rng.choice([-1, 1], 40) * log_uniform(-6, -1, 40))))
    v, x = (np.concatenate(column).astype(dtype) for column in zip(*sets, strict=True))
    keep = (x > 0) & (x <= LARGEST[dtype][1]) & (v <= LARGEST[dtype][0])
    return v[keep], x[keep]


def certified_columns(family, v, x):
    """The table of that family at the points: column -> array."""
    row, names = FAMILIES[family]
    values = np.array([certified(lambda a=a, b=b: row(a, b)) for a, b in zip(v, x, strict=True)])
    columns = {"v": v, "x": x}
    for i, name in enumerate(names):
        columns[name] = values[:, i, 0]
        if v.dtype == np.float64:
            columns[f"{name}_low"] = values[:, i, 1].astype(np.float16)
    return columns


def tables(dtype, seed):
    rng = np.random.default_rng(seed)
    v, x = points(dtype, rng)
    families = {"log": (v, x)}
    # The ratio's public order is at least 1/2; beside 1/2 the complement and the slope are exponentially small.
    beside_half = 0.5 + 10 ** rng.uniform(np.log10(np.finfo(dtype).eps), -0.5, 150)
    v = np.concatenate([v + 0.5, v[::4] + 1, beside_half, np.full(90, 0.5)]).astype(dtype)
    x = np.concatenate([x, x[::4], 10 ** rng.uniform(-2, 2, 150), rng.uniform(1, 35, 90)]).astype(dtype)
    keep = rng.random(len(v)) < 0.65
    families["ratio"] = (v[keep], x[keep])
    return {
        f"{family}/{name}": column
        for family, (v, x) in families.items()
        for name, column in certified_columns(family, v, x).items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=2019)
    parser.add_argument("--out", type=pathlib.Path, default=DATA)
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    for dtype in (np.float64, np.float32):
        columns = tables(dtype, arguments.seed)
        path = arguments.out / f"bessel_{np.dtype(dtype).name}.npz"
        np.savez_compressed(path, **columns)
        print(f"{path}: {len(columns['log/v'])} + {len(columns['ratio/v'])} points, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
