"""`python -m vmf_ops`: what was built, and a self-check of every kind of op on this machine's devices."""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

import vmf_ops
import vmf_ops.numpy
from vmf_ops.distributions import VonMisesFisher

Check = tuple[str, Callable[[torch.dtype, str], float], float]


def _worst(got: torch.Tensor, right: torch.Tensor) -> float:
    """The largest error in eps of got's dtype, relative where right is beyond 1; inf where something is not finite."""
    got = got.detach()
    error = (got.double().cpu() - right).abs() / right.abs().clamp_min(1) / torch.finfo(got.dtype).eps
    return float(error.nan_to_num(nan=torch.inf).max())


def _points(dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Arguments of the dtype, and their exact values in double precision: where closed forms do not cancel."""
    x = torch.logspace(0, 2, 41, dtype=torch.float64).to(dtype)
    return x.to(device), x.double()


def _log_iv(dtype: torch.dtype, device: str) -> float:
    """I_{1/2}(x) = sqrt(2/(πx)) sinh x."""
    x, exact = _points(dtype, device)
    return _worst(vmf_ops.log_iv(0.5, x), torch.log(torch.sqrt(2 / (torch.pi * exact)) * torch.sinh(exact)))


def _ratio(dtype: torch.dtype, device: str) -> float:
    """I_{3/2}(x) / I_{1/2}(x) = coth x - 1/x."""
    x, exact = _points(dtype, device)
    return _worst(vmf_ops.iv_ratio(1.5, x), 1 / torch.tanh(exact) - 1 / exact)


def _slope(dtype: torch.dtype, device: str) -> float:
    """d/dx log I_{1/2}(x) = coth x - 1/(2x)."""
    x, exact = _points(dtype, device)
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(vmf_ops.log_iv(0.5, x).sum(), x)
    return _worst(slope, 1 / torch.tanh(exact) - 0.5 / exact)


def _kl(dtype: torch.dtype, device: str) -> float:
    """κ coth κ - 1 - log(sinh(κ)/κ) at m = 3."""
    x, exact = _points(dtype, device)
    return _worst(vmf_ops.vmf_kl_uniform(3, x), exact / torch.tanh(exact) - 1 - torch.log(torch.sinh(exact) / exact))


def _samples(dtype: torch.dtype, device: str) -> float:
    """Standard deviations between the mean of 2e5 draws, and its gradient in κ, and A_m(κ), A_m'(κ); unit lengths."""
    m, n, kappa = 8, 200_000, torch.tensor(5.0, dtype=dtype, device=device, requires_grad=True)
    law = VonMisesFisher(torch.eye(m, dtype=dtype, device=device)[0], kappa)
    z = law.rsample((n,))
    length_error = float((z.detach().double().norm(dim=-1) - 1).abs().max())
    if not length_error < 64 * torch.finfo(dtype).eps:
        return float("inf")
    cosine = z[:, 0]
    (slope,) = torch.autograd.grad(cosine.mean(), kappa)
    mean_length = float(vmf_ops.vmf_mean_length(m, kappa.detach().double()))
    variance = float(cosine.detach().double().var())
    # A_m' is the variance of the cosine, and the gradient of one draw is of its size.
    deviation = abs(float(cosine.detach().double().mean()) - mean_length) / (variance / n) ** 0.5
    return max(deviation, abs(float(slope) - variance) / variance * n**0.5 / 4)


def _numpy(dtype: torch.dtype) -> float:
    """NumPy's form against the tensors'."""
    x, _ = _points(dtype, "cpu")
    return _worst(torch.from_numpy(vmf_ops.numpy.log_iv(2.5, np.asarray(x))), vmf_ops.log_iv(2.5, x).double())


CHECKS: list[Check] = [
    ("log_iv against a closed form, eps", _log_iv, 8),
    ("iv_ratio against a closed form, eps", _ratio, 8),
    ("slope of log_iv against a closed form, eps", _slope, 8),
    ("vmf_kl_uniform against a closed form, eps", _kl, 8),
    ("draws and their gradient, standard deviations", _samples, 6),
]


def checks() -> Iterator[tuple[str, str, float, float]]:
    """The name, place, measure and bound of each check on each device in each dtype."""
    devices = ["cpu"]
    if vmf_ops.build_info()["cuda"] and torch.cuda.is_available():
        devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    for device in devices:
        for dtype in (torch.float32, torch.float64):
            for name, check, bound in CHECKS:
                yield name, f"{device} {str(dtype)[6:]}", check(dtype, device), bound
    for dtype in (torch.float32, torch.float64):
        yield "NumPy arrays, eps", f"cpu {str(dtype)[6:]}", _numpy(dtype), 0


def main() -> int:
    argparse.ArgumentParser(prog="python -m vmf_ops", description=__doc__).parse_args()
    for name, value in vmf_ops.build_info().items():
        print(f"{name:14s} {', '.join(value) if isinstance(value, (list, tuple)) else value}")
    print(f"{'torch':14s} {torch.__version__}")
    print(f"{'python':14s} {platform.python_version()} on {platform.platform()}")
    print(f"{'gpu':14s} {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}\n")
    failed = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, place, measure, bound in checks():
            failed += not measure <= bound
            print(f"{'ok  ' if measure <= bound else 'FAIL'} {name:48s} {place:16s} {measure:8.2g} of {bound}")
    print(f"\n{failed} checks failed: do not use this build" if failed else "\nAll checks passed.")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
