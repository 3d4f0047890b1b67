"""Clustering by a mixture of von Mises-Fisher laws: an iteration of EM beside the two matrix products in it."""

import torch

from vmf_ops.distributions import VonMisesFisherMixture

from .timing import Case

TITLE, UNIT = "Mixtures, 10,000 points, float32", ("ms per iteration", 1e-3)
ITERATIONS = 5


def cases():
    for m, components in ((64, 20), (384, 50)):
        z = torch.nn.functional.normalize(torch.randn(10_000, m), dim=-1)
        centres, weights = (
            torch.nn.functional.normalize(torch.randn(components, m), dim=-1),
            torch.rand(10_000, components),
        )

        def fit(z=z, components=components):
            generator = torch.Generator().manual_seed(0)
            VonMisesFisherMixture.fit(z, components, max_iter=ITERATIONS, tol=0.0, restarts=1, generator=generator)

        def products(z=z, centres=centres, weights=weights):
            for _ in range(ITERATIONS):
                z @ centres.T, weights.T @ z

        contenders = {"vmf_ops, with its start": fit, "its two products": products}
        yield Case(f"m = {m}, {components} laws", contenders, ITERATIONS)
