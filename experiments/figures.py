"""The figures of the report: KL over (m, κ), KL of each shell, in training too, and each circle turned once."""

import statistics
from pathlib import Path

import numpy as np
import torch

import vmf_ops
from experiments import data
from experiments.claims import in_use

BLUE, RED = "#2f6fa7", "#d1603d"
DASHES = ("-", "--", ":")


def divergence(path: Path):
    """KL(vMF ‖ uniform) over (m, κ), the paper's Figure B.1."""
    plt = _pyplot()
    m = torch.arange(2, 101)
    kappa = torch.logspace(-1, 3, 200, dtype=torch.float64)
    kl = vmf_ops.vmf_kl_uniform(m, kappa.unsqueeze(-1)).numpy()
    m, kappa = m.numpy(), kappa.numpy()
    figure, axis = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
    levels = [0.01, 0.1, 1, 3, 10, 30, 100]
    mesh = axis.pcolormesh(m, kappa, np.log10(kl), cmap="viridis", shading="gouraud", rasterized=True)
    lines = axis.contour(m, kappa, kl, levels=levels, colors="white", linewidths=0.8)
    axis.clabel(lines, fmt="%g", fontsize=8)
    axis.set(yscale="log", xlabel="ambient dimension m", ylabel="concentration κ", title="KL(vMF ‖ uniform), nats")
    figure.colorbar(mesh, label="log10 KL")
    _save(figure, path)


def shells(kinds: dict[str, dict[str, list]], path: Path):
    """KL of each shell: a line of pictures for each kind, title -> composition -> the KL of its shells by seed."""
    plt = _pyplot()
    columns = max(map(len, kinds.values()))
    figure, axes = plt.subplots(
        len(kinds), columns, figsize=(3.2 * columns, 2.75 * len(kinds)), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (kind, compositions) in zip(axes, kinds.items(), strict=True):
        for axis, (composition, seeds) in zip(line, compositions.items(), strict=False):
            axis.set_axis_on()
            names = [f"S{d}" if composition.count(",") < 10 else d for d in composition.split(",")]
            axis.bar(range(len(names)), [statistics.fmean(kl) for kl in zip(*seeds, strict=True)], color=BLUE)
            axis.set_xticks(range(len(names)), names, fontsize=8)
            axis.set_title(f"{kind}: {composition}" if len(names) < 8 else f"{kind}: {len(names)} shells", fontsize=9)
            axis.set_ylabel("KL, nats")
            axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def torus(rows: dict[tuple[int, str], tuple[list, list]], path: Path):
    """Validation ELBO over the epochs, a line for each (circles, seed) -> (epochs, values)."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    fewest = min(count for count, _ in rows)
    for (count, seed), (epochs, values) in sorted(rows.items()):
        style = {"color": BLUE if count == fewest else RED, "linestyle": DASHES[int(seed) % len(DASHES)]}
        axis.plot(epochs, values, **style, label=f"{count} circles, seed {seed}")
    axis.set(xlabel="epoch", ylabel="validation ELBO, nats", title="Circles alone")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def awakening(runs: dict[str, tuple[list, list]], path: Path):
    """The KL of each shell over the epochs, a picture for each title -> (epochs, the shells' KL at each)."""
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4 * len(runs), 3), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (title, (epochs, kl)) in zip(axes[0], runs.items(), strict=True):
        for k, values in enumerate(zip(*kl, strict=True)):
            axis.plot(epochs, values, label=f"shell {k + 1}")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("epoch")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("KL, nats")
    axes[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, path)


@torch.no_grad()
def circles(vae, images: data.Images, path: Path, *, extremes=False, steps=16):
    """Each circle of one test image's latent turned once, all else kept: the paper's Figure B.2.

    A circle that the decoder uses changes the image as it turns; one that it ignores does not. With `extremes` the two
    circles of the largest and the smallest KL alone: the paper's Figure 2.
    """
    plt = _pyplot()
    kl = vae.latent(vae.encoder(images.test[:1000].float())).kl_per_shell().mean(0)
    used = in_use(vae.latent.dims, vae.latent.min_kappa, kl)
    posterior = vae.latent(vae.encoder(images.test[:1].float()))
    turned = [k for k, m in enumerate(posterior.dims) if m == 2]
    if extremes:
        turned = [max(turned, key=lambda k: kl[k]), min(turned, key=lambda k: kl[k])]
    angle = torch.arange(steps) * (2 * torch.pi / steps)
    height, width = images.shape
    figure, axes = plt.subplots(len(turned), 1, figsize=(steps * 0.6, 0.85 * len(turned)), squeeze=False)
    for axis, k in zip(axes[:, 0], turned, strict=True):
        first = sum(posterior.dims[:k])
        z = posterior.mode.repeat(steps, 1)
        z[:, first], z[:, first + 1] = angle.cos(), angle.sin()
        pictures = vae.decoder(z).sigmoid().reshape(steps, height, width)
        axis.imshow(pictures.transpose(0, 1).reshape(height, -1).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_axis_off()
        use = "used" if used[k] else "ignored"
        axis.set_title(f"shell {k + 1}, a circle: {use}, mean KL {kl[k]:.2f}", fontsize=7, loc="left", pad=2)
    figure.tight_layout(pad=0.3)
    _save(figure, path)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _save(figure, path: Path):
    figure.savefig(path, dpi=100)
    _pyplot().close(figure)
