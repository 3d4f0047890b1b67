"""The von Mises-Fisher and uniform laws on spheres and products of spheres, as torch.distributions.

Densities are with respect to the surface measure of the unit sphere of R^m, and m, `dims` and the last axis of every
point are ambient dimensions: m = 3 is the ordinary sphere. Every class validates its arguments as torch.distributions
does (`validate_args=False` skips that), and works inside `torch.distributions.Independent`, `torch.func.vmap` and
`torch.compile(fullgraph=True)`, where torch cannot validate and nothing is checked by default.

    vMF(z; μ, κ) = C_m(κ) exp(κ μᵀz)            Mardia and Jupp, Directional Statistics (2000), section 9.3

log C_m(κ) + κ μᵀz is never formed: both parts are of size κ. It is log p(μ) - κ‖μ-z‖²/2, whose first term, the log
density at the mode, is of size m log κ.
"""

from ..losses import vmf_nll_embedding_loss, vmf_nll_loss
from . import kl as _kl  # noqa: F401  (registers the divergences)
from .constraints import product_of_unit_vectors, unit_vector
from .inference import TestResult, combine, log_expected_likelihood, rayleigh_test, watson_williams_test
from .mixture import VonMisesFisherMixture
from .product import ProductHypersphericalUniform, ProductVonMisesFisher
from .uniform import HypersphericalUniform
from .von_mises_fisher import VonMisesFisher

__all__ = [
    "HypersphericalUniform",
    "ProductHypersphericalUniform",
    "ProductVonMisesFisher",
    "TestResult",
    "VonMisesFisher",
    "VonMisesFisherMixture",
    "combine",
    "log_expected_likelihood",
    "product_of_unit_vectors",
    "rayleigh_test",
    "unit_vector",
    "vmf_nll_embedding_loss",
    "vmf_nll_loss",
    "watson_williams_test",
]
