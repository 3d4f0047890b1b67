"""The Bessel family on NumPy arrays and scalars: the kernels of vmf_ops.special with no tensor made.

Ufunc-like: arguments broadcast, `out=` takes the result, a scalar comes back for scalars, the GIL is released, threads
are torch's (torch.set_num_threads). float32 stays float32, float16 is computed in float32, all else is float64, long
doubles too. Values agree bit for bit with the torch functions, which document domain and accuracy. No derivatives.
"""

import numpy as np

from . import _C

__all__ = ["log_iv", "log_ive", "ive", "iv_ratio", "iv_ratio_c"]


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
