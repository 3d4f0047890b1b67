"""What only a GPU shows, beside the tests that take the `device` fixture: agreement with the CPU, streams, devices,
sizes beyond 32 bits and graphs. Collected where there is one (tests/conftest.py); tests/test_cuda_on_host.py does
without.
"""

import pytest
import torch
from torch import nn

import vmf_ops
from benchmarks.cuda import graphed
from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent

ops = torch.ops.vmf_ops
DTYPES = [torch.float32, torch.float64]
FUNCTIONS = ["log_iv", "log_ive", "ive", "ratio", "ratio_complement", "kl_uniform", "log_f", "log_peak"]
DIMS = (16, 11, 5, 4, 3, 2, 41, 300)


def inputs(dtype, rows=4001):
    """Orders as of a distribution, so that every function has them in its domain, and arguments of every region."""
    generator = torch.Generator().manual_seed(0)
    v = 2.5 + 10 ** (6 * torch.rand(rows, 1, generator=generator, dtype=torch.float64) - 2)
    x = 10 ** (9 * torch.rand(rows, 3, generator=generator, dtype=torch.float64) - 3)
    return v.to(dtype), x.to(dtype)


def rotations(rows, dtype, dims=DIMS):
    generator = torch.Generator().manual_seed(1)
    parts = torch.randn(rows, sum(dims), generator=generator, dtype=torch.float64).split(dims, -1)
    loc = torch.cat([p / p.norm(dim=-1, keepdim=True) for p in parts], -1)
    kappa = 10 ** (5 * torch.rand(rows, len(dims), generator=generator, dtype=torch.float64) - 1)
    return loc.to(dtype), kappa.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementwise_values_are_the_cpus(name, dtype):
    """Each is within some eps of the truth in the measure of the accuracy tests, so they are of each other."""
    eps = torch.finfo(dtype).eps
    v, x = inputs(dtype)
    for part, (gpu, cpu) in enumerate(
        zip(
            getattr(ops, f"{name}_with_slope")(v.cuda(), x.cuda()),
            getattr(ops, f"{name}_with_slope")(v, x),
            strict=True,
        )
    ):
        scale = cpu.abs()
        if name.startswith("log"):
            scale = 1 + scale + (v * (1 + (v / x).log().abs()) + x if part == 0 else 0)
        elif name == "ive":
            # A step of the denormals is v/x of them in the slope.
            scale = scale * (1 + v * (1 + (v / x).log().abs()) + x) + torch.finfo(dtype).tiny * (1 + v / x)
        finite = cpu.isfinite()
        assert torch.equal(finite, gpu.cpu().isfinite())
        assert ((gpu.cpu() - cpu).abs() <= 64 * eps * scale)[finite].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["log_iv_order_slope", "ratio_slope", "ratio_curvature"])
def test_slopes_are_the_cpus(name, dtype):
    v, x = inputs(dtype)
    gpu, cpu = getattr(ops, name)(v.cuda(), x.cuda()).cpu(), getattr(ops, name)(v, x)
    tolerance = 1e4 * torch.finfo(dtype).eps  # a second derivative loses digits on both
    assert torch.allclose(gpu, cpu, rtol=tolerance, atol=torch.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", DTYPES)
def test_concentration_inverts_the_mean_length(dtype):
    m, kappa = torch.tensor(11.0, device="cuda", dtype=dtype), torch.logspace(-2, 3, 999, device="cuda", dtype=dtype)
    again = vmf_ops.vmf.vmf_concentration(m, vmf_ops.vmf.vmf_mean_length(m, kappa))
    # 1 - A is about (m-1)/(2 kappa): A's rounding is kappa times as large in kappa.
    assert ((again - kappa).abs() <= 16 * torch.finfo(dtype).eps * kappa * (1 + kappa)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_of_one_key_are_the_cpus(dtype):
    loc, kappa = (t.unsqueeze(0) for t in rotations(20_000, dtype))
    key = torch.tensor([123456789123456789])
    cpu = ops.sample_vmf(loc, kappa, DIMS, key, 20_000)[0]
    gpu = ops.sample_vmf(loc.cuda(), kappa.cuda(), DIMS, key.cuda(), 20_000)[0].cpu()
    eps = torch.finfo(dtype).eps
    far = [
        ((a - b).norm(dim=-1) > 200 * eps * m**0.5).double().mean()
        for a, b, m in zip(gpu.split(DIMS, -1), cpu.split(DIMS, -1), DIMS, strict=True)
    ]
    assert max(far) <= 1e-4  # an accept test within rounding


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implicit", [True, False])
def test_sampling_gradients_are_the_cpus(dtype, implicit):
    loc, kappa = (t.unsqueeze(0) for t in rotations(2000, dtype))
    key = torch.tensor([7])
    z, cosine = ops.sample_vmf(loc, kappa, DIMS, key, 2000)
    g = torch.randn(z.shape, dtype=dtype, generator=torch.Generator().manual_seed(2))
    args = (z, cosine, loc, kappa)
    cpu = ops.sample_vmf_backward(g, *args, DIMS, implicit, True, True)
    gpu = ops.sample_vmf_backward(g.cuda(), *(t.cuda() for t in args), DIMS, implicit, True, True)
    size = g.norm(dim=-1, keepdim=True)
    for a, b in zip(gpu, cpu, strict=True):
        assert ((a.cpu() - b).abs() <= 1e3 * torch.finfo(dtype).eps * size).all()


def test_the_current_stream_and_device_are_used():
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        x = torch.zeros(1 << 24, device=device)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.device(0), torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # on another stream, the op would read x before it is filled
            x.fill_(2.0)
            y = vmf_ops.log_iv(1.5, x)
        stream.synchronize()
        assert y.device == device and torch.allclose(y, vmf_ops.log_iv(1.5, torch.tensor(2.0)).to(device))


def test_tensors_of_two_devices_are_refused_as_by_torch():
    x = torch.ones(3, device="cuda")
    for op, args in ((ops.log_iv, (torch.ones(3), x)), (ops.log_iv, (x, torch.ones(3)))):
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            op(*args)
    loc, kappa = torch.eye(3, device="cuda"), torch.ones(3, 1, device="cuda")
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        ops.sample_vmf(loc[None], kappa[None], (3,), torch.tensor([1]), 3)


def test_empty_tensors_launch_nothing():
    assert vmf_ops.log_iv(1.5, torch.empty(0, 3, device="cuda")).shape == (0, 3)
    z = vmf_ops.sample_vmf(torch.empty(0, 5, device="cuda"), torch.empty(0, 1, device="cuda"))
    assert z.shape == (0, 5)


def test_more_than_32_bits_of_elements():
    """One value seen in every element, at the price of 8.6 GB of output."""
    n = 2**31 + 77
    if torch.cuda.mem_get_info()[0] < 5 * n:
        n = 2**20 + 77
    x = torch.tensor([3.0], device="cuda").expand(n)
    y = vmf_ops.log_iv(1.5, x)
    expected = vmf_ops.log_iv(1.5, x[:1])
    assert y.shape == (n,) and all((part == expected).all() for part in y.split(2**28))


def test_replays_of_a_graph_draw_afresh():
    loc, kappa = (t.cuda() for t in rotations(500, torch.float32))
    replay, z = graphed(lambda: vmf_ops.sample_vmf(loc, kappa, DIMS))
    replay()
    first = z.clone()
    replay()
    assert not torch.equal(first, z)
    assert all(torch.allclose(t.norm(dim=-1), torch.ones(500, device="cuda"), atol=1e-5) for t in z.split(DIMS, -1))


def test_a_whole_training_step_is_captured():
    """Forward, backward and Adam in one graph: no copy from the host, no synchronisation; the bound rises."""
    torch.manual_seed(0)
    dims, x = (16, 11, 5, 4, 3, 2), (torch.rand(100, 784, device="cuda") > 0.8).float()
    encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(sum(dims), 128), nn.ReLU(), nn.Linear(128, 784))
    vae = HypersphericalVAE(encoder, decoder, ProductVMFLatent(128, dims)).cuda()
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3, capturable=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = -vae.elbo(x).value.mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    replay, loss = graphed(step)
    replay()
    first = loss.item()
    for _ in range(50):
        replay()
    assert loss.item() < first
