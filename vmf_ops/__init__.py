"""Special functions, samplers and gradients of the von Mises-Fisher distribution, for PyTorch."""

import torch as _torch  # noqa: F401  (its libraries, before the extension that links to them)

from ._C import build_info
from .cosine import vmf_cdf, vmf_icdf, vmf_sf
from .sampling import rsvi_correction, sample_vmf
from .second_kind import kve, log_kv, log_kve
from .special import iv_ratio, iv_ratio_c, ive, log_iv, log_ive
from .vmf import (
    vmf_concentration,
    vmf_concentration_c,
    vmf_entropy,
    vmf_kl_uniform,
    vmf_log_normalizer,
    vmf_mean_length,
)

__version__ = build_info()["version"]
__all__ = [
    "build_info",
    "iv_ratio",
    "iv_ratio_c",
    "ive",
    "kve",
    "log_iv",
    "log_ive",
    "log_kv",
    "log_kve",
    "rsvi_correction",
    "sample_vmf",
    "vmf_cdf",
    "vmf_concentration",
    "vmf_concentration_c",
    "vmf_entropy",
    "vmf_icdf",
    "vmf_kl_uniform",
    "vmf_log_normalizer",
    "vmf_mean_length",
    "vmf_sf",
]
