"""Batch shapes of laws, points, weights and losses: each row as if alone, or an error that names both shapes."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import direction, double
from laws import seeded_and_validated as seeded_and_validated
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

import vmf_ops
from vmf_ops.distributions import (
    ProductVonMisesFisher,
    VonMisesFisher,
    log_expected_likelihood,
    vmf_nll_embedding_loss,
    vmf_nll_loss,
)

pytestmark = pytest.mark.usefixtures("device")

batches = st.lists(st.sampled_from([1, 2, 3]), max_size=3).map(tuple)
pairs = settings(max_examples=100, deadline=None)


def broadcast(*shapes):
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        return None


def rows(shape, *tensors):
    """The entries of tensors whose leading axes broadcast to shape, one index of it at a time."""
    ends = [t.shape[t.dim() - kept :] for t, kept in tensors]
    full = [t.expand(shape + end).reshape((-1,) + end) for (t, _), end in zip(tensors, ends, strict=True)]
    return zip(*full, strict=True)


def kept_axis(kappa, points):
    return kappa != () and kappa[-1] == 1 and len(kappa) >= len(points) + 1 > 1


@pairs
@given(batches, batches, batches)
def test_a_law_is_its_rows(loc_batch, kappa_batch, value_batch):
    loc, kappa, value = direction(3, *loc_batch), torch.rand(kappa_batch, dtype=double) * 9, direction(3, *value_batch)
    batch = broadcast(loc_batch, kappa_batch)
    if batch is None or kept_axis(kappa_batch, loc_batch):
        with pytest.raises(ValueError) as error:
            VonMisesFisher(loc, kappa)
        assert all(str(shape) in str(error.value) for shape in (tuple(loc.shape), kappa_batch))
        return
    law = VonMisesFisher(loc, kappa)
    assert law.batch_shape == batch and law.rsample((2,)).shape == (2, *batch, 3)
    shape = broadcast(batch, value_batch)
    if shape is None:
        with pytest.raises(ValueError):
            law.log_prob(value)
        return
    alone = [VonMisesFisher(mu, k).log_prob(z) for mu, k, z in rows(shape, (loc, 1), (kappa, 0), (value, 1))]
    got = law.log_prob(value)
    assert got.shape == shape
    torch.testing.assert_close(got.flatten(), torch.stack(alone), rtol=1e-13, atol=1e-13)


@pairs
@given(batches, batches, batches)
def test_a_product_law_is_its_rows(loc_batch, kappa_batch, value_batch):
    loc = torch.cat([direction(3, *loc_batch), direction(2, *loc_batch)], -1)
    value = torch.cat([direction(3, *value_batch), direction(2, *value_batch)], -1)
    kappa = torch.rand(*kappa_batch, 2, dtype=double) * 9
    batch = broadcast(loc_batch, kappa_batch)
    if batch is None:
        with pytest.raises(ValueError, match="broadcast"):
            ProductVonMisesFisher(loc, kappa, (3, 2))
        return
    law, shape = ProductVonMisesFisher(loc, kappa, (3, 2)), broadcast(batch, value_batch)
    assert law.rsample((2,)).shape == (2, *batch, 5)
    if shape is None:
        with pytest.raises(ValueError):
            law.log_prob(value)
        return
    alone = [
        ProductVonMisesFisher(mu, k, (3, 2)).log_prob(z) for mu, k, z in rows(shape, (loc, 1), (kappa, 1), (value, 1))
    ]
    torch.testing.assert_close(law.log_prob(value).flatten(), torch.stack(alone), rtol=1e-13, atol=1e-13)


@pairs
@given(batches, batches)
def test_divergence_and_overlap_are_those_of_rows(p_batch, q_batch):
    p, q = (VonMisesFisher(direction(3, *b), torch.rand(b, dtype=double) * 9) for b in (p_batch, q_batch))
    shape = broadcast(p_batch, q_batch)
    for function in (kl_divergence, log_expected_likelihood):
        if shape is None:
            with pytest.raises((RuntimeError, ValueError)):
                function(p, q)
            continue
        parts = rows(shape, (p.loc, 1), (p.concentration, 0), (q.loc, 1), (q.concentration, 0))
        alone = [function(VonMisesFisher(a, b), VonMisesFisher(c, d)) for a, b, c, d in parts]
        torch.testing.assert_close(function(p, q).flatten(), torch.stack(alone), rtol=1e-10, atol=1e-12)


@pairs
@given(batches, batches, batches)
def test_a_loss_has_a_row_for_each_target(loc_batch, kappa_batch, target_batch):
    loc, kappa = direction(3, *loc_batch), torch.rand(kappa_batch, dtype=double) * 9
    target = direction(3, *target_batch)
    shape, points = broadcast(loc_batch, kappa_batch, target_batch), broadcast(loc_batch, target_batch)
    longer = max(loc_batch, target_batch, key=len)
    if shape is None or points not in (loc_batch, target_batch) or kept_axis(kappa_batch, longer):
        with pytest.raises((ValueError, RuntimeError)):
            vmf_nll_loss(loc, kappa, target)
        return
    got = vmf_nll_loss(loc, kappa, target, reduction="none")
    alone = [-VonMisesFisher(mu, k).log_prob(z) for mu, k, z in rows(shape, (loc, 1), (kappa, 0), (target, 1))]
    torch.testing.assert_close(got.flatten(), torch.stack(alone), rtol=1e-13, atol=1e-13)


@pairs
@given(batches, batches)
def test_an_embedding_loss_has_a_row_for_each_target(prediction_batch, target_batch):
    prediction, target = torch.randn(*prediction_batch, 3, dtype=double), direction(3, *target_batch)
    shape = broadcast(prediction_batch, target_batch)
    if shape not in (prediction_batch, target_batch):
        with pytest.raises(ValueError, match="prediction of shape"):
            vmf_nll_embedding_loss(prediction, target)
        return
    got = vmf_nll_embedding_loss(prediction, target, reduction="none")
    alone = [vmf_nll_embedding_loss(e, z) for e, z in rows(shape, (prediction, 1), (target, 1))]
    torch.testing.assert_close(got.flatten(), torch.stack(alone), rtol=1e-13, atol=1e-13)


@settings(max_examples=80, deadline=None)
@given(batches, batches, st.sampled_from([1, 3, 4]), st.sampled_from([1, 3, 4]))
def test_a_fit_is_its_rows(z_batch, weight_batch, n, count):
    z, weights = direction(3, *z_batch, n), torch.rand(*weight_batch, count, dtype=double)
    shape = broadcast(z_batch, weight_batch)
    if shape is None or count != n:
        with pytest.raises(ValueError, match="weights of shape"):
            VonMisesFisher.fit(z, weights)
        return
    law = VonMisesFisher.fit(z, weights)
    assert law.batch_shape == shape
    alone = [VonMisesFisher.fit(points, w) for points, w in rows(shape, (z, 2), (weights, 1))]
    for got, each in ((law.loc, [x.loc for x in alone]), (law.concentration, [x.concentration for x in alone])):
        torch.testing.assert_close(
            got.reshape(len(alone), -1), torch.stack(each).reshape(len(alone), -1), rtol=1e-11, atol=1e-12
        )


def test_an_axis_of_one_is_no_batch_of_laws():
    """The three outer products of the public reports."""
    torch.manual_seed(0)
    t = normalize(torch.randn(64, 3, dtype=double), dim=-1)
    loc = normalize(t + 0.3 * torch.randn(64, 3, dtype=double), dim=-1)
    kappa = 1 + 9 * torch.rand(64, dtype=double)
    with pytest.raises(ValueError, match=r"\(64, 1\) beside loc of shape \(64, 3\).*squeeze"):
        VonMisesFisher(loc, kappa[:, None])
    with pytest.raises(ValueError, match=r"\(64, 1\) beside loc of shape \(64, 3\)"):
        vmf_nll_loss(loc, kappa[:, None], t)
    with pytest.raises(ValueError, match=r"weights of shape \(64, 1\) beside z of shape \(64, 3\).*squeeze"):
        VonMisesFisher.fit(t, kappa[:, None])
    with pytest.raises(ValueError, match=r"\(64, 1\) beside target"):
        vmf_nll_loss(loc[0], kappa[:, None], t)
    with pytest.raises(ValueError, match=r"f of shape \(64, 1\) beside z of shape \(64, 3\)"):
        vmf_ops.rsvi_correction(kappa[:, None], t, loc, kappa[:, None])
    assert vmf_ops.sample_vmf(loc, kappa[:, None]).shape == (64, 3)


def test_the_loss_of_the_public_report():
    torch.manual_seed(0)
    t = normalize(torch.randn(64, 3, dtype=double, device="cpu"), dim=-1)
    loc = normalize(t + 0.3 * torch.randn(64, 3, dtype=double, device="cpu"), dim=-1)
    kappa = 1 + 9 * torch.rand(64, dtype=double, device="cpu")
    assert vmf_nll_loss(loc, kappa, t).item() == pytest.approx(0.78129882, abs=5e-9)


def test_a_number_is_no_shape():
    law = VonMisesFisher(direction(3), 2.0)
    for draw in (law.rsample, law.sample, vmf_ops.distributions.HypersphericalUniform(3).rsample):
        with pytest.raises(TypeError, match=r"sequence of sizes, such as \(5,\)"):
            draw(5)


@pytest.mark.parametrize("dtype", [torch.float32, double])
@pytest.mark.parametrize("kappa", [1e-3, 10.0, 1e4, 1e8])
def test_pairs_by_matrix_products_keep_their_digits(dtype, kappa):
    """Many points under many laws, near the modes, against coordinates one by one; and the same derivatives."""
    m, eps = 40, torch.finfo(dtype).eps
    loc = direction(m, 50, dtype=dtype)
    near = normalize(loc[:, None] + direction(m, 50, 40) / kappa**0.5, dim=-1).to(dtype).reshape(-1, m)
    law = VonMisesFisher(loc, torch.full((50,), kappa, dtype=dtype), normalize=False)
    many = law.log_prob(near[:, None])
    assert many.shape == (2000, 50)
    each = torch.stack([law.log_prob(z) for z in near[::97]])
    # One by one every coordinate's square is rounded; by products the half distance alone.
    exact = each.double()
    distance = (near[::97, None].double() - loc.double()).square().sum(-1)
    scale = 1 + exact.abs() + kappa * distance
    assert ((many[::97].double() - exact).abs() <= 8 * eps * scale).all()
    value = near[::97].clone().requires_grad_()
    mu, k = loc.clone().requires_grad_(), law.concentration.clone().requires_grad_()
    weights = torch.rand(len(value), 50, dtype=dtype)
    found = []
    for repeats in (1, 200):  # by coordinates, by products
        z = value.repeat(repeats, 1)
        total = (VonMisesFisher(mu, k, normalize=False).log_prob(z[:, None]) * weights.repeat(repeats, 1)).sum()
        found.append([g / repeats for g in torch.autograd.grad(total, (value, mu, k))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e5 * eps, atol=20 * kappa * eps)


def peak_growth(function) -> int:
    """Bytes by which the process's largest resident size grows while the function runs."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmRSS")
    function()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's count of resident pages")
def test_many_points_under_many_laws_make_no_numbers_of_both_and_coordinates(device):
    if device.type != "cpu":
        pytest.skip("the CPU's memory is counted")
    n, k, m = 20_000, 50, 300
    z = normalize(torch.randn(n, m), dim=-1)
    law = VonMisesFisher(normalize(torch.randn(k, m), dim=-1), torch.full((k,), 50.0))
    weights = torch.rand(k, n)
    law.log_prob(z[:2000, None]), VonMisesFisher.fit(z[:2000], weights[:, :2000])  # buffers of the libraries
    bound = 3 * n * k * 8 + 2**24  # three float64 numbers a pair, and chunks with what the allocator keeps
    assert peak_growth(lambda: law.log_prob(z[:, None])) < bound
    assert peak_growth(lambda: VonMisesFisher.fit(z, weights)) < bound
