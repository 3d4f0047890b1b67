"""What the two gradients of κ differ by, in mean and spread: python -m experiments.gradients --data-dir DIR.

For the kept model of each finished run of --rows, d/d log κ of log p(x|z) in each shell, by draws of z for images of
the training set, beside d/d log κ of the shell's KL, which it has to outweigh; one line for each shell in
results/gradients_<dataset>.csv. Lines that are there are not done again.
"""

import argparse
import sys
from pathlib import Path

import torch

from experiments import data, tables, train
from vmf_ops import sample_vmf, vmf_kl_uniform

GRADIENTS = train.CHOICES["gradient"]
COLUMNS = ("row", "seed", "epochs", "shell", "kl", "kl_slope")
COLUMNS += tuple(f"{what}_{gradient}" for gradient in GRADIENTS for what in ("mean", "deviation"))


def file(results: Path, dataset: str) -> Path:
    return results / f"gradients_{dataset}.csv"


def of_log_kappa(vae, x, gradient: str, draws: int) -> torch.Tensor:
    """d/d log κ of log p(x|z), of one draw of z for each image x (B, ...): (draws, B, K)."""
    with torch.no_grad():
        posterior = vae.latent(vae.encoder(x))
    log_kappa = posterior.concentration.log().expand(draws, *posterior.concentration.shape).requires_grad_()
    loc = posterior.loc.expand(draws, *posterior.loc.shape)
    z = sample_vmf(loc, log_kappa.exp(), posterior.dims, gradient=gradient)
    logits = vae.decoder(z)
    reconstruction = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="sum")
    return torch.autograd.grad(reconstruction, log_kappa)[0]


def lines(config: train.Config, images: data.Images, runs: Path, count=64, draws=400) -> list[dict]:
    """What the CSV says of one run: KL, mean and standard deviation over draws, averaged over `count` images."""
    contents = train.read_checkpoint(config.folder(runs) / "checkpoint.pt")
    vae = config.build(images.size).eval()
    vae.load_state_dict((contents["best"] or contents)["model"])
    torch.manual_seed(config.seed)
    x = images.batch(torch.linspace(0, len(images.train) - 1, count).long())
    kappa = vae.latent(vae.encoder(x)).concentration.detach().requires_grad_()
    kl = vmf_kl_uniform(torch.tensor(vae.latent.dims), kappa)
    (slope,) = torch.autograd.grad(kl.sum(), kappa)
    columns = {"kl": kl.mean(0), "kl_slope": (kappa * slope).mean(0)}
    for gradient in GRADIENTS:
        found = torch.cat([of_log_kappa(vae, x, gradient, 20) for _ in range(draws // 20)])
        columns[f"mean_{gradient}"] = found.mean((0, 1))
        columns[f"deviation_{gradient}"] = found.var(0).mean(0).sqrt()
    row = {"row": config.label, "seed": config.seed, "epochs": config.epochs}
    return [
        row | {"shell": k + 1} | {name: f"{values[k]:.5g}" for name, values in columns.items()}
        for k in range(len(config.shells))
    ]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=data.DATASETS, default="static_mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rows", nargs="+", metavar="ROW", default=list(tables.LATENT_SHELLS))
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--results", type=Path, default=tables.RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args(argv)
    path = file(args.results, args.dataset)
    try:
        images = data.load(args.dataset, args.data_dir)
        there = {line["row"] for line in tables.read_rows(path, COLUMNS)}
        for row in args.rows:
            config = tables.parse_row(row, args.dataset, epochs=args.epochs)
            if config.label not in there:
                tables.append_rows(path, lines(config, images, args.runs), COLUMNS)
        print(path)
    except (data.DataError, train.TrainingError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
