"""VonMisesFisherMixture: its density, its fit by expectation maximisation, and what the fit is told and tells."""

import copy
import doctest
import math
import pickle

import pytest
import torch
from laws import direction, double
from laws import seeded_and_validated as seeded_and_validated
from torch.distributions import Categorical, MixtureSameFamily
from torch.nn.functional import normalize

import vmf_ops.distributions.mixture
from vmf_ops.distributions import HypersphericalUniform, VonMisesFisher, VonMisesFisherMixture

pytestmark = pytest.mark.usefixtures("device")


def mixture(k, m, kappa, dtype=torch.float32):
    weights = torch.rand(k, dtype=dtype) + 0.5
    law = VonMisesFisher(direction(m, k, dtype=dtype), torch.full((k,), kappa, dtype=dtype))
    return VonMisesFisherMixture(Categorical(weights), law)


def agreement(a, b, k):
    """Share of the points whose clusters go together under the best one-to-one matching, greedily."""
    table = torch.zeros(k, k, dtype=double)
    table.index_put_((a, b), torch.ones(len(a), dtype=double), accumulate=True)
    total = 0.0
    for _ in range(k):
        at = table.argmax()
        total += table.flatten()[at].item()
        table[at // k], table[:, at % k] = -1, -1
    return total / len(a)


@pytest.mark.parametrize("dtype", [torch.float32, double])
@pytest.mark.parametrize("kappa", [0.0, 3.0, 500.0, 1e7])
def test_density_is_torchs(kappa, dtype):
    law = mixture(5, 12, kappa, dtype)
    plain = MixtureSameFamily(law.mixture_distribution, law.component_distribution)
    z = law.sample((300,))
    eps = torch.finfo(dtype).eps
    # What a product in the dtype may lose, where it is taken.
    rounding = 1000 * eps + (4 * kappa * eps if kappa * eps <= 2**-11 else 0)
    torch.testing.assert_close(law.log_prob(z), plain.log_prob(z), rtol=100 * eps, atol=rounding)
    posterior = law.responsibilities(z)
    torch.testing.assert_close(posterior.sum(-1), torch.ones(300, dtype=dtype))
    joint = law.mixture_distribution.probs * law.component_distribution.log_prob(z[:, None]).exp()
    if kappa < 1e3:
        expected = joint / joint.sum(-1, keepdim=True)
        torch.testing.assert_close(posterior, expected, rtol=1e4 * eps, atol=1e3 * eps)


def test_a_point_mass_among_the_components_leaves_the_density_whole():
    loc = torch.eye(3)[:2]
    law = VonMisesFisherMixture(Categorical(torch.ones(2)), VonMisesFisher(loc, [math.inf, 2.0]))
    value = law.log_prob(torch.eye(3))
    assert value[0] == math.inf and value[1:].isfinite().all()


def test_draws_have_the_moments_of_torchs_mixture():
    law = mixture(4, 6, 8.0, double)
    z = law.sample((40_000,))
    assert z.shape == (40_000, 6)
    error = (z.mean(0) - law.mean) / (law.variance / 40_000).sqrt()
    assert error.abs().max() < 5
    assert law.sample((2, 3)).shape == (2, 3, 6) and law.sample().shape == (6,)
    surprise = HypersphericalUniform(6, dtype=double).sample((40_000,))
    weight = (law.log_prob(surprise) - HypersphericalUniform(6, dtype=double).log_prob(surprise)).exp()
    assert abs(weight.mean() - 1) < 5 * weight.std() / 200


def test_a_citizen_of_torch_distributions():
    law = mixture(3, 4, 5.0)
    z = law.sample((7,))
    for other in (copy.deepcopy(law), pickle.loads(pickle.dumps(law))):
        assert torch.equal(other.log_prob(z), law.log_prob(z))
    assert law.to(double).log_prob(z.double()).dtype == double and law.to("meta").mean.device.type == "meta"
    wide = law.expand((2,))
    assert wide.batch_shape == (2,) and wide.sample((5,)).shape == (5, 2, 4)
    torch.testing.assert_close(wide.log_prob(z[:, None]), law.log_prob(z)[:, None].expand(7, 2))
    batch = VonMisesFisherMixture(
        Categorical(torch.ones(2, 3)), VonMisesFisher(direction(4, 2, 3, dtype=torch.float32), torch.ones(2, 3))
    )
    assert batch.log_prob(batch.sample((5,))).shape == (5, 2)
    per_row = torch.func.vmap(law.log_prob)(z)
    torch.testing.assert_close(per_row, law.log_prob(z))
    kappa = torch.ones(3, requires_grad=True)
    VonMisesFisherMixture(Categorical(torch.ones(3)), VonMisesFisher(law.component_distribution.loc, kappa)).log_prob(
        z
    ).sum().backward()
    assert kappa.grad.isfinite().all()
    with pytest.raises(TypeError, match="VonMisesFisher"):
        VonMisesFisherMixture(Categorical(torch.ones(3)), torch.distributions.Normal(torch.zeros(3), 1.0))
    with pytest.raises(ValueError, match=r"\(..., 4\)|support|event"):
        law.log_prob(z[:, :3])


# ---- Fits ----

# Far apart, and overlapping so that one point in ten or so lies nearer to another's mean.
TRUTHS = [(3, 4, 60.0), (3, 3, 6.0), (64, 6, 60.0), (64, 5, 25.0), (768, 5, 300.0), (768, 4, 120.0)]


@pytest.mark.parametrize("m, k, kappa", TRUTHS)
def test_a_fit_is_as_likely_as_the_truth(m, k, kappa):
    truth = mixture(k, m, kappa)
    z = truth.sample((1500,))
    fit = VonMisesFisherMixture.fit(z, k, restarts=5, tol=1e-6, max_iter=300)
    assert fit.report.log_likelihood >= truth.log_prob(z).double().mean() - 1e-4
    assert fit.log_prob(z).double().mean().item() == pytest.approx(fit.report.log_likelihood, rel=1e-5, abs=1e-5)
    found, known = fit.responsibilities(z).argmax(-1), truth.responsibilities(z).argmax(-1)
    assert agreement(found, known, k) > (0.97 if m > 3 or kappa > 50 else 0.7)
    if m == 64 and kappa == 60:
        fewer, more = (VonMisesFisherMixture.fit(z, j, restarts=4) for j in (k - 1, k + 1))
        assert fit.bic(z) < min(fewer.bic(z), more.bic(z))
        assert fit.aic(z) < fewer.aic(z) and fit.aic(z) < fit.bic(z)


@pytest.mark.parametrize("options", [{}, {"hard": True}, {"shared_concentration": True}])
def test_no_iteration_lowers_the_likelihood(options):
    z = mixture(4, 8, 12.0, double).sample((800,))
    start = normalize(torch.randn(4, 8, dtype=double), dim=-1)
    before = -math.inf
    for steps in (1, 2, 4, 8, 16, 32, 64):
        report = VonMisesFisherMixture.fit(z, 4, init=start, max_iter=steps, tol=0.0, **options).report
        assert report.log_likelihood >= before - 1e-12
        before = report.log_likelihood


def test_a_fit_of_one_component_is_the_laws_own():
    z = VonMisesFisher(direction(5), 9.0).sample((300,))
    weights = torch.rand(300, dtype=double)
    one, law = VonMisesFisherMixture.fit(z, 1, weights=weights, tol=0.0), VonMisesFisher.fit(z, weights)
    torch.testing.assert_close(one.component_distribution.loc[0], law.loc)
    torch.testing.assert_close(one.component_distribution.concentration[0], law.concentration)
    shared = VonMisesFisherMixture.fit(z, 3, shared_concentration=True).component_distribution.concentration
    assert (shared == shared[0]).all()


@pytest.mark.parametrize("m, k, low, high", [(3, 4, 5.0, 200.0), (64, 6, 20.0, 300.0), (768, 5, 200.0, 3000.0)])
def test_laws_keep_their_own_concentrations(m, k, low, high):
    """Of draws of the law the dispersion is 1, and the default fit is as likely as the truth."""
    law = VonMisesFisher(direction(m, k, dtype=torch.float32), torch.linspace(low, high, k))
    truth = VonMisesFisherMixture(Categorical(torch.ones(k)), law)
    z = truth.sample((3000,))
    # A variance of n = 3000 / k points is off by some 3/sqrt(n) of itself for the cosines of m = 3, the most skew.
    assert ((truth.dispersion(z) - 1).abs() < 5 * 3 / (3000 / k) ** 0.5).all()
    fit = VonMisesFisherMixture.fit(z, k, restarts=5, tol=1e-6, max_iter=300)
    assert not fit.shared_concentration and fit.dispersion(z).median() < 1.3
    assert fit.report.log_likelihood >= truth.log_prob(z).double().mean() - 1e-4
    assert VonMisesFisherMixture.fit(z, 1).shared_concentration is False


def test_clusters_that_are_no_such_laws_share_a_concentration():
    """Clusters that fill few of their dimensions, as those of embeddings do."""
    spread = 0.35 * torch.linspace(1, 0, 64) ** 4
    z = normalize(torch.eye(64)[:5].repeat(200, 1) + spread * torch.randn(1000, 64), dim=-1)
    options = {"restarts": 3, "generator": torch.Generator().manual_seed(0)}
    fit, own = (VonMisesFisherMixture.fit(z, 5, shared_concentration=shared, **options) for shared in (None, False))
    assert own.dispersion(z).median() > 3 and not own.shared_concentration
    kappa = fit.component_distribution.concentration
    assert fit.shared_concentration and (kappa == kappa[0]).all()
    batches = VonMisesFisherMixture.fit([(part, torch.ones(len(part))) for part in z.split(300)], 5, init=own)
    assert batches.shared_concentration
    with pytest.raises(ValueError, match="unit vectors"):
        fit.dispersion(2 * z)


def test_weights_count_points_and_minibatches_are_exact():
    z = mixture(3, 6, 20.0, double).sample((200,))
    counts = torch.randint(0, 4, (200,))
    options = {"init": z[:3], "tol": 1e-12, "max_iter": 300}
    fits = [
        VonMisesFisherMixture.fit(z, 3, weights=counts.double(), **options),
        VonMisesFisherMixture.fit(z.repeat_interleave(counts, 0), 3, **options),
        VonMisesFisherMixture.fit(list(zip(z.split(37), counts.double().split(37), strict=True)), 3, **options),
        VonMisesFisherMixture.fit(z.repeat_interleave(counts, 0).split(50), 3, **options),
    ]
    for other in fits[1:]:
        torch.testing.assert_close(other.component_distribution.loc, fits[0].component_distribution.loc)
        torch.testing.assert_close(
            other.component_distribution.concentration, fits[0].component_distribution.concentration
        )
    loader = torch.utils.data.DataLoader(z.cpu(), batch_size=64) if z.device.type == "cpu" else z.split(64)
    assert VonMisesFisherMixture.fit(loader, 3, restarts=2).report.iterations > 1


def test_fits_repeat_with_a_generator_and_go_on_from_a_mixture():
    z = mixture(4, 5, 10.0).sample((500,))
    first, again = (VonMisesFisherMixture.fit(z, 4, generator=torch.Generator("cpu").manual_seed(3)) for _ in range(2))
    assert torch.equal(first.component_distribution.loc, again.component_distribution.loc)
    further = VonMisesFisherMixture.fit(z, 4, init=first, tol=1e-9, max_iter=300)
    assert further.report.log_likelihood >= first.report.log_likelihood - 1e-6
    for init in ("random", z[:4]):
        assert VonMisesFisherMixture.fit(z, 4, init=init).report.iterations >= 1


@pytest.mark.parametrize("dtype", [torch.float32, double])
def test_copies_of_a_point_do_not_swallow_the_fit(dtype):
    z = torch.cat([direction(4, 100, dtype=dtype), direction(4, dtype=dtype).expand(6, 4)])
    fit = VonMisesFisherMixture.fit(z, 3, restarts=3, max_concentration=1e5)
    kappa = fit.component_distribution.concentration
    assert kappa.max() <= 1e5 * (1 + 1e-6) and fit.log_prob(z).isfinite().all()
    assert fit.responsibilities(z).isfinite().all()
    dispersion = fit.dispersion(z)
    assert dispersion[kappa.argmax()].isnan() and dispersion.isfinite().sum() == 2


@pytest.mark.parametrize("dtype, kappa", [(torch.float32, 3e5), (double, 3e5)])
def test_tight_clusters_keep_their_concentration(dtype, kappa):
    z = mixture(3, 3, kappa, double).sample((600,)).to(dtype)
    fit = VonMisesFisherMixture.fit(z, 3, restarts=4, max_concentration=1e9)
    found = fit.component_distribution.concentration.double()
    assert ((found / kappa - 1).abs() < 0.4).all()
    own = VonMisesFisher.fit(z, (fit.responsibilities(z).argmax(-1) == torch.arange(3)[:, None]).double())
    torch.testing.assert_close(found, own.concentration.double(), rtol=1e-4, atol=0)


def test_an_emptied_component_starts_anew():
    """Two of the first means are one point's: the second gets nothing, and then the worst explained point."""
    truth = mixture(3, 5, 200.0)
    z = truth.sample((300,))
    loc = truth.component_distribution.loc
    start = torch.stack([loc[0], loc[1], -(loc[0] + loc[1] + loc[2])])
    fit = VonMisesFisherMixture.fit(z, 3, init=start, max_iter=200)
    assert fit.report.log_likelihood > truth.log_prob(z).mean() - 0.01
    assert fit.mixture_distribution.probs.min() > 0.05


def test_half_precision_and_other_lengths():
    z = mixture(3, 32, 40.0).sample((300,)).half()
    with pytest.raises(ValueError, match="unit vectors"):
        VonMisesFisherMixture.fit(3 * z, 3)
    fit = VonMisesFisherMixture.fit(3 * z, 3, normalize=True)
    assert fit.component_distribution.loc.dtype == torch.float16
    assert fit.log_prob(normalize(z.float(), dim=-1).half()).isfinite().all()


def test_what_cannot_be_fitted_is_said():
    z = direction(3, 10)
    with pytest.raises(ValueError, match="10 points are fewer than 11 components"):
        VonMisesFisherMixture.fit(z, 11)
    with pytest.raises(ValueError, match="only 2 different points for 3 components"):
        VonMisesFisherMixture.fit(z[:2].repeat(5, 1), 3)
    with pytest.raises(ValueError, match="weights of all points are 0"):
        VonMisesFisherMixture.fit(z, 2, weights=torch.zeros(10))
    with pytest.raises(ValueError, match="1 points of positive weight"):
        VonMisesFisherMixture.fit(z, 2, weights=torch.eye(10)[0])
    with pytest.raises(ValueError, match="num_components"):
        VonMisesFisherMixture.fit(z, 0)
    with pytest.raises(ValueError, match="max_iter"):
        VonMisesFisherMixture.fit(z, 2, max_iter=0)
    with pytest.raises(ValueError, match="k-means"):
        VonMisesFisherMixture.fit(z, 2, init="kmeans")
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        VonMisesFisherMixture.fit(z, 2, init=z)
    with pytest.raises(ValueError, match=r"weights of shape \(10, 1\) beside z"):
        VonMisesFisherMixture.fit(z, 2, weights=torch.ones(10, 1))
    with pytest.raises(TypeError, match="again"):
        VonMisesFisherMixture.fit(iter([z]), 2)
    with pytest.raises(ValueError, match="pairs"):
        VonMisesFisherMixture.fit([z], 2, weights=torch.ones(10))


def test_a_bar_is_shown_where_it_is_asked_for(capsys):
    pytest.importorskip("tqdm")
    z = direction(3, 50)
    VonMisesFisherMixture.fit(z, 2, progress=True)
    assert "EM" in capsys.readouterr().err
    VonMisesFisherMixture.fit(z, 2)
    assert not capsys.readouterr().err


def test_examples_in_the_documentation():
    torch.set_default_device(None)
    results = doctest.testmod(vmf_ops.distributions.mixture)
    assert results.attempted > 0 and results.failed == 0
