"""Draws docs/gradient_bias.png: what each gradient of sample_vmf makes of d E[w]/dkappa and d Var[w]/dkappa, w = mu.z.

Run: python scripts/gradient_bias.py. No sampling: the estimators' means are integrals over w, by Gauss-Legendre.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch

import vmf_ops

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

TARGET = Path(__file__).resolve().parents[1] / "docs" / "gradient_bias.png"
DIMENSIONS = (2, 3, 5, 11, 41, 128, 512)
KAPPAS = np.geomspace(1e-2, 1e4, 121)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(300)


def law(m, kappa):
    """Nodes in the angle over all but e^-45 of the density: 1-w, 1+w, and each node's probability."""
    coarse = np.geomspace(1e-7, np.pi, 20_000)
    height = kappa * (np.cos(coarse) - 1) + (m - 2) * np.log(np.sin(coarse))
    inside = np.flatnonzero(height > height.max() - 45)
    low = 0.0 if m < 20 else coarse[inside[0]]
    high = coarse[min(inside[-1] + 1, coarse.size - 1)]
    theta = low + (NODES + 1) / 2 * (high - low)
    log_density = kappa * (np.cos(theta) - 1) + (m - 2) * np.log(np.sin(theta))
    probability = WEIGHTS * np.exp(log_density - log_density.max())
    return 2 * np.sin(theta / 2) ** 2, 2 * np.cos(theta / 2) ** 2, probability / probability.sum()


def slopes(m, kappa, d, c, implicit):
    """dw/dkappa at each w as the package computes it: forward mode on draws (w, sqrt(1-w^2), 0...).

    The draw moves along mu by psi dc and across by -psi w sqrt(dc); whichever is the larger tells dw/dkappa = psi dc.
    """
    n = d.size
    mu = torch.zeros(1, n, m, dtype=torch.float64)
    mu[..., 0] = 1
    z = torch.zeros_like(mu)
    z[0, :, 0], z[0, :, 1] = torch.from_numpy(1 - d), torch.from_numpy(np.sqrt(d * c))
    k = torch.full((1, n, 1), kappa, dtype=torch.float64)
    cosine = torch.from_numpy(np.stack([d, c]))[None, :, None]
    tangent = torch.ops.vmf_ops.sample_vmf_forward_ad(
        torch.zeros_like(mu), torch.ones_like(k), z, cosine, mu, k, [m], implicit
    )
    along, across = tangent[0, :, 0].numpy(), tangent[0, :, 1].numpy()
    w = 1 - d
    return np.where(np.abs(w) > 0.5, -across * np.sqrt(d * c) / np.where(w == 0, 1, w), along)


def truths(m, kappa):
    """A' and A''."""
    k = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(vmf_ops.iv_ratio(m / 2, k), k, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, k)
    return slope.item(), curvature.item()


def relative_means(m, kappa, implicit):
    """The estimators' means over the truth, for the mean and the variance of w."""
    d, c, probability = law(m, kappa)
    slope, curvature = truths(m, kappa)
    moves = slopes(m, kappa, d, c, implicit)
    deviation = (probability * d).sum() - d
    return (probability * moves).sum() / slope, (probability * 2 * deviation * moves).sum() / curvature


def main() -> None:
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), constrained_layout=True)
    colours = plt.get_cmap("viridis")(np.linspace(0.05, 0.9, len(DIMENSIONS)))
    for m, colour in zip(DIMENSIONS, colours, strict=True):
        rsvi = np.array([relative_means(m, k, False) for k in KAPPAS])
        implicit = np.array([relative_means(m, k, True) for k in KAPPAS])
        for axis, moment in zip(axes[:2], range(2), strict=True):
            axis.semilogx(KAPPAS, rsvi[:, moment], color=colour, label=f"m = {m}")
        axes[2].loglog(KAPPAS, np.maximum(np.abs(implicit[:, 0] - 1), 1e-16), color=colour)
        lowest, off = rsvi.min(0), np.abs(implicit - 1).max(0)
        print(
            f"m = {m:3d}: rsvi E[w] down to {lowest[0]:.3f}, Var[w] {lowest[1]:.3f}; "
            f"implicit off by {off[0]:.1e}, {off[1]:.1e}"
        )
    for axis, title in zip(axes, ("E[w]", "Var[w]"), strict=False):
        axis.axhline(1, color="black", linestyle="--", linewidth=1, label='"implicit", and "rsvi" corrected')
        axis.set(title=f'"rsvi" gradient of {title} in κ, as a part of the truth', xlabel="κ", ylim=(0, 1.1))
    axes[0].legend(fontsize=8, loc="lower left")
    axes[2].set(title='"implicit" gradient of E[w]: relative error', xlabel="κ", ylim=(1e-16, 1e-6))
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=120)
    print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
