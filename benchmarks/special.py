"""log I_v and its relatives beside scipy's, with the largest error on the certified tables of tests/data.

torch.special.i0e (order 0 only) and torch.lgamma are a yardstick of the same x: torch's price of one special function.
"""

import numpy as np
import scipy.special
import torch

import vmf_ops
from tests import reference

from .timing import Case

TITLE, UNIT = "Bessel family", ("ns per element", 1e-9)
COUNT = 100_000


def orders(dtype):
    """name -> the orders to time, and which orders of the certified table are like them."""
    rand = lambda *range: torch.empty(COUNT, dtype=dtype).uniform_(*range)  # noqa: E731
    return {
        "v U[0,512]": (rand(0, 512), lambda v: v <= 512),
        "v = 19.5": (19.5, lambda v: (v % 1 == 0.5) & (v < 200)),
        "v U[0,3]": (rand(0, 3), lambda v: v <= 3),
        "v to 65536": (torch.exp(rand(np.log(512), np.log(65536))), lambda v: (v >= 512) & (v <= 65536)),
    }


def scipy_log_iv(v, x):
    return np.log(scipy.special.ive(v, x)) + x


def scipy_log_ive(v, x):
    return np.log(scipy.special.ive(v, x))


def scipy_iv_ratio(v, x):
    return scipy.special.ive(v, x) / scipy.special.ive(v - 1, x)


FUNCTIONS = {
    "log_iv": (vmf_ops.log_iv, scipy_log_iv),
    "log_ive": (vmf_ops.log_ive, scipy_log_ive),
    "ive": (vmf_ops.ive, scipy.special.ive),
    "iv_ratio": (vmf_ops.iv_ratio, scipy_iv_ratio),
}


def errors(name, function, table):
    """Each point's error in the measure of the accuracy tests (tests/reference.py); infinite where it is not finite."""
    with np.errstate(all="ignore"):
        got = np.asarray(function(table.v, table.x))
        column = "r" if name == "iv_ratio" else name
        difference = table.difference(column, got)
        v_slope, x_slope, scaled_x_slope = (
            (table.v * table["dv"], table.x * table["dx"], table.x * table["scaled_dx"])
            if name != "iv_ratio"
            else (0, 0, 0)
        )
        match name:
            case "iv_ratio":
                error = reference.relative(difference, table["r"], table.dtype)
            case "ive":
                condition = 1 + np.abs(table["log_ive"]) + np.abs(v_slope) + np.abs(scaled_x_slope)
                error = reference.relative(difference, table["ive"], table.dtype) / condition
            case _:
                slope = x_slope if name == "log_iv" else scaled_x_slope
                error = reference.backward_error(difference, table[name], v_slope, slope, table.dtype)
    return np.where(np.isfinite(error), error, np.inf)


def worst(error):
    lost = np.isinf(error).mean()
    finite = error[np.isfinite(error)].max(initial=0.0)
    return f"{finite:.3g}" + (f", {lost:.0%} not finite" if lost else "")


def on_tensors(function):
    return lambda v, x: function(torch.from_numpy(v), torch.from_numpy(x)).numpy()


def cases():
    for dtype in (torch.float64, torch.float32):
        short = str(dtype).removeprefix("torch.")
        tables = {family: reference.Table.load(family, short) for family in ("log", "ratio")}
        x = 10 ** torch.empty(COUNT, dtype=dtype).uniform_(-3, 4)
        x_numpy = x.numpy()
        yardsticks = {"torch i0e": lambda x=x: torch.special.i0e(x), "torch lgamma": lambda x=x: torch.lgamma(x)}
        for name, (ours, scipys) in FUNCTIONS.items():
            table = tables["ratio" if name == "iv_ratio" else "log"]
            our_error, scipy_error = errors(name, on_tensors(ours), table), errors(name, scipys, table)
            for label, (v, alike) in orders(dtype).items():
                if name == "iv_ratio":
                    v = v + 0.5
                v_numpy = v.numpy() if isinstance(v, torch.Tensor) else np.asarray(v, x_numpy.dtype)
                inside = alike(table.v - 0.5 if name == "iv_ratio" else table.v) & (table.x >= 1e-3) & (table.x <= 1e4)
                contenders = {
                    "vmf_ops": lambda f=ours, v=v, x=x: f(v, x),
                    "scipy": lambda f=scipys, v=v_numpy, x=x_numpy: quietly(f, v, x),
                }
                notes = {"max error, eps": worst(our_error[inside]), "scipy's, eps": worst(scipy_error[inside])}
                yield Case(f"{name}, {short}, {label}", contenders | yardsticks, COUNT, notes)
        v, x = orders(dtype)["v U[0,512]"][0], x.clone().requires_grad_()
        backward = {"vmf_ops": lambda v=v, x=x: torch.autograd.grad(vmf_ops.log_iv(v, x).sum(), x)}
        yield Case(f"log_iv, {short}, v U[0,512], forward + backward", backward | yardsticks, COUNT)


def quietly(function, *arguments):
    with np.errstate(all="ignore"):
        return function(*arguments)
