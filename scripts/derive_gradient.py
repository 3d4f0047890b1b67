"""Writes csrc/math/psi_coefficients.h: Gauss-Legendre rules on [0, 1] and a polynomial start for the arc sine.

Run: python scripts/derive_gradient.py
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from numpy.polynomial.legendre import leggauss

TARGET = Path(__file__).resolve().parents[1] / "csrc" / "math" / "psi_coefficients.h"
RULES = (4, 9, 10, 20)


def array(name: str, values) -> str:
    body = ",\n    ".join(float(v).hex() for v in values)
    return f"inline constexpr double {name}[{len(values)}] = {{\n    {body},\n}};\n"


def arcsine_start() -> np.ndarray:
    """asin(s)/s in s^2 on [0, 1/2] to 1e-4: a start, not the answer."""

    def f(y):
        s2 = np.clip((y + 1) / 4, 1e-12, None)
        return np.arcsin(np.sqrt(s2)) / np.sqrt(s2)

    in_chebyshev = chebyshev.Chebyshev(chebyshev.chebinterpolate(f, 3))
    return in_chebyshev.convert(kind=Polynomial)(Polynomial([-1, 4])).coef


def main() -> None:
    head = "// Written by scripts/derive_gradient.py; not edited by hand.\n#pragma once\n"
    parts = [head, "namespace vmf_ops::coefficients {\n"]
    for n in RULES:
        nodes, weights = leggauss(n)
        parts.append(array(f"gauss_nodes_{n}", (nodes + 1) / 2))
        parts.append(array(f"gauss_weights_{n}", weights / 2))
    parts.append(array("arcsine_start", arcsine_start()))
    parts.append("}  // namespace vmf_ops::coefficients\n")
    TARGET.write_text("\n".join(parts))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
