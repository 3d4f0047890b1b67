"""Formulas that circulate in place of log C_m(κ), and their errors: python -m scripts.compare_log_normalizers FILE."""

import math
import sys
from pathlib import Path

import mpmath
import numpy as np
import scipy.special
import torch

import vmf_ops

POINTS = [(3, 1.0), (16, 1.0), (16, 100.0), (128, 1.0), (512, 50.0), (512, 800.0), (2048, 300.0)]


def exact(m, kappa):
    with mpmath.workdps(60):
        v, x = mpmath.mpf(m) / 2 - 1, mpmath.mpf(kappa)
        return v * mpmath.log(x) - mpmath.mpf(m) / 2 * mpmath.log(2 * mpmath.pi) - mpmath.log(mpmath.besseli(v, x))


def from_log_iv(m, kappa, log_iv):
    return (m / 2 - 1) * math.log(kappa) - m / 2 * math.log(2 * math.pi) - log_iv


def guarded(m, kappa):
    return from_log_iv(m, kappa, math.log(1e-6 + scipy.special.ive(m / 2 - 1, kappa)) + kappa)


def textbook(m, kappa):
    with np.errstate(divide="ignore"):
        return from_log_iv(m, kappa, float(np.log(np.float32(scipy.special.ive(np.float32(m / 2 - 1), kappa)))) + kappa)


def switch(m, kappa):
    """The first term for large arguments from κ = 100 on."""
    if kappa >= 100:
        return from_log_iv(m, kappa, kappa - 0.5 * math.log(2 * math.pi * kappa))
    return textbook(m, kappa)


def uniform_term(m, kappa):
    """The first term of the expansion that is uniform in the order (DLMF 10.41.3)."""
    v = m / 2 - 1
    s = math.hypot(v, kappa)
    return from_log_iv(m, kappa, s - v * math.asinh(v / kappa) - 0.5 * math.log(2 * math.pi * s))


def truncated_order(m, kappa):
    """A recurrence that takes the order as an integer."""
    return from_log_iv(m, kappa, float(mpmath.log(mpmath.besseli(m // 2 - 1, kappa))))


def ours(dtype):
    return lambda m, kappa: float(vmf_ops.vmf_log_normalizer(m, torch.tensor(kappa, dtype=dtype)))


FORMULAS = {
    "log(1e-6 + ive)": guarded,
    "log(ive), float32": textbook,
    "asymptotic from κ = 100": switch,
    "one uniform term": uniform_term,
    "integer order": truncated_order,
    "vmf_ops, float32": ours(torch.float32),
    "vmf_ops, float64": ours(torch.float64),
}


def table():
    """Absolute errors in nats, which are relative errors of the density."""
    lines = ["| m, κ | log C_m(κ) | " + " | ".join(FORMULAS) + " |", "|---" * (len(FORMULAS) + 2) + "|"]
    for m, kappa in POINTS:
        right = exact(m, kappa)
        errors = [abs(float(formula(m, kappa) - right)) for formula in FORMULAS.values()]
        lines.append(
            f"| {m}, {kappa:g} | {float(right):.5g} | " + " | ".join(f"{error:.2g}" for error in errors) + " |"
        )
    return "\n".join(lines) + "\n"


def write(path):
    path = Path(path)
    path.parent.mkdir(exist_ok=True)
    path.write_text(table())


if __name__ == "__main__":
    write(sys.argv[1])
