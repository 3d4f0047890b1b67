"""Derives the coefficient tables of csrc/math/coefficients.h in exact rational arithmetic.

    python scripts/derive_coefficients.py            # rewrites csrc/math/coefficients.h; a second
    python scripts/derive_coefficients.py --check    # fails if the file differs from a fresh derivation

A polynomial is a list of Fractions, constant term first.

Debye, in the order v (s = sqrt(x^2 + v^2), p = v/s).  DLMF 10.41.3 with the polynomials U_k of 10.41.9:
    I_v(x) = e^{s - v asinh(v/x)} / sqrt(2 pi s) * sum_k U_k(p) / v^k,
    U_{k+1}(p) = p^2 (1-p^2) U_k'(p) / 2 + 1/8 int_0^p (1 - 5 t^2) U_k(t) dt.
U_k(p)/p^k is a polynomial in p^2, so the sum is a series in 1/s with bounded coefficients; its logarithm is
    log I_v = s - v asinh(v/x) - log(2 pi s)/2 + sum_k s^-k d_k(p^2),   d_k(y) = sum_i debye[k][i] y^i,
and, as d/dx (s^-k p^2i) = -(k+2i) (x/s^2) s^-k p^2i,
    d/dx log I_v = s/x + (x/s^2) (-1/2 + sum_k s^-k sum_i debye_slope[k][i] p^2i).

Shifted, in mu = v + 1/2 (s = sqrt(x^2 + mu^2), p = mu/s).  With r = I_{v+1}/I_v put h = x/r - mu.  The Riccati
equation r' = 1 - r^2 - (2v+1) r/x (from DLMF 10.29.2) becomes x h' = h + mu - (h^2 - s^2); for h = s sum_j h_j(p) s^-j,
h_0 = 1, that is
    2 h_j = h_{j-1} + p [j=1] - sum_{a+b=j, a,b>=1} h_a h_b - (1-p^2) ((2-j) h_{j-1} - p h_{j-1}').
    ratio_h[j]:  h_j / (p (1+p))
    ratio_q[j]:  Q_j, where q = h^2 - s^2 = mu (1+p) sum_{j>=0} Q_j s^-j and r' = q / (h+mu)^2
    G_j, for the next two: s r / x = 1/(p + h/s) = sum_{j>=0} G_j s^-j / (1+p)
    log_l[k]:    l_k, where log I_v = s - mu asinh(mu/x) - log(2 pi x / (1+p))/2 + sum_{k>=1} l_k s^-k
    kl_t[k]:     T_k = [p^k ((1-p) G_{k+1} - l_k) + l_k(1)] / (1-p), of the divergence of the von Mises-Fisher law
                 of dimension 2v+2 from the uniform law, x r - log(Gamma(v+1) (2/x)^v I_v), for large mu:
                 ... - p d/(2s) + (d/s) sum_{k>=1} T_k(p) mu^-k, d = s - mu
Each division must leave no remainder; the functions built on the tables are tested against Arb in tests/.
"""

import argparse
import pathlib
import sys
from fractions import Fraction

HEADER = pathlib.Path(__file__).resolve().parent.parent / "csrc" / "math" / "coefficients.h"

DEBYE_TERMS = 18
RATIO_TERMS = 20
LOG_TERMS = 17
KL_TERMS = 16


def trim(a):
    while a and a[-1] == 0:
        a = a[:-1]
    return a


def add(a, b, scale=Fraction(1)):
    """a + scale * b"""
    n = max(len(a), len(b))
    a, b = (list(c) + [Fraction(0)] * (n - len(c)) for c in (a, b))
    return trim([x + scale * y for x, y in zip(a, b, strict=True)])


def mul(a, b):
    if not a or not b:
        return []
    out = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] += x * y
    return trim(out)


def scaled(a, factor):
    return [factor * x for x in a]


def derivative(a):
    return [i * x for i, x in enumerate(a)][1:]


def integral(a):
    return [Fraction(0)] + [x / (i + 1) for i, x in enumerate(a)]


def divided(a, b):
    """a / b, which must be exact."""
    rest, quotient = list(a), [Fraction(0)] * (len(a) - len(b) + 1)
    for i in reversed(range(len(quotient))):
        quotient[i] = rest[i + len(b) - 1] / b[-1]
        for j, y in enumerate(b):
            rest[i + j] -= quotient[i] * y
    assert not any(rest), "the division leaves a remainder"
    return trim(quotient)


def poly(*coefficients):
    return [Fraction(c) for c in coefficients]


P = poly(0, 1)
ONE_PLUS_P = poly(1, 1)
ONE_MINUS_P = poly(1, -1)
ONE_MINUS_P2 = poly(1, 0, -1)


def debye(terms):
    """d_1 .. d_terms as polynomials in p^2."""
    series, u = [poly(1)], poly(1)
    for k in range(1, terms + 1):
        u = add(
            scaled(mul(mul(P, P), mul(ONE_MINUS_P2, derivative(u))), Fraction(1, 2)),
            scaled(integral(mul(poly(1, 0, -5), u)), Fraction(1, 8)),
        )
        assert not any(u[:k]) and not any(u[k + 1 :: 2]), "U_k is p^k times a polynomial in p^2"
        series.append(u[k::2])
    # Logarithm of a power series: k d_k = k u_k - sum_j j d_j u_{k-j}.
    log = [None]
    for k in range(1, terms + 1):
        d = series[k]
        for j in range(1, k):
            d = add(d, mul(log[j], series[k - j]), Fraction(-j, k))
        log.append(d)
    return log[1:]


def debye_slope(d):
    return [[-(k + 2 * i) * c for i, c in enumerate(row)] for k, row in enumerate(d, start=1)]


def shifted_h(terms):
    h = [poly(1)]
    for j in range(1, terms + 1):
        total = add(h[j - 1], P if j == 1 else [])
        for a in range(1, j):
            total = add(total, mul(h[a], h[j - a]), Fraction(-1))
        slope = add(scaled(h[j - 1], Fraction(2 - j)), mul(P, derivative(h[j - 1])), Fraction(-1))
        total = add(total, mul(ONE_MINUS_P2, slope), Fraction(-1))
        h.append(scaled(total, Fraction(1, 2)))
    return h


def shifted_q(h, terms):
    out = []
    for j in range(terms + 1):
        total = []
        for a in range(j + 2):
            total = add(total, mul(h[a], h[j + 1 - a]))
        out.append(divided(total, mul(P, ONE_PLUS_P)))
    return out


def shifted_g(ratio_h, terms):
    """1 / (1 + sum_j p ratio_h[j] s^-j), from h_j = p (1+p) ratio_h[j]."""
    g = [poly(1)]
    for j in range(1, terms + 1):
        total = []
        for a in range(1, j + 1):
            total = add(total, mul(mul(P, ratio_h[a - 1]), g[j - a]), Fraction(-1))
        g.append(total)
    return g


def shifted_l(g, terms):
    return [[-c / (k + i) for i, c in enumerate(divided(g[k + 1], ONE_PLUS_P))] for k in range(1, terms + 1)]


def kl_t(g, log_l, terms):
    out = []
    for k in range(1, terms + 1):
        total = add(mul(ONE_MINUS_P, g[k + 1]), log_l[k - 1], Fraction(-1))
        total = add([Fraction(0)] * k + total, [sum(log_l[k - 1])])
        out.append(divided(total, ONE_MINUS_P))
    return out


def derive():
    """name -> (comment, first row, rows)"""
    d = debye(DEBYE_TERMS)
    h = shifted_h(RATIO_TERMS + 2)
    ratio_h = [divided(a, mul(P, ONE_PLUS_P)) for a in h[1:]]
    q = shifted_q(h, RATIO_TERMS)
    g = shifted_g(ratio_h, RATIO_TERMS)
    log_l = shifted_l(g, LOG_TERMS)
    t = kl_t(g, log_l, KL_TERMS)

    # First terms, worked by hand (d_1 and d_2 are also DLMF 10.41.10's U_1 and U_2 - U_1^2/2).
    assert d[0] == [Fraction(3, 24), Fraction(-5, 24)]
    assert d[1] == [Fraction(1, 16), Fraction(-6, 16), Fraction(5, 16)]
    assert h[1] == [0, Fraction(1, 2), Fraction(1, 2)]
    assert q[0] == [1] and q[1] == [1, Fraction(1, 2), -1]
    assert scaled(q[2], 8) == mul(poly(-1, 1), poly(-12, -20, 16, 25))
    assert scaled(log_l[0], 24) == poly(0, 6, -5)
    assert scaled(log_l[1], 16) == mul(mul(P, poly(-1, 1)), poly(-4, 0, 5))
    assert scaled(t[0], 24) == poly(1, 1, -17, 3, 15)
    # Q_j has the factor 1-p from j = 2 on: r' -> 0 faster than q's leading terms as x/v -> 0.
    assert all(sum(row) == 0 for row in q[2:])

    return {
        "debye": ("d_k(p^2), coefficient of p^(2i) in [k][i], k >= 1", 1, d),
        "debye_slope": ("-(k+2i) debye[k][i]", 1, debye_slope(d)),
        "ratio_h": ("h_j(p) / (p (1+p)), coefficient of p^i in [j][i], j >= 1", 1, ratio_h[:RATIO_TERMS]),
        "ratio_q": ("Q_j(p), coefficient of p^i in [j][i], j >= 0", 0, q),
        "log_l": ("l_k(p), coefficient of p^i in [k][i], k >= 1", 1, log_l),
        "kl_t": ("T_k(p), coefficient of p^i in [k][i], k >= 1", 1, t),
    }


def render(tables):
    lines = [
        "// Generated by scripts/derive_coefficients.py, which defines each table; do not edit.",
        "// clang-format off",
        "#pragma once",
        "",
        "namespace vmf_ops::coefficients {",
    ]
    for name, (comment, first, rows) in tables.items():
        columns = max(map(len, rows))
        size = f"[{first + len(rows)}][{columns}]"
        lines += ["", f"// {comment}; zero padded.", f"inline constexpr double {name}{size} = {{"]
        lines += ["    {0.0},"] * first
        for row in rows:
            text = [repr(float(c)) for c in row]
            lines.append("    {" + ", ".join(text) + "},")
        lines.append("};")
    lines += ["", "}  // namespace vmf_ops::coefficients", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if the header differs from a fresh derivation")
    text = render(derive())
    if parser.parse_args().check:
        sys.exit(0 if HEADER.read_text() == text else f"{HEADER} differs from a fresh derivation; run without --check")
    HEADER.write_text(text)


if __name__ == "__main__":
    main()
