"""The CUDA kernels beside a device copy, torch.randn and a Gaussian VAE: python -m benchmarks.cuda --save.

Times are of CUDA events about enough calls to last 5 ms, the least of ten; of calls below half a millisecond, a graph
of 20 is replayed, and the VAE's steps are replays too.
"""

import argparse
import datetime
import statistics

import torch

import vmf_ops
from vmf_ops.vae import HypersphericalVAE, ProductVMFLatent

from . import latent
from .__main__ import RESULTS
from .peers import on_each_shell, power_spherical, s_vae
from .sampler import KAPPA, shells
from .vae import HIDDEN, GaussianVAE, mlps
from .vae import SHELLS as VAE_SHELLS

CAPTURED = ("class, unvalidated", "ops", "Power Spherical", "Gaussian")  # what waits for nothing
SHORT, HELD = 0.5, 20  # milliseconds; calls that a graph holds
SAMPLED = ((3,), (11,), (41,), (512,), (16, 11, 5, 4, 3, 2))


def milliseconds(function, repeats=10, capture=True):
    """Of one call, on the current stream; a median beside the minimum would show an unsteady clock.

    Of a short one, whose launches take the host longer than the device takes for it, the replay of a graph that holds
    many is timed: not with capture=False, for what waits for the device or is a replay itself.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def events(run, calls):
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / calls

    once = statistics.median(events(function, 1) for _ in range(3))
    run, held = function, 1
    if capture and once < SHORT:
        try:
            run, held = graphed(function, HELD)[0], HELD
        except RuntimeError as error:
            print(f"(what follows times launches too: no graph was made, {str(error).splitlines()[0]})", flush=True)
    calls = max(1, round(5 / max(statistics.median(events(run, 1) for _ in range(3)), 1e-3)))
    return min(events(run, calls) for _ in range(repeats)) / held


def graphed(step, calls=1):
    """The replay of so many calls, warmed up on a side stream as CUDA graphs ask, and the last result."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            result = step()
    return (lambda kept=step: graph.replay()), result  # what the step holds must outlive the graph


def table(write, title, header, rows):
    write(f"\n### {title}\n")
    write("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for cells in rows:
        write("| " + " | ".join(cell if isinstance(cell, str) else f"{cell:.3g}" for cell in cells) + " |")


def with_backward(function, *inputs):
    inputs = [t.detach().requires_grad_() for t in inputs]
    ones = torch.ones_like(function(*inputs))
    return lambda: torch.autograd.grad(function(*inputs), inputs, ones)


def element_wise(elements):
    """Bytes: the output and the tensors read, once each; bandwidth as a share of a copy's of the same dtype."""
    for dtype in (torch.float32, torch.float64):
        x = 10 ** (7 * torch.rand(elements, device="cuda") - 3).to(dtype)
        size = x.element_size()
        y = torch.empty_like(x)
        copied = 2 * elements * size / milliseconds(lambda y=y, x=x: y.copy_(x))
        del y
        columns = x[: elements // 6 * 6].view(-1, 6)
        orders = {
            "one order": (19.5, x),
            "one order, x >= 60": (19.5, x.clamp_min(60)),
            "an order per column": (torch.tensor([7, 4.5, 1.5, 1, 0.5, 0], device="cuda", dtype=dtype), columns),
            "v U[0,512]": (512 * torch.rand(elements, device="cuda").to(dtype), x),
        }
        i0e = milliseconds(lambda x=x: torch.special.i0e(x))
        for name, function, order in (
            ("log_iv", vmf_ops.log_iv, lambda v: v),
            ("iv_ratio", vmf_ops.iv_ratio, lambda v: v + 1),
            ("vmf_kl_uniform", vmf_ops.vmf.vmf_kl_uniform, lambda v: 2 * v + 2),
        ):
            for label, (v, argument) in orders.items():
                v = order(v)
                forward = milliseconds(lambda f=function, v=v, x=argument: f(v, x))
                both = milliseconds(with_backward(lambda x, f=function, v=v: f(v, x), argument))
                moved = size * (2 * elements + (v.numel() if isinstance(v, torch.Tensor) else 0))
                share = moved / forward / copied
                yield f"{name}, {label}, {str(dtype)[6:]}", forward, f"{share:.0%}", forward / i0e, both / forward


def sampling(rows):
    for dims in SAMPLED:
        loc, kappa = (t.cuda() for t in shells(dims, rows, torch.float32))
        randn = milliseconds(lambda loc=loc: torch.randn(loc.shape, device="cuda"))
        draw = lambda loc, kappa, dims=dims: vmf_ops.sample_vmf(loc, kappa, dims)  # noqa: E731
        forward = milliseconds(lambda f=draw, loc=loc, kappa=kappa: f(loc, kappa))
        both = milliseconds(with_backward(draw, loc, kappa))

        peers = [
            milliseconds(lambda f=f, loc=loc, kappa=kappa, dims=dims: on_each_shell(f, loc, kappa, dims), capture=can)
            / randn
            for f, can in ((power_spherical, True), (s_vae, False))
        ]
        yield "m = " + ", ".join(map(str, dims)), forward, forward / randn, both / forward, *peers


def training_step(model, loss):
    """One step of a model, Adam included."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, capturable=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def latents(batch, kappa=10.0):
    """Draw, divergence and gradients on one sphere, by the laws of benchmarks/latent.py that a graph can capture."""
    contenders = [latent.LATENTS[name] for name in CAPTURED]
    for m in latent.DIMENSIONS:
        loc, concentration = (t.cuda() for t in latent.parameters(m, batch, kappa))
        times = [milliseconds(graphed(latent.step(law, loc, concentration))[0], capture=False) for law in contenders]
        yield f"batch {batch}, m = {m}", *times, times[0] / times[-1]


def training(batch):
    x = (torch.rand(batch, 784, device="cuda") > 0.8).float()
    for dims in VAE_SHELLS:
        ours = HypersphericalVAE(*mlps(sum(dims)), ProductVMFLatent(HIDDEN, dims)).cuda()
        plain = GaussianVAE(*mlps(sum(dims)), sum(dims)).cuda()
        steps = (
            training_step(ours, lambda model=ours: -model.elbo(x).value.mean()),
            training_step(plain, lambda model=plain: model.loss(x)),
        )
        step, other = (milliseconds(graphed(each)[0], capture=False) for each in steps)
        yield f"{len(dims)} shells in R^{sum(dims)}", step, other, step / other


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=10**8)
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--save", action="store_true", help="write the tables to benchmarks/results/ too")
    arguments = parser.parse_args()
    if not (vmf_ops.build_info()["cuda"] and torch.cuda.is_available()):
        parser.error("there is no GPU, or vmf_ops was built without CUDA")
    torch.manual_seed(0)
    # The others' checks of their arguments wait for the device, which a graph cannot.
    torch.distributions.Distribution.set_default_validate_args(False)
    lines = []

    def write(line):
        print(line, flush=True)
        lines.append(line)

    today, name = datetime.date.today().isoformat(), torch.cuda.get_device_name()
    write(f"{today}; vmf_ops {vmf_ops.__version__}, torch {torch.__version__}, CUDA {torch.version.cuda}; {name}")
    title = f"Element-wise, {arguments.elements:.0e} elements, x log-uniform in [1e-3, 1e4]"
    header = ("", "ms", "bandwidth / copy's", "time / torch.special.i0e's", "forward + backward / forward")
    table(write, title, header, element_wise(arguments.elements))
    title = f"Sampling, float32, {arguments.rows:.0e} rows, kappa = {KAPPA:g}"
    header = (
        "",
        "ms",
        "time / torch.randn's",
        "forward + backward / forward",
        "Power Spherical / torch.randn",
        "S-VAE / it",
    )
    table(write, title, header, sampling(arguments.rows))
    header = ("", *(f"{name}, ms" for name in CAPTURED), "class / Gaussian")
    for batch in latent.BATCHES:
        table(write, f"Latent step under a CUDA graph, float32, batch {batch}", header, latents(batch))
    header = ("", "vmf_ops, ms", "Gaussian, ms", "ratio")
    table(write, "VAE training step under a CUDA graph, MLP 784-256-128-latent, batch 100", header, training(100))
    write(
        "\nBars: log_iv in float32 at half of a copy's bandwidth; a draw at most 2 torch.randn at m = 3, 41 and 512, "
        "and 3 for six shells, forward + backward twice that; a training step at most 1.1 of the Gaussian's."
    )
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{today}-cuda-{name.replace(' ', '-')}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
