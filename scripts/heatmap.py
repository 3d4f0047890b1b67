"""Measures the error of the Bessel family, in units of eps, against Arb, and writes docs/accuracy.md and its pictures.

    python scripts/heatmap.py              # docs/accuracy.md, docs/error_float64.png, docs/error_float32.png; minutes
    python scripts/heatmap.py --grid 20    # coarser

Needs python-flint and matplotlib (the `tables` extra). The maps have one random point in each cell of a logarithmic
grid, so that another --seed looks elsewhere; the worst point of each function is printed. The table of accuracy.md is
of the certified points of tests/data, on every ISA that this processor runs. The measures are those of the accuracy
tests (tests/reference.py).
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
import test_second_kind  # noqa: E402

PANELS = {
    "log": ("log_iv", "log_ive", "ive", "d log_iv/dx", "d2 log_iv/dx2", "d log_iv/dv"),
    "ratio": ("iv_ratio", "iv_ratio_c", "d iv_ratio/dx", "d2 iv_ratio/dx2"),
}


MEASURES = {
    "log_iv": "E",
    "log_ive": "E",
    "ive": "conditioned",
    "d log_iv/dx": "relative",
    "d log_ive/dx": "relative to 1 + d log_iv/dx",
    "d2 log_iv/dx2": "relative to r' + v/x^2",
    "d3 log_iv/dx3": "relative to abs d3 + 4v/x^3",
    "d log_iv/dv": "relative, 1e-6 <= v <= 2e4",
    "d log_iv/dv, mixed": "relative to max(1, abs d/dv)",
    "iv_ratio": "relative",
    "iv_ratio_c": "relative",
    "d iv_ratio/dx": "relative",
    "d2 iv_ratio/dx2": "relative",
}

SECOND_KIND = {
    "log_kv": "E",
    "log_kve": "E",
    "kve": "conditioned",
    "d log_kv/dx": "relative",
    "d log_kve/dx": "relative",
    "d kve/dx, conditioned": "conditioned",
    "d2 log_kv/dx2": "relative",
    "d log_kv/dv": "relative, abs v <= 2e4",
}

SECOND_HEAD = """
## The second kind

On certified points of the same domain ({counts}), orders zero, half-integer and whole among them; at v = 0 the
derivative in v is 0 exactly.

"""

HEAD = """# Accuracy of the Bessel family

Written by `scripts/heatmap.py`. Largest errors in eps of the dtype (2.2e-16 and 1.2e-7), on the points of `tests/data`
certified by Arb ({counts}).
They lie over the whole domain, v to 1e6 and x from 1e-30 to 1e10 (float32: 2e5, 1e9), and crowd at the borders of the
methods, beside the zero of log I_v, at order zero, half-integer and near-integer orders.

- E = |err| / (eps (1 + |f| + |v df/dv| + |x df/dx|)), the backward error of a logarithm f.
- conditioned: |err| / (eps ive (1 + |log ive| + |v d/dv log ive| + |x d/dx log ive|)).
- relative: |err| / (eps |f|), or by what is named; below the smallest normal number the denormals' spacing counts.
"""

MAPS = """
One random point of each cell of a logarithmic grid:

![float64](error_float64.png)
![float32](error_float32.png)
"""


def rows(measures, measured, columns):
    """A Markdown table: a row for each function, a column for each dtype and ISA; measured(dtype, isa, name) in eps."""
    lines = ["| function | measure | " + " | ".join(f"{dtype} {isa}" for dtype, isa in columns) + " |"]
    lines.append("|---|---|" + "---|" * len(columns))
    for name, measure in measures.items():
        errors = [f"{measured(dtype, isa, name):.2f}" for dtype, isa in columns]
        lines.append(f"| {name} | {measure} | " + " | ".join(errors) + " |")
    return "\n".join(lines) + "\n"


def report(folder):
    """accuracy.md."""
    targets = reference.available_targets()
    columns = [(dtype, isa) for dtype in reference.DTYPES for isa in targets]
    measured = {isa: reference.largest_errors_on(isa) for isa in targets}

    def first(dtype, isa, name):
        return measured[isa][dtype][name]["1e-6 <= v <= 2e4" if name == "d log_iv/dv" else "all"][0]

    def second(dtype, isa, name):
        return test_second_kind.errors_on(isa)[dtype][name][0]

    counts = ", ".join(
        " + ".join(str(len(reference.Table.load(family, dtype).v)) for family in reference.FAMILIES) + f" in {dtype}"
        for dtype in reference.DTYPES
    )
    with np.load(test_second_kind.DATA) as table:
        second_counts = ", ".join(f"{len(table[f'{dtype}/v'])} in {dtype}" for dtype in reference.DTYPES)
    second_columns = [(dtype, isa) for dtype, isa in columns if isa != "cuda"]
    text = HEAD.format(counts=counts) + "\n" + rows(MEASURES, first, columns) + MAPS
    text += SECOND_HEAD.format(counts=second_counts) + rows(SECOND_KIND, second, second_columns)
    (folder / "accuracy.md").write_text(text)


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
            where = f"v = {v[worst].item()!r}, x = {x[worst].item()!r}"
            print(f"{np.dtype(dtype).name}  {name:16s} {error[worst]:8.2f} eps at {where}")
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
    report(arguments.out)
    for dtype in (np.float64, np.float32):
        draw(dtype, arguments.grid, arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
