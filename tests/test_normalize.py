"""Vectors brought to unit length by the fused op: exact where others overflow, and differentiable like torch's own."""

import warnings

import pytest
import torch

from vmf_ops._normalize import _composed, normalized, normalized_and_valid
from vmf_ops.distributions import ProductVonMisesFisher, VonMisesFisher

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [2, 3, 7, 8, 9, 64, 1001])
def test_lengths_are_one_at_every_scale(dtype, size):
    """To two roundings of each coordinate, however large or small: no square overflows or vanishes."""
    info = torch.finfo(dtype)
    x = torch.randn(5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    exact = x / x.norm(dim=-1, keepdim=True)
    for scale in (1.0, 1e-20, 1e18, info.tiny * 2**10, info.max / 2**10):
        unit = normalized((x * scale).to(dtype), (size,)).double()
        expected = exact if dtype == torch.float64 else (x * scale).to(dtype).double()
        expected = expected / expected.abs().amax(-1, keepdim=True)
        expected = expected / expected.norm(dim=-1, keepdim=True)
        assert torch.all((unit - expected).abs() <= 4 * info.eps * expected.abs() + info.tiny)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_direction_is_nan(dtype):
    x = torch.tensor([[0.0, 0.0], [torch.inf, 1.0], [torch.nan, 1.0], [3.0, 4.0]], dtype=dtype)
    unit = normalized(x, (2,))
    assert unit[:3].isnan().all()
    assert torch.equal(unit[3], torch.tensor([0.6, 0.8], dtype=dtype))


def test_shells_side_by_side_are_each_of_length_one_in_any_layout():
    x = torch.randn(4, 10, 3, dtype=torch.float64).transpose(1, 2)[..., ::2]
    expected = torch.cat([normalized(part, (part.shape[-1],)) for part in x.split((2, 3), -1)], -1)
    assert torch.equal(normalized(x, (2, 3)), expected)
    torch.testing.assert_close(normalized(x, (2, 3)), _composed(x, (2, 3)), rtol=1e-15, atol=1e-15)


def test_derivatives_of_first_and_second_order_in_both_modes():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    f = lambda x: normalized(x, (2, 3))  # noqa: E731
    assert torch.autograd.gradcheck(f, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (x,))
    (gradient,) = torch.autograd.grad(f(x)[..., 0].sum(), x)
    torch.testing.assert_close(gradient, torch.func.grad(lambda x: f(x)[..., 0].sum())(x.detach()))


def test_a_concentration_is_looked_at_and_not_differentiated():
    x, kappa = torch.randn(3, 4), torch.ones(3, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unit, valid = normalized_and_valid(x, (4,), kappa)
    assert valid and not unit.requires_grad
    for bad in (-1.0, torch.nan):
        assert normalized_and_valid(x, (4,), torch.tensor([1.0, bad, 2.0]))[1] is False
    assert normalized_and_valid(torch.zeros(1, 4), (4,), torch.ones(1))[1] is False


@pytest.mark.parametrize("validate", [None, True, False])
def test_laws_refuse_as_torch_does_and_only_when_they_validate(validate):
    good, direction = torch.ones(2), torch.eye(2)
    makers = {
        "loc": lambda: VonMisesFisher(torch.zeros(2, 2), good, validate_args=validate),
        "concentration": lambda: VonMisesFisher(direction, -good, validate_args=validate),
        "loc of a product": lambda: ProductVonMisesFisher(torch.zeros(2), good[:1], (2,), validate_args=validate),
    }
    for name, make in makers.items():
        if validate is False:
            make()
        else:
            with pytest.raises(ValueError, match=f"{name.split()[0]} must"):
                make()
    law = VonMisesFisher(direction, good, validate_args=validate)
    assert law._validate_args is (validate is not False)
