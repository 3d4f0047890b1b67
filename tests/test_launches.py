"""How many kernels a GPU is given: counted on tensors of the device "meta", where every operation but a view is one."""

import pytest
import torch
from torch.distributions import kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

import vmf_ops
from vmf_ops.distributions import ProductVonMisesFisher, VonMisesFisher

DIMS = (5, 3, 2)


class Launches(TorchDispatchMode):
    """The operations that make tensors on the device; what is done to a number on the CPU is none."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, (tuple, list)) else (result,)
        is_view = any(a.alias_info is not None and not a.alias_info.is_write for a in function._schema.arguments)
        if not is_view and any(isinstance(t, torch.Tensor) and t.device.type == "meta" for t in made):
            self.names.append(function._schema.name)
        return result


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """The mode that counts is not one that traces."""
    monkeypatch.setattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)


def laws(requires_grad):
    def parameters(size, shells):
        for last in (size, shells):
            yield torch.empty(4, last, device="meta", requires_grad=requires_grad)

    options = {"normalize": False, "validate_args": False}
    loc, kappa = parameters(5, 1)
    one, product = (
        VonMisesFisher(loc, kappa.squeeze(-1), **options),
        ProductVonMisesFisher(*parameters(10, 3), DIMS, **options),
    )
    return one, product


def launches(f):
    with Launches() as counted:
        f()
    return counted.names


@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_laws(requires_grad):
    one, product = laws(requires_grad)
    launches(lambda: product.variance)  # keeps the constants of its dimensions
    most = {
        "mean": (lambda law: law.mean, 2, 6),
        "variance": (lambda law: law.variance, 4 + requires_grad, 9 + 4 * requires_grad),
        "entropy": (lambda law: law.entropy(), 2, 3),
        # Of the distance a difference, a square and a sum for each shell; one for the divergence.
        "kl": (lambda law: kl_divergence(law, law), 4, 8),
    }
    for name, (f, of_one, of_product) in most.items():
        assert len(launches(lambda f=f: f(one))) <= of_one, (name, launches(lambda f=f: f(one)))
        assert len(launches(lambda f=f: f(product))) <= of_product, (name, launches(lambda f=f: f(product)))


def test_the_gradient_of_a_divergence():
    one, _ = laws(True)
    kl = kl_divergence(one, VonMisesFisher(one.loc.detach(), 3.0, normalize=False, validate_args=False)).sum()
    assert len(launches(lambda: torch.autograd.grad(kl, (one.loc, one.concentration)))) <= 9


@pytest.mark.parametrize("name", ["mean_length", "log_normalizer", "entropy", "kl_uniform", "concentration"])
def test_a_number_for_a_dimension_costs_nothing(name):
    x = torch.empty(7, device="meta")
    assert len(launches(lambda: getattr(vmf_ops, f"vmf_{name}")(5, x))) <= 1 + 2 * (
        name in ("log_normalizer", "entropy")
    )
