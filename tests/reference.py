"""The errors of the Bessel family on the certified tables of tests/data (scripts/make_tables.py), in units of its bars.

python tests/reference.py [cuda]   # every function's largest error and where, as JSON; VMF_OPS_ISA chooses the loops
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

DATA = pathlib.Path(__file__).resolve().parent / "data"
DTYPES = ("float64", "float32")


class Table:
    """Certified values of one family (log, ratio), as scripts/make_tables.py names its columns."""

    def __init__(self, columns):
        self.columns = columns
        self.v, self.x = self["v"], self["x"]
        self.dtype = self.v.dtype

    @classmethod
    def load(cls, family, dtype):
        file = np.load(DATA / f"bessel_{dtype}.npz")
        prefix = f"{family}/"
        return cls({key[len(prefix) :]: file[key] for key in file if key.startswith(prefix)})

    def __getitem__(self, name):
        return self.columns[name]

    def difference(self, name, got):
        """got - exact, in float64; where the exact value overflows got's dtype, infinity is right."""
        exact = self[name]
        got_wide = got.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            difference = got_wide - exact
            if f"{name}_low" in self.columns:
                difference -= self[f"{name}_low"].astype(np.float64) * np.spacing(np.abs(exact))
            right = np.isinf(got_wide) & (got_wide == exact.astype(got.dtype))
        return np.where(right, 0.0, difference)


def backward_error(difference, f, v_slope, x_slope, dtype):
    """E = |err| / (eps (1 + |f| + |v df/dv| + |x df/dx|)), which is a few for a backward-stable function."""
    return np.abs(difference) / (np.finfo(dtype).eps * (1 + np.abs(f) + np.abs(v_slope) + np.abs(x_slope)))


def relative(difference, scale, dtype):
    """|err| / (eps |scale|); below the smallest normal number the spacing no longer shrinks."""
    limits = np.finfo(dtype)
    return np.abs(difference) / (limits.eps * np.maximum(np.abs(scale), float(limits.tiny)))


def tensor(array):
    import torch

    return torch.from_numpy(array).to(torch.get_default_device())


def derivatives(function, v, x, orders):
    """function(v, x) and its derivatives in x up to that order, by autograd."""
    import torch

    v, x = tensor(v), tensor(x).requires_grad_()
    out = [function(v, x)]
    for order in range(orders):
        out.append(torch.autograd.grad(out[-1].sum(), x, create_graph=order + 1 < orders)[0])
    return [value.numpy(force=True) for value in out]


def order_slope(function, v, x):
    import torch

    v = tensor(v).requires_grad_()
    return torch.autograd.grad(function(v, tensor(x)).sum(), v)[0].numpy(force=True)


def log_errors(t):
    """name -> error at each point of a log table, in the units that bars are stated in."""
    import vmf_ops

    dtype = t.dtype
    v, x = t.v.astype(np.float64), t.x.astype(np.float64)
    v_slope, x_slope, scaled_x_slope = v * t["dv"], x * t["dx"], x * t["scaled_dx"]
    log_iv, dx, dx2, dx3 = derivatives(vmf_ops.log_iv, t.v, t.x, 3)
    log_ive, scaled_dx = derivatives(vmf_ops.log_ive, t.v, t.x, 1)
    ive, ive_dx = derivatives(vmf_ops.ive, t.v, t.x, 1)
    dv, scaled_dv = order_slope(vmf_ops.log_iv, t.v, t.x), order_slope(vmf_ops.log_ive, t.v, t.x)
    condition = 1 + np.abs(t["log_ive"]) + np.abs(v_slope) + np.abs(scaled_x_slope)
    with np.errstate(over="ignore"):
        v_over_x2 = v / x / x
        return {
            "log_iv": backward_error(t.difference("log_iv", log_iv), t["log_iv"], v_slope, x_slope, dtype),
            "log_ive": backward_error(t.difference("log_ive", log_ive), t["log_ive"], v_slope, scaled_x_slope, dtype),
            "ive": relative(t.difference("ive", ive), t["ive"], dtype) / condition,
            "d log_iv/dx": relative(t.difference("dx", dx), t["dx"], dtype),
            # r + v/x - 1, which has a zero: the error of its terms, and of the smaller ones in v/x - (1 - r).
            "d log_ive/dx": relative(t.difference("scaled_dx", scaled_dx), 1 + t["dx"], dtype),
            "d log_ive/dx, of its terms": relative(
                t.difference("scaled_dx", scaled_dx), 2 * v / x - t["scaled_dx"], dtype
            ),
            "d2 log_iv/dx2": relative(t.difference("dx2", dx2), t["dx2"] + 2 * v_over_x2, dtype),
            "d3 log_iv/dx3": relative(t.difference("dx3", dx3), np.abs(t["dx3"]) + 4 * v_over_x2 / x, dtype),
            "d log_iv/dv": relative(t.difference("dv", dv), t["dv"], dtype),
            "d log_iv/dv, mixed": relative(t.difference("dv", dv), np.maximum(np.abs(t["dv"]), 1), dtype),
            "d log_ive/dv": relative(t.difference("dv", scaled_dv), t["dv"], dtype),
        }


def ratio_errors(t):
    """name -> error at each point of a ratio table, in eps relative."""
    import vmf_ops

    dtype = t.dtype
    r, dx, dx2 = derivatives(vmf_ops.iv_ratio, t.v, t.x, 2)
    complement, complement_dx = derivatives(vmf_ops.iv_ratio_c, t.v, t.x, 1)
    return {
        "iv_ratio": relative(t.difference("r", r), t["r"], dtype),
        "iv_ratio_c": relative(t.difference("complement", complement), t["complement"], dtype),
        "d iv_ratio/dx": relative(t.difference("dx", dx), t["dx"], dtype),
        "d iv_ratio_c/dx": relative(t.difference("dx", -complement_dx), t["dx"], dtype),
        "d2 iv_ratio/dx2": relative(t.difference("dx2", dx2), t["dx2"], dtype),
    }


FAMILIES = {"log": log_errors, "ratio": ratio_errors}


def largest_errors():
    """dtype -> name -> region -> [largest error, v, x]; NaN counts as the largest."""
    report = {}
    for dtype in DTYPES:
        for family, errors_of in FAMILIES.items():
            t = Table.load(family, dtype)
            errors = errors_of(t)
            v = t.v.astype(np.float64)
            regions = {"all": v >= 0, "v = 0": v == 0, "1e-6 <= v <= 2e4": (v >= 0.99999e-6) & (v <= 2e4)}
            for name, error in errors.items():
                error = np.where(np.isnan(error), np.inf, error)
                for region, inside in regions.items():
                    if inside.any():
                        i = np.flatnonzero(inside)[error[inside].argmax()]
                        report.setdefault(dtype, {}).setdefault(name, {})[region] = [
                            float(error[i]),
                            float(v[i]),
                            float(t.x[i]),
                        ]
    return report


def environment(target):
    """For a process that imports the same copy of the package, with the loops of that ISA, or for cuda."""
    import vmf_ops

    path = [str(pathlib.Path(vmf_ops.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    changed = {} if target == "cuda" else {"VMF_OPS_ISA": target}
    return dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, path)), **changed)


def largest_errors_on(target):
    """largest_errors() of the loops compiled for that ISA, which is chosen when the package is imported, or of cuda."""
    result = subprocess.run(
        [sys.executable, __file__, target], env=environment(target), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{target}: {result.stderr}")
    return json.loads(result.stdout)


def available_targets():
    """The ISAs compiled that this processor runs, and cuda where it is compiled and there is a GPU."""
    import torch

    import vmf_ops

    best = {"AVX512": 3, "AVX2": 2}.get(torch.backends.cpu.get_cpu_capability(), 1)
    info = vmf_ops.build_info()
    isas = [isa for isa in info["isas_compiled"] if isa in ("default", "avx2", "avx512")[:best]]
    return isas + ["cuda"] * (info["cuda"] and torch.cuda.is_available())


if __name__ == "__main__":
    if sys.argv[1:] == ["cuda"]:
        import torch

        torch.set_default_device("cuda")
    json.dump(largest_errors(), sys.stdout)
