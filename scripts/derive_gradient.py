"""Writes csrc/math/psi_coefficients.h: Gauss-Legendre rules on [0, 1], a polynomial start for the arc sine, and the
expansion of psi for long shells.

Run: python scripts/derive_gradient.py       # 15 s
"""

import argparse
from pathlib import Path

import numpy as np
import sympy
from numpy.polynomial import Polynomial, chebyshev
from numpy.polynomial.legendre import leggauss

TARGET = Path(__file__).resolve().parents[1] / "csrc" / "math" / "psi_coefficients.h"
RULES = (4, 6, 9, 10, 12, 20)
ORDERS = 4


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


def psi_rows() -> list[list[float]]:
    """Rows k(k-1) + i, i < 2k, of the c_ij with psi = rho/S (1 + sum_k (1/(1 + x w)) sum_ij c_ij rho^i p^j S^-k).

    x = x0 solves N x = kappa (1 - x^2), so N w - kappa (1 - w^2) = N (w - x)(1 + x w)/(1 - x^2). Hence the equation of
    psi = (1 - x^2)/(N (1 + x w)) sum_k phi_k N^-k gives phi_k (w - x) as (1 - w^2)(1 - x^2) d/dw [phi_{k-1}/(1 + x w)]
    less its value at w = x, which is A's term. p = (1 - x^2)/(1 + x^2), and phi_k N^-k = (phi_k p^-k) S^-k.
    """
    x, w, u, rho, p, square = sympy.symbols("x w u rho p square")
    phi, rows = sympy.Integer(1), []
    for k in range(1, ORDERS + 1):
        moved = sympy.cancel((1 - w**2) * (1 - x**2) * sympy.diff(phi / (1 + x * w), w))
        phi = sympy.cancel((moved - moved.subs(w, x)) / (w - x))
        # u = 1/(1 + x w) = rho (1 + p)/2; then x occurs squared alone.
        term = sympy.cancel(phi.subs(w, (1 / u - 1) / x)).subs(x, sympy.sqrt(square))
        term = term.subs(u, rho * (1 + p) / 2).subs(square, (1 - p) / (1 + p))
        polynomial = sympy.Poly(sympy.cancel(term / p**k * 2 / (rho * (1 + p))), rho, p)
        rows += [[float(polynomial.coeff_monomial(rho**i * p**j)) for j in range(2 * k)] for i in range(2 * k)]
    return rows


def main() -> None:
    head = "// Written by scripts/derive_gradient.py; not edited by hand.\n#pragma once\n"
    parts = [head, "namespace vmf_ops::coefficients {\n"]
    for n in RULES:
        nodes, weights = leggauss(n)
        parts.append(array(f"gauss_nodes_{n}", (nodes + 1) / 2))
        parts.append(array(f"gauss_weights_{n}", weights / 2))
    parts.append(array("arcsine_start", arcsine_start()))
    rows = psi_rows()
    body = "\n".join("    {" + ", ".join(map(str, row)) + "}," for row in rows)
    parts.append(f"inline constexpr double psi_rows[{len(rows)}][{2 * ORDERS}] = {{\n{body}\n}};\n")
    parts.append("}  // namespace vmf_ops::coefficients\n")
    TARGET.write_text("\n".join(parts))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
