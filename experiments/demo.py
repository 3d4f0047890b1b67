"""Three VAEs of one latent size on scikit-learn's digits, a table and a picture: python -m experiments.demo.

A Gaussian, one sphere, and a product of spheres, each with 10 latent coordinates, trained by the same protocol.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from experiments import data, models, train

MODELS = {
    "Gaussian": ("gaussian", (9,)),
    "one sphere S9": ("vmf", (9,)),
    "S4 × S2 × S1": ("vmf", (4, 2, 1)),
}
COLOURS = ("#7a7a7a", "#2f6fa7", "#d1603d")


def fit(epochs: int, seed: int, images: data.Images) -> dict:
    """Trains each of MODELS; name to (result, trained VAE)."""
    fabric = train.make_fabric()
    fitted = {}
    for name, (model, shells) in MODELS.items():
        config = train.Config("digits", shells, model, epochs, seed)
        with tempfile.TemporaryDirectory() as folder:
            result = train.train(config, images, Path(folder), fabric=fabric)
            weights = train.read_checkpoint(Path(folder) / "checkpoint.pt")["best"]["model"]
        vae = models.build(images.size, shells, model).eval()
        vae.load_state_dict(weights)
        fitted[name] = result, vae
    return fitted


def table(fitted: dict) -> str:
    lines = [f"{'':15}{'LL':>9}{'ELBO':>9}{'reconstr.':>11}{'KL':>7}{'seconds':>9}   KL per shell"]
    for name, (result, _) in fitted.items():
        numbers = f"{result['ll']:9.2f}{result['elbo']:9.2f}{result['reconstruction']:11.2f}{result['kl']:7.2f}"
        shells = "  ".join(f"{kl:.2f}" for kl in result["kl_per_shell"])
        lines.append(f"{name:15}{numbers}{result['seconds']:9.1f}   {shells}")
    return "\n".join(lines)


@torch.no_grad()
def draw(fitted: dict, images: data.Images, path: Path, columns=12):
    """Images and reconstructions above, samples of each model and the KL of its shells below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    def tiles(rows: torch.Tensor, per_row: int):
        """Rows of pixels as one picture, with a gap of one white pixel."""
        height, width = images.shape
        padded = torch.nn.functional.pad(rows.reshape(-1, per_row, height, width), (0, 1, 0, 1), value=0.0)
        return padded.permute(0, 2, 1, 3).reshape(-1, per_row * (width + 1))[:-1, :-1].numpy()

    def show(axis, rows, per_row, title, colour="black"):
        axis.imshow(tiles(rows, per_row), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=10, color=colour, loc="left")
        axis.set_axis_off()

    figure = plt.figure(figsize=(12, 9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    axes = upper.subplots(1 + len(fitted), 1)
    x = images.test[:columns].float()
    show(axes[0], x, columns, "test images")
    for axis, colour, (name, (_, vae)) in zip(axes[1:], COLOURS, fitted.items(), strict=True):
        show(axis, vae.decoder(vae.latent(vae.encoder(x)).mode).sigmoid(), columns, f"{name}: reconstructions", colour)

    axes = lower.subplots(1, len(fitted) + 1, width_ratios=[1] * len(fitted) + [1.2])
    for axis, colour, (name, (_, vae)) in zip(axes[:-1], COLOURS, fitted.items(), strict=True):
        show(axis, vae.decoder(vae.latent.sample_prior(36)).sigmoid(), 6, f"{name}: samples of the prior", colour)
    labels, heights, colours = [], [], []
    for colour, (name, (result, vae)) in zip(COLOURS, fitted.items(), strict=True):
        shells = [f"S{m - 1}" for m in vae.latent.dims] if hasattr(vae.latent, "dims") else [name]
        labels += shells
        heights += result["kl_per_shell"]
        colours += [colour] * len(shells)
    bars = axes[-1].bar(range(len(heights)), heights, color=colours)
    axes[-1].bar_label(bars, fmt="%.1f", fontsize=9)
    axes[-1].set_xticks(range(len(labels)), labels, fontsize=9)
    axes[-1].set_title("KL of each shell, nats", fontsize=10, loc="left")
    axes[-1].spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("demo.png"))
    args = parser.parse_args(argv)
    # The nets are so small that a second thread waits more than it works.
    torch.set_num_threads(1)
    images = data.digits()
    print(f"{len(images.train)} digits of {images.shape[0]}×{images.shape[1]} pixels, 10 latent coordinates each")
    fitted = fit(args.epochs, args.seed, images)
    print(table(fitted))
    draw(fitted, images, args.out)
    print(f"images, reconstructions, samples and KL per shell: {args.out.resolve()}")


if __name__ == "__main__":
    main()
