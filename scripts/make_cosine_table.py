"""Writes tests/data/cosine.csv: certified values of the law of the cosine w = mu.z, by Arb's ball arithmetic.

Run `python scripts/make_cosine_table.py` with the `tables` extra installed (seconds). Every number is right to all
its 17 digits: the working precision doubles until the enclosing balls say so. kappa and w are float32 numbers, so that
one table serves both precisions.

Columns: m, kappa, w, then upper (1 where the smaller tail, about, is the one above w), log_tail and tail of it,
density, kappa_slope of P(w' < w).
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from flint import acb, arb, ctx

TARGET = Path(__file__).parents[1] / "tests" / "data" / "cosine.csv"
COLUMNS = "upper log_tail tail density kappa_slope".split()


def certified(m, kappa, w):
    """The columns after w, each to more than 60 bits."""
    precision = 160
    while (columns := attempt(m, kappa, w, precision)) is None:
        precision *= 2
    return columns


def attempt(m, kappa, w, precision):
    ctx.prec = precision
    k, c, v, power = arb(kappa), arb(w), arb(m) / 2 - 1, m - 2
    angle = c.acos()
    sine = angle.sin()
    scale = k.bessel_i(v)
    # log int_0^pi sin^(m-2) f e^(kappa cos f) df, DLMF 10.32.2; a Beta function at kappa = 0.
    log_mass = (arb.pi().sqrt() * (v + arb(1) / 2).gamma()).log()
    log_mass += v * (2 / k).log() + scale.log() if kappa else -(v + 1).lgamma()
    mean = k.bessel_i(v + 1) / scale if kappa else arb(0)
    upper = w > float(mean.mid())
    ends = (acb(0), acb(angle)) if upper else (acb(angle), acb(arb.pi()))

    def relative(f, _):
        return (f.sin() / acb(sine)) ** power * (acb(k) * (f.cos() - acb(c))).exp()

    def moment(f, _):
        return relative(f, _) * (f.cos() - acb(mean))

    goal = {"rel_tol": arb(2) ** -80, "abs_tol": arb(2) ** -90}
    density = (power * sine.log() + k * c - log_mass).exp()
    tail = density * acb.integral(relative, *ends, **goal).real
    slope = density * acb.integral(moment, *ends, **goal).real
    values = [tail.log(), tail, density / sine, -slope if upper else slope]
    if all(value.is_finite() and value.rel_accuracy_bits() > 60 for value in values):
        return [int(upper), *map(float, values)]
    return None


def points(rng, count):
    """m, kappa and w from the mean to 25 standard deviations off, small and large dimensions alike."""
    small, large = rng.integers(2, 12, count // 2), (10 ** rng.uniform(1, 4, count - count // 2)).astype(int)
    m = np.concatenate([small, large])
    kappa = 10 ** rng.uniform(-2, 5, count)
    kappa[::20] = 0
    mu = (m - 1) / 2
    mean = kappa / (mu + np.hypot(mu, kappa))
    deviations = rng.uniform(-20, 20, count)
    deviations[::3] = rng.uniform(-2, 2, len(deviations[::3]))
    spread = 1 / np.sqrt((1 - mean**2) * (2 * np.hypot(mu, kappa) + 1))
    w = np.tanh(np.arctanh(mean) + deviations * spread)
    return m.tolist(), np.float32(kappa), np.float32(w)


def main():
    rows = []
    for m, kappa, w in zip(*points(np.random.default_rng(18), 700), strict=True):
        if abs(w) < 1:
            row = certified(m, float(kappa), float(w))
            if row[1] > -210:
                rows.append([m, repr(float(kappa)), repr(float(w)), row[0], *map(repr, row[1:])])
    with TARGET.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["m", "kappa", "w", *COLUMNS])
        writer.writerows(rows)
    print(f"{TARGET}: {len(rows)} rows")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
