"""Writes tests/data/second_kind.npz: certified values of log K_v and its derivatives, by Arb's ball arithmetic.

Run `python scripts/make_second_kind_table.py` with the `tables` extra installed (some minutes). The working precision
doubles until the enclosing balls say that 60 bits are right; the few points that ask for more than 20,000 bits are left
out. Orders and arguments are numbers of the dtype of each table.

Keys `dtype/column`: v, x, log_kv, its derivatives dx, dx2 and dv, scaled_dx of log_kve, log_kve.
"""

import argparse
from pathlib import Path

import numpy as np
from flint import arb, ctx

TARGET = Path(__file__).parents[1] / "tests" / "data" / "second_kind.npz"
COLUMNS = ("log_kv", "dx", "scaled_dx", "dx2", "dv", "log_kve")


def certified(v, x):
    precision = 400
    while (row := attempt(v, x, precision)) is None:
        precision *= 2
        if precision > 20000:
            return [np.nan] * len(COLUMNS)
    return row


def attempt(v, x, precision):
    ctx.prec = precision
    order, at = arb(float(v)), arb(float(x))
    bessel = at.bessel_k(order)
    below = at.bessel_k(order - 1) / bessel
    log_kv, dx = bessel.log(), -(below + order / at)
    dx2 = order / at**2 + 1 - below**2 + below * (1 - 2 * order) / at
    # A central difference, off by less than its step.
    step = arb(2) ** (-precision // 4)
    dv = (at.bessel_k(order + step) / at.bessel_k(order - step)).log() / (2 * step) if v else arb(0)
    checked = [log_kv, dx, dx + 1, dx2] + ([dv] if v else [])
    if not all(value.is_finite() and value.rel_accuracy_bits() > 60 for value in checked):
        return None
    ctx.prec = 2 * precision
    return [float(value) for value in (log_kv, dx, dx + 1, dx2, dv, log_kv + at)]


def points(dtype, rng, count=1200):
    """Orders and arguments everywhere, where methods meet, at whole and half orders, small orders and zero."""
    largest = (6, 10) if dtype == np.float64 else (5.3, 9)
    v, x = 10 ** rng.uniform(-6, largest[0], count), 10 ** rng.uniform(-30, largest[1], count)
    q = count // 6
    v[:q], x[:q] = rng.uniform(0, 30, q), rng.uniform(0, 30, q)
    v[q : 2 * q], x[q : 2 * q] = rng.integers(0, 24, q) / 2, 10 ** rng.uniform(-3, 1.5, q)
    v[2 * q : 3 * q], x[2 * q : 3 * q] = rng.uniform(0, 9, q), 10 ** rng.uniform(-2, 0.1, q)
    v[3 * q : 3 * q + 40] = 0
    v[3 * q + 40 : 4 * q], x[3 * q + 40 : 4 * q] = 10 ** rng.uniform(-6, 1, q - 40), 10 ** rng.uniform(-2, 2, q - 40)
    return v.astype(dtype), x.astype(dtype)


def main():
    tables = {}
    for dtype in (np.float64, np.float32):
        v, x = points(dtype, np.random.default_rng(3))
        rows = np.array([certified(a, b) for a, b in zip(v, x, strict=True)])
        settled = ~np.isnan(rows).any(1)
        v, x, rows = v[settled], x[settled], rows[settled]
        tables |= {f"{np.dtype(dtype).name}/{name}": column for name, column in zip(("v", "x"), (v, x), strict=True)}
        tables |= {f"{np.dtype(dtype).name}/{name}": rows[:, i] for i, name in enumerate(COLUMNS)}
    np.savez_compressed(TARGET, **tables)
    print(f"{TARGET}: {TARGET.stat().st_size // 1000} kB")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
