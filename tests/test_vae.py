"""The latent and the VAE: what an ELBO is, an exactly integrable likelihood, and every way a module is used."""

import copy
import io
import math

import pytest
import torch
from conftest import seeded
from torch import nn

import vmf_ops
from vmf_ops.vae import ELBO, HypersphericalVAE, ProductVMFLatent

pytestmark = pytest.mark.usefixtures("device")

PRODUCTS = [(41,), (16, 11, 5, 4, 3, 2), (5, 4, 4), (2,) * 20]


def small_vae(dims=(5, 4, 2), pixels=12, **options):
    torch.manual_seed(0)
    latent = ProductVMFLatent(8, dims, **options)
    decoder = nn.Sequential(nn.Linear(sum(dims), 16), nn.ReLU(), nn.Linear(16, pixels))
    return HypersphericalVAE(nn.Sequential(nn.Linear(pixels, 8), nn.ReLU()), decoder, latent)


def images(rows=6, pixels=12):
    return torch.bernoulli(torch.full((rows, pixels), 0.4), generator=seeded(1))


# ---- The latent ----


@pytest.mark.parametrize("dims", PRODUCTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_posterior_has_unit_directions_and_concentrations_above_the_smallest(dims, dtype):
    latent = ProductVMFLatent(8, dims, dtype=dtype)
    posterior = latent(torch.randn(7, 8, dtype=dtype))
    # m squares are added and a root taken: half an ulp each, and the products' own rounding.
    for part, m in zip(posterior.loc.split(dims, -1), dims, strict=True):
        assert (part.norm(dim=-1) - 1).abs().max() <= (2 + math.sqrt(m)) * torch.finfo(dtype).eps
    assert posterior.concentration.shape == (7, len(dims)) and (posterior.concentration > 1).all()
    assert posterior.rsample((3,)).shape == (3, 7, sum(dims))


@pytest.mark.parametrize("dims", PRODUCTS)
def test_normalise_is_the_quotient_of_each_shell_and_its_length(dims):
    raw = torch.randn(9, sum(dims), dtype=torch.float64, requires_grad=True)
    expected = torch.cat([part / part.norm(dim=-1, keepdim=True) for part in raw.split(dims, -1)], -1)
    latent = ProductVMFLatent(8, dims)
    torch.testing.assert_close(latent.normalise(raw), expected, rtol=0, atol=1e-15)
    weights = torch.randn_like(raw)
    (ours,) = torch.autograd.grad((latent.normalise(raw) * weights).sum(), raw)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), raw)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dims", PRODUCTS)
def test_a_zero_direction_gives_a_unit_vector_and_finite_gradients(dims):
    vae = small_vae(dims)
    nn.init.zeros_(vae.latent.head.weight)
    nn.init.zeros_(vae.latent.head.bias)
    elbo = vae.elbo(images())
    elbo.value.sum().backward()
    assert elbo.value.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in vae.parameters())
    loc = vae.latent(torch.zeros(2, 8)).loc
    torch.testing.assert_close(loc.square().sum(-1), torch.full((2,), float(len(dims))))


def test_kl_is_that_of_each_shell_and_vanishes_where_kappa_may():
    latent = ProductVMFLatent(8, (5, 3), min_kappa=0.0)
    nn.init.zeros_(latent.head.weight)
    latent.head.bias.data[-2:] = torch.tensor([-200.0, 3.0])
    posterior = latent(torch.randn(4, 8))
    kl = posterior.kl_per_shell()
    assert (posterior.concentration[:, 0] == 0).all() and (kl[:, 0] == 0).all()
    torch.testing.assert_close(kl[:, 1], vmf_ops.vmf_kl_uniform(3, posterior.concentration[:, 1]))
    posterior.rsample().sum().backward()
    assert latent.head.bias.grad.isfinite().all()


def test_log_ratio_is_the_log_quotient_of_the_densities():
    latent = ProductVMFLatent(8, (5, 3, 2), dtype=torch.float64)
    posterior = latent(torch.randn(4, 8, dtype=torch.float64))
    z = posterior.rsample((6,))
    prior = vmf_ops.distributions.ProductHypersphericalUniform((5, 3, 2))
    torch.testing.assert_close(posterior.log_ratio(z), posterior.log_prob(z) - prior.log_prob(z))
    # Its mean under q is the KL divergence: within 5 standard errors of 20,000 draws.
    draws = posterior.log_ratio(posterior.rsample((20_000,)))
    error = 5 * draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - posterior.kl_per_shell().sum(-1)).abs() < error).all()


def test_gradient_option_reaches_the_sampler():
    grads = {}
    for gradient in ("implicit", "rsvi"):
        vae = small_vae((5,), gradient=gradient)
        torch.manual_seed(3)
        vae.elbo(images()).value.sum().backward()
        grads[gradient] = vae.latent.head.weight.grad
    torch.testing.assert_close(grads["implicit"][:-1], grads["rsvi"][:-1])  # the mean direction's: the same
    assert (grads["implicit"][-1] - grads["rsvi"][-1]).abs().max() > 1e-4  # κ's: not


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((8, (1, 3)), {}, ValueError, "dims"),
        ((8, ()), {}, ValueError, "dims"),
        ((8, (2.5, 3)), {}, TypeError, "dims"),
        ((8, "ab"), {}, TypeError, "dims"),
        ((0, (3,)), {}, ValueError, "in_features"),
        ((8, (3,)), {"min_kappa": -1.0}, ValueError, "min_kappa"),
        ((8, (3,)), {"min_kappa": math.nan}, ValueError, "min_kappa"),
        ((8, (3,)), {"gradient": "exact"}, ValueError, "implicit"),
    ],
)
def test_wrong_arguments_of_the_latent_are_named(arguments, options, error, words):
    with pytest.raises(error, match=words):
        ProductVMFLatent(*arguments, **options)


def test_one_int_is_one_shell():
    assert ProductVMFLatent(8, 5).dims == (5,)


# ---- The bound ----


@pytest.mark.parametrize("beta", [1.0, 0.3, [1.0, 0.5, 2.0], torch.tensor([0.0, 1.0, 4.0]), torch.tensor(0.5)])
def test_elbo_is_reconstruction_less_weighted_kl(beta):
    vae, x = small_vae(), images()
    torch.manual_seed(5)
    elbo = vae.elbo(x, beta)
    assert isinstance(elbo, ELBO)
    assert elbo.value.shape == elbo.reconstruction.shape == (6,) and elbo.kl.shape == (6, 3)
    expected = elbo.reconstruction - (torch.as_tensor(beta) * elbo.kl).sum(-1)
    torch.testing.assert_close(elbo.value, expected)
    torch.manual_seed(5)
    posterior = vae.latent(vae.encoder(x))
    likelihood = torch.distributions.Bernoulli(logits=vae.decoder(posterior.rsample()))
    # 12 terms of size 1 added in another order.
    torch.testing.assert_close(elbo.reconstruction, likelihood.log_prob(x).sum(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(elbo.kl, posterior.kl_per_shell())


def test_reconstruction_is_exact_at_large_logits():
    vae = small_vae(pixels=4)
    logits = torch.tensor([-200.0, -30.0, 30.0, 200.0])
    nn.init.zeros_(vae.decoder[-1].weight)
    vae.decoder[-1].bias.data = logits
    vae.double()
    for x in (torch.zeros(2, 4), torch.ones(2, 4)):
        expected = torch.distributions.Bernoulli(logits=logits.double()).log_prob(x.double()).sum(-1)
        torch.testing.assert_close(vae.elbo(x.double()).reconstruction, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("beta", [[1.0], [1.0, 2.0], torch.ones(6, 3), torch.ones(1, 3)])
def test_beta_of_a_wrong_length_is_an_error(beta):
    with pytest.raises(ValueError, match="3 shells"):
        small_vae().elbo(images(), beta)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(\.\.\., 8\).*\(4, 9\)"):
        ProductVMFLatent(8, (3,))(torch.zeros(4, 9))
    vae = small_vae()
    vae.decoder = nn.Linear(11, 5)
    for compute in (vae.elbo, vae.log_likelihood):
        with pytest.raises(ValueError, match=r"\(6, 5\) logits .* \(6, 12\)"):
            compute(images())
    with pytest.raises(ValueError, match="num_samples"):
        vae.log_likelihood(images(), num_samples=0)


def test_one_row_of_logits_does_not_serve_a_batch():
    vae = small_vae()
    vae.decoder.register_forward_hook(lambda module, arguments, logits: logits[:1])
    with pytest.raises(ValueError, match=r"\(1, 12\) logits .* \(6, 12\)"):
        vae.elbo(torch.rand(6, 12))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.bfloat16])
def test_data_of_any_dtype(dtype):
    vae = small_vae()
    vae.encoder.register_forward_pre_hook(lambda module, arguments: arguments[0].float())
    x = (torch.rand(6, 12) > 0.5).to(dtype)
    torch.manual_seed(0)
    ours = vae.elbo(x)
    torch.manual_seed(0)
    expected = vae.elbo(x.float())
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    assert vae.log_likelihood(x, 3).dtype == torch.float32


def test_the_head_is_called_as_a_module():
    """So that its hooks run, and what torch.nn.utils does to its weight counts."""
    vae, calls = small_vae(), []
    vae.latent.head.register_forward_hook(lambda *arguments: calls.append(1))
    vae.elbo(torch.rand(6, 12))
    assert calls


def test_the_prior_s_draws_suit_the_decoder():
    vae = small_vae().double()
    assert vae.decoder(vae.latent.sample_prior(3)).dtype == torch.float64


def test_images_of_any_shape_and_convolutional_decoders():
    vae = small_vae()
    vae.encoder = nn.Sequential(nn.Flatten(), *vae.encoder)
    vae.decoder = nn.Sequential(*vae.decoder, nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 1, 3, padding=1))
    x = images().view(6, 1, 3, 4)
    assert vae.elbo(x).value.shape == (6,)
    assert vae.log_likelihood(x, num_samples=5).shape == (6,)


# ---- The likelihood ----


@pytest.mark.parametrize("chunk_size", [1, 50, 100_000])
def test_log_likelihood_of_circles_is_the_integral(chunk_size):
    """On a product of two circles p(x) is an integral over two angles, which the trapezoid rule gives to 1e-10."""
    vae = small_vae((2, 2)).double()
    for parameter in vae.parameters():
        parameter.data.mul_(3)
    x = images(3).double()
    angle = torch.arange(128, dtype=torch.float64) * (2 * math.pi / 128)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    z = torch.cat([circle.repeat_interleave(128, 0), circle.repeat(128, 1)], -1)
    likelihood = torch.distributions.Bernoulli(logits=vae.decoder(z).unsqueeze(1)).log_prob(x).sum(-1)
    exact = likelihood.logsumexp(0) - math.log(len(z))
    samples = 100 if chunk_size == 1 else 20_000
    with torch.no_grad():
        posterior = vae.latent(vae.encoder(x))
        draws = posterior.rsample((20_000,))
        terms = torch.distributions.Bernoulli(logits=vae.decoder(draws)).log_prob(x).sum(-1)
        weights = (terms - posterior.log_ratio(draws) - exact).exp()
    error = 5 * weights.std(0) / math.sqrt(samples)
    torch.manual_seed(2)
    estimate = vae.log_likelihood(x, samples, chunk_size)
    assert ((estimate - exact).exp() - 1).abs().le(error).all()
    # and the bound is a bound
    bound = torch.stack([vae.elbo(x).value for _ in range(200)]).mean(0)
    assert (bound < exact).all()


def test_log_likelihood_decodes_at_most_a_chunk_at_once():
    vae = small_vae()
    sizes = []
    vae.decoder.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    vae.log_likelihood(images(50), num_samples=7, chunk_size=20)
    assert max(sizes) <= 20 and sum(sizes) == 50 * 7


def test_log_likelihood_keeps_no_graph():
    assert not small_vae().log_likelihood(images(), num_samples=3).requires_grad


# ---- A module like any other ----


@pytest.mark.parametrize("dims", [(5, 4, 2), (2, 2), (7,)])
def test_training_raises_the_bound(dims):
    vae, x = small_vae(dims), images(64)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = -vae.elbo(x).value.mean()
        loss.backward()
        optimizer.step()
        values.append(-loss.item())
    assert sum(values[-20:]) / 20 > sum(values[:5]) / 5 + 0.3


def test_copies_and_files_hold_the_same_model():
    vae, x = small_vae(), images()
    file = io.BytesIO()
    torch.save(vae.state_dict(), file)
    file.seek(0)
    other = small_vae()
    nn.init.normal_(other.latent.head.weight)
    other.load_state_dict(torch.load(file, weights_only=True))
    results = []
    for model in (vae, copy.deepcopy(vae), other):
        torch.manual_seed(4)
        results.append(model.elbo(x).value)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert set(vae.latent.state_dict()) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("dims", [(5, 4, 2), (3, 3)])
def test_compiles_whole_to_the_same_values_and_gradients(dims):
    vae, x = small_vae(dims), images()
    compiled = torch.compile(vae, fullgraph=True, backend="aot_eager")
    grads = []
    for model in (vae, compiled):
        vae.zero_grad()
        torch.manual_seed(6)
        elbo = model(x, 0.5)
        elbo.value.sum().backward()
        grads.append([elbo.value.detach()] + [parameter.grad.clone() for parameter in vae.parameters()])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [(5, 4, 2), (3, 3)])
def test_log_likelihood_compiles_whole(dims):
    vae, x = small_vae(dims), torch.rand(6, 12)
    compiled = torch.compile(lambda x: vae.log_likelihood(x, 3), fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    ours = compiled(x)
    torch.manual_seed(0)
    assert torch.allclose(ours, vae.log_likelihood(x, 3), atol=1e-5)


@pytest.mark.parametrize("dims", [(4,), (5, 3, 2)])
def test_gradients_of_each_row_through_vmap(dims):
    vae, x = small_vae(dims), images()
    parameters = dict(vae.named_parameters())

    def value(parameters, row):
        return torch.func.functional_call(vae, parameters, (row.unsqueeze(0),)).value.sum()

    per_row = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0), randomness="different")(parameters, x)
    for name, gradient in per_row.items():
        assert gradient.shape == (len(x), *parameters[name].shape) and gradient.isfinite().all()
    weight = vae.latent.head.weight.detach()
    direction = torch.randn_like(weight)

    def kl(weight):
        return torch.func.functional_call(vae, parameters | {"latent.head.weight": weight}, (x,)).kl.sum()

    _, forward = torch.func.jvp(kl, (weight,), (direction,))
    torch.testing.assert_close(forward, (torch.func.grad(kl)(weight) * direction).sum())


def test_autocast_keeps_the_posterior_in_single_precision():
    vae, x = small_vae(), images()
    with torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16):
        posterior = vae.latent(vae.encoder(x))
        elbo = vae.elbo(x)
        likelihood = vae.log_likelihood(x, num_samples=4)
    assert posterior.loc.dtype == posterior.concentration.dtype == elbo.value.dtype == torch.float32
    elbo.value.sum().backward()
    assert elbo.value.isfinite().all() and likelihood.isfinite().all()
    # 5 shells' squares added in float32, whatever the head's precision.
    for part in posterior.loc.split((5, 4, 2), -1):
        assert (part.norm(dim=-1) - 1).abs().max() < 4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_modules_of_another_precision(dtype):
    vae, x = small_vae().to(dtype), images().to(dtype)
    elbo = vae.elbo(x)
    elbo.value.sum().backward()
    assert elbo.value.isfinite().all()
    assert vae.latent.head.weight.grad.dtype == dtype
    assert vae.log_likelihood(x, num_samples=3).isfinite().all()


@pytest.mark.parametrize("kappa", [30.0, [30.0, 5.0]])
def test_a_latent_of_fixed_concentration(kappa):
    latent = ProductVMFLatent(8, (5, 3), kappa=kappa)
    posterior = latent(torch.randn(6, 8))
    expected = torch.tensor(kappa).expand(2)
    assert torch.equal(posterior.concentration, expected.expand(6, 2))
    assert latent.head.out_features == 8 and "kappa=[30" in repr(latent)
    kl = posterior.kl_per_shell()
    assert (kl == kl[0]).all()
    posterior.rsample().sum().backward()
    assert latent.head.weight.grad.isfinite().all()
    assert "kappa" in latent.state_dict() and "kappa" not in ProductVMFLatent(8, (5, 3)).state_dict()
    assert latent.double()(torch.randn(6, 8).double()).concentration.dtype == torch.float64
    for bad in (-1.0, [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="kappa"):
            ProductVMFLatent(8, (5, 3), kappa=bad)
