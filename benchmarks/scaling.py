"""How a draw and log_iv grow with threads, rows and shells."""

import os

import torch

import vmf_ops

from .sampler import shells
from .timing import Case

TITLE, UNIT = "Scaling, float32", ("ns per element", 1e-9)


def with_threads(threads, function):
    def call():
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return function()
        finally:
            torch.set_num_threads(before)

    return call


def cases():
    counts = sorted({1, 2, 4, 8, 16, os.cpu_count() or 1} & set(range(1, (os.cpu_count() or 1) + 1)))
    for rows in (100, 10_000, 1_000_000):
        x = 10 ** torch.empty(rows).uniform_(-2, 3)
        calls = {f"{n} threads": with_threads(n, lambda x=x: vmf_ops.log_iv(7.5, x)) for n in counts}
        yield Case(f"log_iv of {rows} numbers", calls, rows)
    for dims, rows in (((16,), 100), ((16,), 10_000), ((16,), 100_000), ((4,) * 4, 10_000), ((4,) * 40, 1000)):
        loc, kappa = shells(dims, rows, torch.float32)
        draw = lambda loc=loc, kappa=kappa, dims=dims: vmf_ops.sample_vmf(loc, kappa, dims)  # noqa: E731
        calls = {f"{n} threads": with_threads(n, draw) for n in counts}
        yield Case(f"sample_vmf, {rows} rows of {len(dims)} shells of R^{dims[0]}", calls, loc.numel())
