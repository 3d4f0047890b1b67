"""vmf_ops.numpy: the torch functions' values bit for bit, as ufuncs behave."""

import threading

import numpy as np
import pytest
import scipy.special
import torch

import vmf_ops
import vmf_ops.numpy as vnp

NAMES = ["log_iv", "log_ive", "ive", "iv_ratio", "iv_ratio_c"]
each = pytest.mark.parametrize("name", NAMES)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_torch_bit_for_bit(name, dtype):
    rng = np.random.default_rng(0)
    v = (rng.random((7, 1, 300)) * 100 + 0.5).astype(dtype)
    x = (10 ** rng.uniform(-3, 4, (5, 300))).astype(dtype)
    expected = getattr(vmf_ops, name)(torch.from_numpy(v), torch.from_numpy(x)).numpy()
    f = getattr(vnp, name)
    assert np.array_equal(f(v, x), expected) and f(v, x).dtype == dtype
    strided = f(v[::2, :, ::-3], x[:, ::-3])
    assert np.array_equal(strided, expected[::2, :, ::-3])


@each
def test_scalars_dtypes_and_out(name):
    f = getattr(vnp, name)
    assert isinstance(f(1.5, 2.0), np.float64) and f(1, 2) == f(1.0, 2.0)
    assert f(2.0, np.float32(3)).dtype == np.float32
    assert f(np.float64(2), np.float32(3)).dtype == np.float64
    assert f(np.array([2]), np.array([3])).dtype == np.float64
    assert f(np.float16(2), np.float16(3)).dtype == np.float16
    assert f(np.ones((0, 3)), 2.0).shape == (0, 3)
    v, x = np.array([[1.0], [2.0]]), np.array([0.5, 3.0, 40.0])
    out = np.empty((2, 3))
    assert f(v, x, out=out) is out and np.array_equal(out, f(v, x))
    transposed = np.empty((3, 2)).T
    f(v, x, out=transposed)
    assert np.array_equal(transposed, out)
    square = np.array([1.0, 2.0, 3.0])
    expected = f(square, square)
    assert np.array_equal(f(square, square, out=square), expected)  # in place
    with pytest.raises(ValueError, match="out"):
        f(v, x, out=np.empty(3))
    with pytest.raises(TypeError, match="out"):
        f(v, x, out=np.empty((2, 3), np.int64))
    with pytest.raises(TypeError, match=name):
        f(1j, x)
    with pytest.raises(ValueError):
        f(np.ones(2), np.ones(3))


def test_ive_stands_in_for_scipy():
    rng = np.random.default_rng(1)
    v, x = rng.uniform(0, 20, 1000), rng.uniform(1e-3, 100, 1000)
    # AMOS, behind scipy, is itself off by some hundred eps at such orders.
    np.testing.assert_allclose(vnp.ive(v, x), scipy.special.ive(v, x), rtol=1000 * np.finfo(float).eps)


def test_runs_without_the_gil():
    v, x = np.full(400_000, 2.5), np.linspace(0.1, 30, 400_000)
    expected, results = vnp.log_iv(v, x), [None] * 4

    def work(i):
        results[i] = vnp.log_iv(v, x)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(np.array_equal(r, expected) for r in results)


def test_long_doubles_have_no_more_digits_than_are_computed():
    assert vmf_ops.numpy.ive(1, np.longdouble(2)).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_closed_forms_of_the_law_are_torchs(dtype):
    kappa, m = np.array([0.0, 1e-3, 2.0, 1e5], dtype), np.array([[2], [3], [50]])
    lengths = np.array([0.0, 0.1, 0.9, 1.0], dtype)
    for name in ("vmf_mean_length", "vmf_kl_uniform", "vmf_entropy", "vmf_log_normalizer", "vmf_concentration"):
        argument = lengths if name == "vmf_concentration" else kappa
        ours, theirs = getattr(vnp, name), getattr(vmf_ops, name)
        for order in (m, 3):
            expected = theirs(torch.from_numpy(order) if order is m else order, torch.from_numpy(argument)).numpy()
            got = ours(order, argument)
            assert got.dtype == dtype
            # The area is added in float64 here.
            np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)
            out = np.empty_like(got)
            assert ours(order, argument, out=out) is out
            np.testing.assert_array_equal(out, got)
        assert np.isnan(ours(1, argument)).all() and np.isnan(ours(3, dtype(-1.0)))
        assert isinstance(ours(3, dtype(0.5)), dtype)
