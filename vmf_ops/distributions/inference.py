"""What statistics asks of von Mises-Fisher laws: overlap, combination, and tests of mean directions.

Mardia and Jupp, Directional Statistics (2000), chapter 10.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._density import mode_radius, separation
from ..vmf import log_density_at_mode
from .estimation import check_points, check_weights
from .spherical import check_same_dims
from .von_mises_fisher import VonMisesFisher

__all__ = ["TestResult", "combine", "log_expected_likelihood", "rayleigh_test", "watson_williams_test"]


class TestResult(NamedTuple):
    """A test's statistic and the probability of one as large under the hypothesis."""

    __test__ = False  # pytest collects classes of such names

    statistic: Tensor
    p_value: Tensor


def combine(*laws: VonMisesFisher) -> VonMisesFisher:
    """The law whose density is proportional to the product of theirs: natural parameters κμ add up.

    Batch shapes broadcast. Laws that cancel each other give the uniform law, κ = 0.
    """
    for law in laws[1:]:
        check_same_dims(laws[0], law)
    return VonMisesFisher.from_natural(sum(law.natural for law in laws))


def log_expected_likelihood(p: VonMisesFisher, q: VonMisesFisher, *, pairwise: bool = False) -> Tensor:
    r"""log ∫ p(z) q(z) dz = log (C_m(κ_p) C_m(κ_q) / C_m(‖κ_p μ_p + κ_q μ_q‖)), the log likelihood that both meet.

    Batch shapes broadcast; with `pairwise` every law of p meets every law of q, p.batch_shape + q.batch_shape, their
    cosines by a matrix product. No term of size κ is taken from another. Infinite κ: q's density at p's point.
    """
    check_same_dims(p, q)
    m = p.event_shape[0]
    p_loc, p_kappa, q_loc, q_kappa = p.loc, p.concentration, q.loc, q.concentration
    if pairwise:
        axes = (1,) * len(q.batch_shape)
        p_loc, p_kappa = p_loc.reshape(p.batch_shape + axes + (m,)), p_kappa.reshape(p.batch_shape + axes)
    cosine, half_distance = separation(p_loc, q_loc)
    top = torch.finfo(p_kappa.dtype).max / 4
    a, b = p_kappa.clamp_max(top), q_kappa.clamp_max(top)
    larger, smaller = torch.maximum(a, b), torch.minimum(a, b)
    quotient = smaller / torch.where(larger > 0, larger, 1)
    # ‖κ_p μ_p + κ_q μ_q‖² = (κ_p - κ_q)² + 2 κ_p κ_q (1 + cos), no root of 0 to differentiate.
    square = (1 - quotient).square() + 2 * quotient * (1 + cosine).clamp_min(0)
    length = larger * torch.where(square > 0, square, 1).sqrt() * (square > 0)
    lost = -2 * smaller * half_distance * (larger / torch.where(larger > 0, length + larger + smaller, 1))
    peaks = log_density_at_mode(m, a) + log_density_at_mode(m, b) - log_density_at_mode(m, length)
    both = (p_kappa == math.inf) & (q_kappa == math.inf)
    points = torch.where(half_distance > mode_radius(p_loc.dtype), -math.inf, math.inf)
    return torch.where(both, points, peaks + lost)


def rayleigh_test(z: Tensor, weights: Tensor | None = None) -> TestResult:
    """Whether unit vectors z (..., n, m) have a mean direction at all: small p-values speak against the uniform law.

    S = m n R², corrected as (1 - 1/(2n)) S + S²/(2n (m+2)), which is χ² of m degrees of freedom to O(1/n²) (Jupp, J.
    Multivariate Analysis 77 (2001) 1). weights (..., n) count points: 3 stands for three equal ones.
    """
    z = check_points(z)
    weights = check_weights(weights, z)
    m, n = z.shape[-1], weights.sum(-1)
    resultant = (weights.unsqueeze(-1) * z).sum(-2)
    s = m * resultant.square().sum(-1) / n
    s = (1 - 0.5 / n) * s + s.square() / (2 * n * (m + 2))
    return TestResult(s, torch.special.gammaincc(torch.full_like(s, 0.5 * m), 0.5 * s))


def watson_williams_test(samples: Sequence[Tensor]) -> TestResult:
    """Whether k samples of unit vectors, each (n_i, m), have one mean direction, their κ being one and not small.

    F = ((Σ R_i - R)/((k-1)(m-1))) / ((n - Σ R_i)/((n-k)(m-1))), R_i the lengths of the samples' sums and R that of all,
    on the circle times 1 + 3/(8κ); of the F law with (k-1)(m-1) and (n-k)(m-1) degrees of freedom for large κ, well
    enough where Σ R_i > 0.45 n on the circle and 0.7 n on the sphere (Watson and Williams, Biometrika 43 (1956) 344).
    Needs SciPy, for the F law.
    """
    try:
        from scipy.special import fdtrc
    except ImportError:
        raise ImportError("watson_williams_test needs SciPy: pip install scipy") from None
    samples = [check_points(z) for z in samples]
    if len(samples) < 2 or any(z.dim() != 2 or z.shape[-1] != samples[0].shape[-1] for z in samples):
        raise ValueError(
            f"samples must be two or more tensors (n_i, m) of one m, got {[tuple(z.shape) for z in samples]}"
        )
    m, k, n = samples[0].shape[-1], len(samples), sum(len(z) for z in samples)
    if n <= k:
        raise ValueError(f"{k} samples need more than {k} points, got {n}")
    sums = torch.stack([z.double().sum(0) for z in samples])
    each, whole = torch.linalg.vector_norm(sums, dim=-1).sum(), torch.linalg.vector_norm(sums.sum(0))
    between, within = (k - 1) * (m - 1), (n - k) * (m - 1)
    statistic = ((each - whole).clamp_min(0) / between) / ((n - each) / within)
    if m == 2:
        statistic = statistic * (1 + 3 / (8 * VonMisesFisher.fit(torch.cat(samples)).concentration))
    p_value = fdtrc(between, within, statistic.item())
    return TestResult(statistic, torch.as_tensor(p_value, dtype=torch.float64, device=statistic.device))
