"""The Bessel family and the closed forms of the vMF law on NumPy arrays and scalars: the kernels, with no tensor made.

Ufunc-like: arguments broadcast, `out=` takes the result, a scalar comes back for scalars, the GIL is released, threads
are torch's (torch.set_num_threads). float32 stays float32, float16 is computed in float32, all else is float64, long
doubles too. Values agree bit for bit with the torch functions, which document domain and accuracy. No derivatives.
"""

import numpy as np

from . import _C
from .vmf import log_sphere_area

__all__ = [
    "iv_ratio",
    "iv_ratio_c",
    "ive",
    "kve",
    "log_iv",
    "log_ive",
    "log_kv",
    "log_kve",
    "vmf_concentration",
    "vmf_entropy",
    "vmf_kl_uniform",
    "vmf_log_normalizer",
    "vmf_mean_length",
]


def _call(name, op, v, x, out, shift=0):
    v, x = (a if isinstance(a, (int, float)) else np.asarray(a) for a in (v, x))
    result = np.result_type(v, x)
    if result.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got {result}")
    if result.kind != "f" or result.itemsize > 8:  # no longer digits than are computed
        result = np.dtype(np.float64)
    compute = np.float32 if result.itemsize <= 4 else np.float64
    v, x = np.asarray(v, compute), np.asarray(x, compute)
    if shift:
        v = np.asarray(v - compute(shift))
    shape = np.broadcast_shapes(v.shape, x.shape)
    if out is not None:
        if not isinstance(out, np.ndarray) or out.shape != shape:
            raise ValueError(f"{name}: expected out to be an array of shape {shape}, got {np.shape(out)}")
        if not np.can_cast(result, out.dtype, "same_kind"):
            raise TypeError(f"{name}: expected out of a dtype that holds {result}, got {out.dtype}")
    direct = out is not None and out.dtype == compute and out.flags.c_contiguous and not np.may_share_memory(out, v)
    y = out if direct and not np.may_share_memory(out, x) else np.empty(shape, compute)
    (_C.elementwise_float if compute is np.float32 else _C.elementwise_double)(op, v, x, y)
    if out is None:
        y = y.astype(result, copy=False)
        return y[()] if shape == () else y
    if y is not out:
        out[...] = y
    return out


def log_iv(v, x, out=None):
    """log I_v(x), v >= 0, x >= 0; see vmf_ops.log_iv.

    >>> float(log_iv(0.0, 0.0))
    0.0
    """
    return _call("log_iv", _C.Op.log_iv, v, x, out)


def log_ive(v, x, out=None):
    """log(e^-x I_v(x)), v >= 0, x >= 0; see vmf_ops.log_ive."""
    return _call("log_ive", _C.Op.log_ive, v, x, out)


def ive(v, x, out=None):
    """e^-x I_v(x), v >= 0, x >= 0, in place of scipy.special.ive; see vmf_ops.ive."""
    return _call("ive", _C.Op.ive, v, x, out)


def iv_ratio(v, x, out=None):
    """I_v(x)/I_{v-1}(x), v >= 1/2, x >= 0; see vmf_ops.iv_ratio."""
    return _call("iv_ratio", _C.Op.ratio, v, x, out, shift=1)


def iv_ratio_c(v, x, out=None):
    """1 - I_v(x)/I_{v-1}(x), v >= 1/2, x >= 0; see vmf_ops.iv_ratio_c."""
    return _call("iv_ratio_c", _C.Op.ratio_complement, v, x, out, shift=1)


def _of_law(name, op, m, x, out=None, scale=1.0, shift=0):
    """A function of (m, x) whose dtype is x's."""
    if isinstance(m, int | float):
        m = m if m >= 2 else np.nan
    else:
        given = np.asarray(x).dtype
        m = np.asarray(m, given if given.kind == "f" else np.float64)
        m = np.where(m >= 2, m, m.dtype.type(np.nan))
    return _call(name, op, scale * m, x, out, shift)


def _plus_area(values, m, sign, out):
    area = np.vectorize(log_sphere_area, otypes=[np.float64])(m)
    result = np.asarray(sign * (area - values), values.dtype)
    if out is None:
        return result[()]
    out[...] = result
    return out


def vmf_mean_length(m, kappa, out=None):
    """A_m(κ), m >= 2, κ >= 0; see vmf_ops.vmf_mean_length. As there, m does not change the dtype of the result.

    >>> round(float(vmf_mean_length(3, 3.0)), 6)
    0.671636
    """
    return _of_law("vmf_mean_length", _C.Op.ratio, m, kappa, out, scale=0.5, shift=1)


def vmf_kl_uniform(m, kappa, out=None):
    """KL(vMF(μ, κ) ‖ uniform); see vmf_ops.vmf_kl_uniform."""
    return _of_law("vmf_kl_uniform", _C.Op.kl_uniform, m, kappa, out)


def vmf_concentration(m, mean_length, out=None):
    """The κ with A_m(κ) = mean_length; see vmf_ops.vmf_concentration."""
    return _of_law("vmf_concentration", _C.Op.concentration, m, mean_length, out)


def vmf_entropy(m, kappa, out=None):
    """-E log vMF(z; μ, κ); see vmf_ops.vmf_entropy."""
    return _plus_area(vmf_kl_uniform(m, kappa), m, 1, out)


def vmf_log_normalizer(m, kappa, out=None):
    """log C_m(κ); see vmf_ops.vmf_log_normalizer."""
    return _plus_area(-_of_law("vmf_log_normalizer", _C.Op.log_f, m, kappa), m, -1, out)


def log_kv(v, x, out=None):
    """log K_v(x), x >= 0; see vmf_ops.log_kv.

    >>> float(log_kv(-1.5, 0.0))
    inf
    """
    return _call("log_kv", _C.SecondKindOp.log_kv, v, x, out)


def log_kve(v, x, out=None):
    """log(e^x K_v(x)), x >= 0; see vmf_ops.log_kve."""
    return _call("log_kve", _C.SecondKindOp.log_kve, v, x, out)


def kve(v, x, out=None):
    """e^x K_v(x), x >= 0, in place of scipy.special.kve; see vmf_ops.kve."""
    return _call("kve", _C.SecondKindOp.kve, v, x, out)
