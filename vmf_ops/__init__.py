"""Special functions, samplers and gradients of the von Mises-Fisher distribution, for PyTorch."""

import torch as _torch  # noqa: F401  (its libraries, before the extension that links to them)

from ._C import build_info
from .sampling import rsvi_correction, sample_vmf
from .special import ive, iv_ratio, iv_ratio_c, log_iv, log_ive

__version__ = build_info()["version"]
__all__ = ["build_info", "ive", "iv_ratio", "iv_ratio_c", "log_iv", "log_ive", "rsvi_correction", "sample_vmf"]
