"""What the tests of the laws share: unit vectors, a product law, and a seed with validation on."""

import pytest
import torch
from torch.distributions import Distribution
from torch.nn.functional import normalize

from vmf_ops.distributions import ProductVonMisesFisher

double = torch.float64
DIMS = (5, 3, 2)


@pytest.fixture(autouse=True)
def seeded_and_validated():
    torch.manual_seed(7)
    Distribution.set_default_validate_args(True)  # torch.compile turns it off for the process


def direction(m, *batch, dtype=double):
    return normalize(torch.randn(*batch, m, dtype=double), dim=-1).to(dtype)


def product(*batch, dtype=double, kappa=None):
    loc = torch.cat([direction(m, *batch, dtype=dtype) for m in DIMS], -1)
    kappa = torch.rand(*batch, len(DIMS), dtype=dtype) * 20 if kappa is None else kappa
    return ProductVonMisesFisher(loc, kappa, DIMS)
