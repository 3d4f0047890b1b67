"""Writes tests/data/vmf.csv: certified values of the von Mises-Fisher closed forms, by Arb's ball arithmetic.

Run `python scripts/make_vmf_table.py` with the `tables` extra installed (half a minute). Every number is right to all
its 17 digits: the working precision doubles until the enclosing ball says so. kappa is a float32 number, so that one
table serves both precisions.

Columns: m, kappa, then of vMF(kappa) on the unit sphere of R^m
  mean_length A, complement 1 - A, slope A', kl (to uniform), kl_slope kappa A', kl_curvature A' + kappa A'',
  log_normalizer log C, entropy, log_peak log C + kappa + log area.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from flint import arb, ctx

TARGET = Path(__file__).parents[1] / "tests" / "data" / "vmf.csv"
COLUMNS = "mean_length complement slope kl kl_slope kl_curvature log_normalizer entropy log_peak".split()
# Small dimensions, those about the borders of the method in csrc/math/vmf.h, and large ones.
DIMENSIONS = [2, 3, 4, 5, 7, 11, 16, 20, 21, 28, 29, 40, 41, 42, 57, 65, 121, 128, 512, 4096, 20000, 100000]


def certified(m, kappa):
    """The columns after kappa, each to more than 70 bits."""
    precision = 128
    while True:
        ctx.prec = precision
        x, v = arb(kappa), arb(m) / 2 - 1
        scale = x.bessel_i(v)
        a = x.bessel_i(v + 1) / scale
        slope = 1 - a * a - (m - 1) * a / x
        curvature = -2 * a * slope - (m - 1) * (slope - a / x) / x
        log_f = scale.log() + (v + 1).lgamma() - v * (x / 2).log()
        area = arb(2).log() + (v + 1) * arb.pi().log() - (v + 1).lgamma()
        kl = x * a - log_f
        values = [a, 1 - a, slope, kl, x * slope, slope + x * curvature, -area - log_f, area - kl, x - log_f]
        if all(value.is_finite() and value.rel_accuracy_bits() > 70 for value in values):
            return [float(value) for value in values]
        precision *= 2


def main():
    rng = np.random.default_rng(20)
    rows = []
    for m in DIMENSIONS:
        anywhere = 10 ** rng.uniform(-8, 8, 9)
        around_m = m * 10 ** rng.uniform(-1.5, 1.5, 9)
        # The borders of the series: sqrt(((m-1)/2)^2 + kappa^2) = 32 in double, 14 in single precision.
        borders = [np.sqrt(s * s - ((m - 1) / 2) ** 2) for s in (14, 32) if s > (m - 1) / 2]
        beside = [b * f for b in borders for f in (0.999, 1.001)]
        for kappa in np.float32(np.sort(np.concatenate([anywhere, around_m, beside]))):
            rows.append([m, float(kappa), *certified(m, float(kappa))])
    with TARGET.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["m", "kappa", *COLUMNS])
        writer.writerows([row[0], *map(repr, row[1:])] for row in rows)
    print(f"{TARGET}: {len(rows)} rows")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
