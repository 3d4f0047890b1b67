"""The laws in Pyro: sample, plate, mask, guides, NUTS; skipped where Pyro is not installed."""

import math

import pytest
import torch
from laws import DIMS, direction
from laws import seeded_and_validated as seeded_and_validated
from torch.distributions import Categorical, constraints

pyro = pytest.importorskip("pyro")

from pyro import infer, poutine  # noqa: E402

import vmf_ops.pyro as laws  # noqa: E402
from vmf_ops.distributions import VonMisesFisher, unit_vector  # noqa: E402

pole = torch.eye(3)[0]


@pytest.fixture(autouse=True)
def clear():
    pyro.clear_param_store()
    pyro.set_rng_seed(5)


def one_of_each():
    loc = torch.cat([direction(m, dtype=torch.float32) for m in DIMS])
    parts = laws.VonMisesFisher(direction(3, 2, dtype=torch.float32), torch.ones(2))
    return [
        laws.VonMisesFisher(pole, 2.0),
        laws.ProductVonMisesFisher(loc, torch.ones(3), DIMS),
        laws.HypersphericalUniform(3),
        laws.ProductHypersphericalUniform(DIMS),
        laws.VonMisesFisherMixture(Categorical(torch.ones(2)), parts),
    ]


@pytest.mark.parametrize("law", one_of_each(), ids=lambda law: type(law).__name__)
def test_sample_plate_and_mask(law):
    def model(mask):
        with pyro.plate("rows", 6), poutine.mask(mask=mask):
            return pyro.sample("z", law)

    mask = torch.tensor([True, False, True, True, False, False])
    trace = poutine.trace(model).get_trace(mask)
    trace.compute_log_prob()
    z = trace.nodes["z"]["value"]
    assert z.shape == (6, *law.event_shape)
    torch.testing.assert_close(trace.nodes["z"]["log_prob_sum"], law.log_prob(z)[mask].sum())
    assert law.expand((4,)).to_event(1).sample().shape == (4, *law.event_shape)
    assert law.expand((4,)).mask(False).log_prob(law.expand((4,)).sample()).abs().sum() == 0


DATA = VonMisesFisher(torch.tensor([0.6, 0.8, 0.0]), 20.0)


def model(z):
    mean = pyro.sample("mean", laws.HypersphericalUniform(3))
    with pyro.plate("points", len(z)):
        pyro.sample("z", laws.VonMisesFisher(mean, 20.0), obs=z)


def guide(z):
    loc = pyro.param("loc", pole, constraint=unit_vector)
    kappa = pyro.param("kappa", torch.tensor(100.0), constraint=constraints.positive)
    pyro.sample("mean", laws.VonMisesFisher(loc, kappa))


def optimise(guide, z, steps=300, rate=0.05):
    svi = infer.SVI(model, guide, pyro.optim.ClippedAdam({"lr": rate, "lrd": 0.99}), infer.Trace_ELBO())
    for _ in range(steps):
        svi.step(z)


def test_guides_find_the_posterior():
    """Flat prior, known concentration: the posterior is vMF about the mean direction, of concentration 20 n R."""
    z = DATA.sample((25,))
    total = 20 * z.sum(0)
    posterior = VonMisesFisher.from_natural(total)
    optimise(guide, z)
    found = pyro.get_param_store()
    assert found["loc"] @ posterior.loc > 0.999
    assert 0.6 < found["kappa"] / posterior.concentration < 1.6
    pyro.clear_param_store()
    delta = infer.autoguide.AutoDelta(model)
    optimise(delta, z)
    assert delta.median()["mean"] @ posterior.loc > 0.9999
    normal = infer.autoguide.AutoNormal(model)
    optimise(normal, z)
    draws = torch.stack([normal(z)["mean"] for _ in range(200)])
    assert unit_vector.check(draws).all()
    near = posterior.concentration * (1 - draws @ posterior.loc)  # of mean 1, exponential
    assert draws.mean(0) @ posterior.loc > 0.99 and 0.6 < near.mean() < 1.8


def test_nuts_draws_from_the_sphere():
    z = DATA.sample((4,))
    posterior = VonMisesFisher.from_natural(20 * z.sum(0))
    kernel = infer.NUTS(model, jit_compile=False)
    chain = infer.MCMC(kernel, num_samples=250, warmup_steps=100, disable_progbar=True)
    chain.run(z)
    draws = chain.get_samples()["mean"]
    assert draws.shape == (250, 3) and unit_vector.check(draws).all()
    spread = posterior.concentration * (1 - draws @ posterior.loc)  # exponential of mean 1 in the posterior
    assert abs(spread.mean() - 1) < 6 / math.sqrt(100)


def test_kl_is_known_to_trace_mean_field():
    z = DATA.sample((5,))
    svi = infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), infer.TraceMeanField_ELBO())
    assert math.isfinite(svi.step(z))
