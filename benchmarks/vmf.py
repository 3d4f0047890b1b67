"""Closed forms of the von Mises-Fisher law, beside the textbook formulas on scipy's Bessel functions."""

import math

import numpy as np
import scipy.special
import torch

import vmf_ops

from .timing import Case

TITLE, UNIT = "von Mises-Fisher closed forms, six shells m = 16, 11, 5, 4, 3, 2", ("ns per element", 1e-9)
SHELLS, ROWS = (16, 11, 5, 4, 3, 2), 10_000


def scipy_log_normalizer(m, kappa):
    order = m / 2 - 1
    return order * np.log(kappa) - m / 2 * math.log(2 * math.pi) - np.log(scipy.special.ive(order, kappa)) - kappa


def scipy_mean_length(m, kappa):
    return scipy.special.ive(m / 2, kappa) / scipy.special.ive(m / 2 - 1, kappa)


def scipy_kl_uniform(m, kappa):
    log_area = math.log(2) + m / 2 * math.log(math.pi) - scipy.special.gammaln(m / 2)
    return kappa * scipy_mean_length(m, kappa) + scipy_log_normalizer(m, kappa) + log_area


def scipy_entropy(m, kappa):
    return -kappa * scipy_mean_length(m, kappa) - scipy_log_normalizer(m, kappa)


FUNCTIONS = {
    "vmf_mean_length": scipy_mean_length,
    "vmf_log_normalizer": scipy_log_normalizer,
    "vmf_entropy": scipy_entropy,
    "vmf_kl_uniform": scipy_kl_uniform,
}


def cases():
    m = torch.tensor(SHELLS)
    for dtype in (torch.float64, torch.float32):
        short = str(dtype).removeprefix("torch.")
        kappa = 10 ** torch.empty(ROWS, len(SHELLS), dtype=dtype).uniform_(-2, 3)
        with_grad = kappa.clone().requires_grad_()
        m_numpy, kappa_numpy = np.asarray(SHELLS, kappa.numpy().dtype), kappa.numpy()
        for name, textbook in FUNCTIONS.items():
            ours = getattr(vmf_ops, name)
            contenders = {
                "vmf_ops": lambda f=ours, k=kappa: f(m, k),
                "vmf_ops forward + backward": lambda f=ours, k=with_grad: torch.autograd.grad(f(m, k).sum(), k),
                "scipy textbook": lambda f=textbook, m=m_numpy, k=kappa_numpy: f(m, k),
                "torch i0e": lambda k=kappa: torch.special.i0e(k),
            }
            yield Case(f"{name}, {short}", contenders, kappa.numel())
        mean_length = vmf_ops.vmf_mean_length(m, kappa)
        contenders = {
            "vmf_ops": lambda a=mean_length: vmf_ops.vmf_concentration(m, a),
            "torch i0e": lambda k=kappa: torch.special.i0e(k),
        }
        yield Case(f"vmf_concentration, {short}", contenders, kappa.numel())
