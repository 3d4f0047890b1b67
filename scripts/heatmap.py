"""Draws the error of the Bessel family over (v, x), in units of eps, against Arb, into docs/.

    python scripts/heatmap.py              # docs/error_float64.png and docs/error_float32.png; a few minutes on one core
    python scripts/heatmap.py --grid 20    # coarser

Needs python-flint and matplotlib (the `tables` extra). One random point in each cell of a logarithmic grid, so that
another --seed looks elsewhere; the worst point of each function is printed. The measures are those of the accuracy
tests (tests/reference.py): the backward error E for the logarithms, the conditioned error for ive, else relative.
"""

import argparse
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import make_tables  # noqa: E402
import reference  # noqa: E402

PANELS = {
    "log": ("log_iv", "log_ive", "ive", "d log_iv/dx", "d2 log_iv/dx2", "d log_iv/dv"),
    "ratio": ("iv_ratio", "iv_ratio_c", "d iv_ratio/dx", "d2 iv_ratio/dx2"),
}


def cells(low, high, n, rng):
    """One point in each cell of an n x n grid over log10 (v, x), and the edges of the cells."""
    edges = [np.linspace(low[i], high[i], n + 1) for i in range(2)]
    width = [(high[i] - low[i]) / n for i in range(2)]
    v, x = np.meshgrid(edges[0][:-1], edges[1][:-1], indexing="ij")
    return 10 ** (v + width[0] * rng.random((n, n))), 10 ** (x + width[1] * rng.random((n, n))), edges


def draw(dtype, n, seed, folder):
    rng = np.random.default_rng(seed)
    v_end, x_end = np.log10(make_tables.LARGEST[dtype])
    figure, axes = plt.subplots(2, 5, figsize=(19, 7), layout="constrained")
    panels = iter(axes.flat)
    for family, errors_of in reference.FAMILIES.items():
        v, x, edges = cells((-0.301 if family == "ratio" else -4, -4), (v_end, x_end), n, rng)
        v, x = v.astype(dtype).ravel(), x.astype(dtype).ravel()
        if family == "ratio":
            v = np.maximum(v, dtype(0.5))
        errors = errors_of(reference.Table(make_tables.certified_columns(family, v, x)))
        for name in PANELS[family]:
            error, axis = errors[name], next(panels)
            worst = np.argmax(np.where(np.isnan(error), np.inf, error))
            print(f"{np.dtype(dtype).name}  {name:16s} {error[worst]:8.2f} eps at v = {v[worst]!r}, x = {x[worst]!r}")
            image = axis.pcolormesh(
                10 ** edges[1],
                10 ** edges[0],
                np.maximum(error, 0.1).reshape(n, n),
                norm=matplotlib.colors.LogNorm(0.1, 100),
                cmap="magma",
                rasterized=True,
            )
            axis.set(xscale="log", yscale="log", xlabel="x", ylabel="v", title=f"{name}: at most {error[worst]:.1f}")
    figure.colorbar(image, ax=axes, label="error in eps", shrink=0.6)
    figure.suptitle(f"Errors against Arb, {np.dtype(dtype).name}")
    path = folder / f"error_{np.dtype(dtype).name}.png"
    figure.savefig(path, dpi=60)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=int, default=60, help="cells along each axis")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    for dtype in (np.float64, np.float32):
        draw(dtype, arguments.grid, arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
