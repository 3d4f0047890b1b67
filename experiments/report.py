"""Tables and figures of the results beside the paper's: python -m experiments.report.

Reads results/table2_<dataset>.csv and its like, and writes results/report_<dataset>.md and the figures it shows. The
picture of the circles needs the checkpoint of a run that has some, and is drawn where --runs holds one.
"""

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import torch

import vmf_ops
from experiments import data, models, table2, train

BALANCED = ("20,19", "10,9,9,9", "6,6,6,6,6,5", "4,3,3,3,3,3,3,3,3,3")
UNBALANCED = ("38,1", "34,1,1,1", "30,1,1,1,1,1", "22,1,1,1,1,1,1,1,1,1")


def shortened(row: str) -> str:
    """30,1,1,1,1,1 as 30,1×5."""
    name, *options = row.split()
    parts = []
    for shell in name.split(","):
        if parts and parts[-1][0] == shell:
            parts[-1][1] += 1
        else:
            parts.append([shell, 1])
    name = ",".join(f"{shell}×{count}" if count > 2 else ",".join([shell] * count) for shell, count in parts)
    return " ".join([name, *options])


def mean_and_deviation(values) -> str:
    values = [float(value) for value in values]
    text = f"{statistics.fmean(values):.2f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.2f}"


def groups(rows: list[dict]) -> dict:
    """Rows of the longest runs by (shells, gradient), their seeds together, in the order they were written."""
    grouped: dict = {}
    for row in rows:
        grouped.setdefault((row["shells"], row["gradient"]), []).append(row)
    for name, members in grouped.items():
        longest = max(int(row["epochs"]) for row in members)
        grouped[name] = [row for row in members if int(row["epochs"]) == longest]
    return grouped


def table(rows: list[dict], paper=None) -> str:
    """A Markdown table, one line for each composition and gradient."""
    lines = [
        "| shells | gradient | epochs | seeds | LL | ELBO | RE | KL | paper's LL | ELBO | RE | KL |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (shells, gradient), members in groups(rows).items():
        cells = [shortened(shells), gradient, members[0]["epochs"], str(len(members))]
        cells += [mean_and_deviation(row[name] for row in members) for name in ("ll", "elbo")]
        # The paper's RE is the cost, -log p(x|z).
        cells += [mean_and_deviation(-float(row["reconstruction"]) for row in members)]
        cells += [mean_and_deviation(row["kl"] for row in members)]
        cells += [f"{number:.2f}" for number in (paper or {}).get(shells, ())] or ["–"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def kl_figure(path: Path):
    """KL(vMF ‖ uniform) over (m, κ), the paper's Figure B.1."""
    plt = pyplot()
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
    save(figure, path)


def shells_figure(rows: list[dict], path: Path) -> bool:
    """KL of each shell, balanced break-ups above and unbalanced below."""
    found = groups(rows)
    kinds = [[shells for shells in kind if (shells, "implicit") in found] for kind in (BALANCED, UNBALANCED)]
    if not any(kinds):
        return False
    plt = pyplot()
    columns = max(map(len, kinds))
    figure, axes = plt.subplots(2, columns, figsize=(3.2 * columns, 5.5), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for line, kind, title in zip(axes, kinds, ("balanced", "unbalanced"), strict=True):
        for axis, shells in zip(line, kind, strict=False):
            members = found[shells, "implicit"]
            per_seed = zip(*(map(float, row["kl_per_shell"].split()) for row in members), strict=True)
            names = [f"S{d}" for d in shells.split(",")]
            axis.set_axis_on()
            axis.bar(range(len(names)), [statistics.fmean(kl) for kl in per_seed], color="#2f6fa7")
            axis.set_xticks(range(len(names)), names, fontsize=8)
            axis.set_title(f"{title}: {shortened(shells)}", fontsize=9)
            axis.set_ylabel("KL, nats")
            axis.spines[["top", "right"]].set_visible(False)
    save(figure, path)
    return True


def curves_figure(curves: list[dict], path: Path) -> bool:
    """Validation ELBO of the torus over the epochs, a line for each gradient and seed."""
    lines: dict = {}
    for row in curves:
        if row["shells"] == table2.TORUS:
            lines.setdefault((row["gradient"], row["seed"], row["epochs"]), []).append(row)
    if not lines:
        return False
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for (gradient, seed, _), points in lines.items():
        epochs = [int(point["epoch"]) for point in points]
        colour = "#2f6fa7" if gradient == "implicit" else "#d1603d"
        axis.plot(epochs, [float(p["validation"]) for p in points], color=colour, label=f"{gradient}, seed {seed}")
    axis.set(xlabel="epoch", ylabel="validation ELBO, nats", title="20 circles")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save(figure, path)
    return True


@torch.no_grad()
def circles_figure(vae, images: data.Images, path: Path, steps=16):
    """Each circle of one test image's latent turned once, all else kept: the paper's Figure B.2.

    A circle that the decoder uses changes the image as it turns; one that it ignores, whose KL is near 0, does not.
    """
    plt = pyplot()
    x = images.test[:1].float()
    posterior = vae.latent(vae.encoder(x))
    kl = posterior.kl_per_shell()[0]
    circles = [k for k, m in enumerate(posterior.dims) if m == 2]
    angle = torch.arange(steps) * (2 * torch.pi / steps)
    height, width = images.shape
    figure, axes = plt.subplots(len(circles), 1, figsize=(steps * 0.6, 0.85 * len(circles)), squeeze=False)
    for axis, k in zip(axes[:, 0], circles, strict=True):
        first = sum(posterior.dims[:k])
        z = posterior.mode.repeat(steps, 1)
        z[:, first], z[:, first + 1] = angle.cos(), angle.sin()
        pictures = vae.decoder(z).sigmoid().reshape(steps, height, width)
        axis.imshow(pictures.transpose(0, 1).reshape(height, -1).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_axis_off()
        axis.set_title(f"shell {k + 1}, a circle, KL {kl[k]:.2f}", fontsize=7, loc="left", pad=2)
    figure.tight_layout(pad=0.3)
    save(figure, path)


def pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save(figure, path: Path):
    figure.savefig(path, dpi=150)
    pyplot().close(figure)


def run_with_circles(runs: Path, dataset: str) -> Path | None:
    """The checkpoint with the most epochs among this data set's runs that have a circle beside larger shells."""
    found = []
    for path in sorted(runs.glob(f"{dataset}_*/checkpoint.pt")):
        config = train.read_checkpoint(path)["config"]
        if config["model"] == "vmf" and 1 in config["shells"] and max(config["shells"]) > 1:
            found.append((config["epochs"], len(config["shells"]), path))
    return max(found)[-1] if found else None


def write(results: Path, runs: Path, dataset: str, data_dir=None) -> Path:
    """results/report_<dataset>.md and its figures."""
    rows = table2.read_rows(results / f"table2_{dataset}.csv")
    dof = table2.read_rows(results / f"table5_{dataset}.csv")
    curves = table2.read_rows(results / f"curves2_{dataset}.csv", table2.CURVE_COLUMNS)
    if not rows and not dof:
        raise train.TrainingError(f"{results}: no table2_{dataset}.csv or table5_{dataset}.csv with a finished row")
    paper = table2.PAPER if dataset == "static_mnist" else None
    text = [f"# Hyperspherical VAEs on {dataset}", "Shells are sphere dimensions; nats; mean ± deviation over seeds."]
    if rows:
        text += ["## Ambient dimension 41", table(rows, paper)]
        if paper:
            text.append("The paper's best single sphere: LL {:.2f}, ELBO {:.2f}.".format(*table2.BEST_SINGLE_SPHERE))
    if dof:
        text += ["## 40 degrees of freedom", table(dof)]

    def show(title, name):
        text.extend([f"## {title}", f"![{title}]({name})"])

    kl_figure(results / "kl.png")
    show("KL over dimension and concentration", "kl.png")
    if shells_figure(rows, results / f"shells_{dataset}.png"):
        show("KL of each shell", f"shells_{dataset}.png")
    if curves_figure(curves, results / f"torus_{dataset}.png"):
        show("Training 20 circles", f"torus_{dataset}.png")
    checkpoint = run_with_circles(runs, dataset)
    if checkpoint is not None and (data_dir is not None or dataset == "digits"):
        contents = train.read_checkpoint(checkpoint)
        config, images = contents["config"], data.load(dataset, data_dir)
        vae = models.build(images.size, config["shells"], min_kappa=config["min_kappa"]).eval()
        vae.load_state_dict((contents["best"] or contents)["model"])
        circles_figure(vae, images, results / f"circles_{dataset}.png")
        show("Turning each circle once", f"circles_{dataset}.png")
    path = results / f"report_{dataset}.md"
    path.write_text("\n\n".join(text) + "\n")
    return path


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=data.DATASETS, default="static_mnist")
    parser.add_argument("--data-dir", type=Path, help="for the picture of the circles")
    parser.add_argument("--results", type=Path, default=table2.RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args(argv)
    try:
        print(write(args.results, args.runs, args.dataset, args.data_dir))
    except (data.DataError, train.TrainingError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
