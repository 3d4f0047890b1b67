"""Sums over each shell's coordinates and their transpose."""

import pytest
import torch

from vmf_ops._shells import repeat_by_shell, sum_by_shell


@pytest.mark.parametrize("dims", [(4,), (3, 3), (5, 3, 2), (40, 2, 2, 2, 2)])  # the last: too uneven to be padded
def test_sums_and_repeats_are_each_others_transpose(dims):
    t = torch.randn(3, sum(dims), dtype=torch.float64, requires_grad=True)
    s = torch.randn(3, len(dims), dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(sum_by_shell(t, dims), torch.stack([p.sum(-1) for p in t.split(dims, -1)], -1))
    assert torch.equal(repeat_by_shell(s, dims), s.repeat_interleave(torch.tensor(dims), -1))
    for f, x in ((sum_by_shell, t), (repeat_by_shell, s)):
        call = lambda x, f=f: f(x, dims)  # noqa: E731
        assert torch.autograd.gradcheck(call, x, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(call, x)
        assert torch.equal(torch.func.vmap(call)(x), call(x))
        cube = lambda x, f=f: f(x**3, dims)  # noqa: E731
        tangent = torch.ones_like(x)
        first = lambda x, g=cube, t=tangent: torch.func.jvp(g, (x,), (t,))[1]  # noqa: E731
        torch.testing.assert_close(torch.func.jvp(first, (x,), (tangent,))[1], f(6 * x, dims))


def test_a_bad_shell_leaves_the_others_alone():
    t = torch.tensor([1.0, torch.inf, torch.nan, 2, 3, 4])
    sums = sum_by_shell(t, (1, 2, 3))
    assert sums[0] == 1 and sums[1].isnan() and sums[2] == 9
