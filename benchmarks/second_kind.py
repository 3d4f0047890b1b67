"""log K_v and the law of the cosine beside scipy's; torch.special.i0e and iv_ratio of the same numbers as yardsticks.

scipy has the law on the circle alone, as that of an angle.
"""

import numpy as np
import scipy.special
import scipy.stats
import torch

import vmf_ops

from .special import COUNT, orders, quietly
from .timing import Case

TITLE, UNIT = "Second kind, law of the cosine", ("ns per element", 1e-9)


def scipy_log_kv(v, x):
    return np.log(scipy.special.kve(v, x)) - x


def scipy_log_kve(v, x):
    return np.log(scipy.special.kve(v, x))


FUNCTIONS = {
    "log_kv": (vmf_ops.log_kv, scipy_log_kv),
    "log_kve": (vmf_ops.log_kve, scipy_log_kve),
    "kve": (vmf_ops.kve, scipy.special.kve),
}


def scipy_cdf(kappa, w):
    """On the circle: the cosine is at most w where the angle is at least acos w, to either side."""
    return 2 * scipy.stats.vonmises.cdf(-np.arccos(w), kappa)


def scipy_icdf(kappa, q):
    return np.cos(scipy.stats.vonmises.ppf(0.5 * q, kappa))


def lost(function, *arguments):
    """The share of results that are not finite, as a cell."""
    return f"{1 - np.isfinite(quietly(function, *arguments)).mean():.0%}"


def cases():
    for dtype in (torch.float64, torch.float32):
        short = str(dtype).removeprefix("torch.")
        x = 10 ** torch.empty(COUNT, dtype=dtype).uniform_(-3, 4)
        x_numpy = x.numpy()
        for name, (ours, scipys) in FUNCTIONS.items():
            for label, (v, _) in orders(dtype).items():
                v_numpy = v.numpy() if isinstance(v, torch.Tensor) else np.asarray(v, x_numpy.dtype)
                contenders = {
                    "vmf_ops": lambda f=ours, v=v, x=x: f(v, x),
                    "scipy": lambda f=scipys, v=v_numpy, x=x_numpy: quietly(f, v, x),
                    "yardstick": lambda x=x: torch.special.i0e(x),
                }
                notes = {"scipy's not finite": lost(scipys, v_numpy, x_numpy)}
                yield Case(f"{name}, {short}, {label}", contenders, COUNT, notes)
        v, with_grad = orders(dtype)["v U[0,512]"][0], x.clone().requires_grad_()
        backward = {
            "vmf_ops": lambda v=v, x=with_grad: torch.autograd.grad(vmf_ops.log_kv(v, x).sum(), x),
            "yardstick": lambda x=x: torch.special.i0e(x),
        }
        yield Case(f"log_kv, {short}, v U[0,512], forward + backward", backward, COUNT)
        yield from laws(dtype, short)


def laws(dtype, short, count=COUNT // 10):
    kappa = 10 ** torch.empty(count, dtype=dtype).uniform_(-2, 3)
    w, q = torch.empty(count, dtype=dtype).uniform_(-1, 1), torch.empty(count, dtype=dtype).uniform_(0, 1)
    numpys = kappa.numpy()
    functions = (vmf_ops.vmf_cdf, w, scipy_cdf), (vmf_ops.vmf_sf, w, None), (vmf_ops.vmf_icdf, q, scipy_icdf)
    for ours, given, scipys in functions:
        x_numpy = given.numpy()
        for m in (2, 3, 16, 512):
            contenders = {"vmf_ops": lambda f=ours, m=m, x=given, k=kappa: f(m, k, x)}
            if m == 2 and scipys:
                contenders["scipy"] = lambda f=scipys, x=x_numpy, k=numpys: quietly(f, k, x)
            contenders["yardstick"] = lambda m=m, k=kappa: vmf_ops.iv_ratio(m / 2, k)
            yield Case(f"{ours.__name__}, {short}, m = {m}", contenders, count)
