"""The results beside the paper's, its claims judged by them, and figures: python -m experiments.report.

Reads results/rows_<dataset>.csv and results/curves_<dataset>.csv, and writes results/report_<dataset>.md, the figures
it shows, and the page that sums up all data sets; every number and verdict in them comes from those rows. The pictures
of circles need a checkpoint and the data, and are drawn where --runs and --data-dir have them.
"""

import argparse
import statistics
import sys
from pathlib import Path

from experiments import claims, data, figures, gradients, markdown, paper, summary, tables, train
from experiments.claims import Groups, mean, shell_kl, shells_in_use, shortened

PAGE = Path(__file__).parent.parent / "docs" / "paper.md"
FIGURE_2 = "1,1,1,1,1"
"""S_9 broken up: five circles in its 10 coordinates."""
FIGURE_B2 = ("22,1,1,1,1,1,1,1,1,1", "30,1,1,1,1,1", "34,1,1,1", "20,10,6,1")
AWAKENING = "10,9,9,9"

# ---- Tables ----


def mean_and_deviation(values) -> str:
    values = [float(value) for value in values]
    text = f"{statistics.fmean(values):.2f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.2f}"


def results(grouped: Groups, published: dict) -> str:
    """One line for each row, beside the paper's where it has one."""
    lines = []
    for name, members in grouped.items():
        cells = [shortened(name), str(len(members)), f"{mean(members, 'trained_epochs'):.0f}"]
        cells += [mean_and_deviation(line[column] for line in members) for column in ("ll", "elbo")]
        # The paper's RE is the cost, -log p(x|z).
        cells += [mean_and_deviation(-float(line["reconstruction"]) for line in members)]
        cells += [mean_and_deviation(line["kl"] for line in members)]
        theirs = published.get(name)
        numbers = (theirs.ll, theirs.elbo, theirs.cost, theirs.kl) if theirs else (None,) * 4
        cells += ["–" if number is None else f"{number:.2f}" for number in numbers]
        cells.append(f"{mean(members) - theirs.ll:+.2f}" if theirs else "–")
        lines.append(cells)
    return markdown.table(
        "shells | seeds | epochs | LL | ELBO | RE | KL | paper's LL | ELBO | RE | KL | LL - paper's", lines
    )


def below_the_paper(grouped: Groups, published: dict) -> str:
    """Which of the paper's rows are not reached."""
    both = {name: mean(grouped[name]) - published[name].ll for name in grouped if name in published}
    behind = [f"{shortened(name)} ({difference:+.2f})" for name, difference in both.items() if difference < 0]
    return f"Of {len(both)} rows that the paper has too, {len(both) - len(behind)} have at least its LL." + (
        f" Behind it: {', '.join(behind)}." if behind else ""
    )


def per_shell(grouped: Groups, names) -> str:
    """The KL of each shell of every run, and which shells the decoder is told nothing by."""
    lines = []
    for line in (line for name in names for line in grouped.get(name, [])):
        used = shells_in_use(line)
        ignored = ",".join(d for d, known in zip(line["row"].split(","), used, strict=True) if not known)
        cells = [shortened(line["row"]), line["seed"], f"{sum(used)} of {len(used)}"]
        cells += [shortened(ignored) if ignored else "–", " ".join(f"{kl:.1f}" for kl in shell_kl(line))]
        lines.append(cells)
    return markdown.table("shells | seed | used | ignored | KL of each, equal shells by size", lines)


# ---- One data set ----


def read(folder: Path, dataset: str) -> Groups:
    """The finished rows of a data set, in the order of the paper's tables."""
    return claims.groups(tables.read_rows(tables.files(folder, dataset)[0]), tables.rows_of("paper", dataset))


def read_gradients(folder: Path, dataset: str) -> list[dict]:
    return tables.read_rows(gradients.file(folder, dataset), gradients.COLUMNS)


def report(folder: Path, runs: Path, dataset: str, data_dir=None) -> Path:
    """folder/report_<dataset>.md and its figures."""
    grouped = read(folder, dataset)
    if not grouped:
        raise train.TrainingError(f"{folder}: no rows_{dataset}.csv with a finished row")
    published = paper.published(dataset)
    page = markdown.Page(
        f"Hyperspherical VAEs on {dataset}",
        "Shells are sphere dimensions; nats; mean ± deviation over seeds; epochs trained before early stopping.",
        summary.ORIGIN.get(dataset, ""),
    )

    def figure(name: str, title: str) -> str:
        return f"![{title}]({name})" if (folder / name).exists() else ""

    plain = {name: lines for name, lines in grouped.items() if " " not in name}
    dof = {name: lines for name, lines in plain.items() if name in claims.FIXED_DOF or name == tables.TORI[1]}
    ambient = {name: lines for name, lines in plain.items() if name not in dof}
    sphere = published.get(paper.BEST_SPHERE)
    page.section(
        "Ambient dimension 41 and single spheres",
        results(ambient, published),
        f"The paper's best single sphere: LL {sphere.ll:.2f}, ELBO {sphere.elbo:.2f}." if sphere else "",
        below_the_paper(plain, published) if published else "",
    )
    page.section("40 degrees of freedom", results(dof, published))
    judged = [claim for claim in claims.claims(dataset, grouped) if claim.text]
    page.section("The claims", *(f"**{claim.name}: {claim.verdict}.** {claim.text}" for claim in judged))
    page.section("Law and gradient", summary.laws({dataset: grouped}))
    slopes = {dataset: read_gradients(folder, dataset)}
    page.section("What makes a product good", summary.latents({dataset: grouped}), *summary.gradients(slopes))

    kinds = {
        kind: {name: [shell_kl(line) for line in grouped[name]] for name in names if name in grouped}
        for kind, names in (("balanced", claims.BALANCED), ("unbalanced", claims.UNBALANCED))
    }
    kinds = {kind: rows for kind, rows in kinds.items() if rows}
    if kinds:
        figures.shells(kinds, folder / f"shells_{dataset}.png")
    awakening, torus = curves(tables.read_rows(tables.files(folder, dataset)[1], tables.CURVE_COLUMNS))
    if awakening:
        figures.awakening(awakening, folder / f"awakening_{dataset}.png")
    page.section(
        "KL of each shell",
        f"A shell counts as ignored where its KL is within {claims.IGNORED:g} nats of the least that κ >= 1 allows.",
        figure(f"shells_{dataset}.png", "KL of each shell, the mean of the seeds"),
        figure(f"awakening_{dataset}.png", f"KL of each shell of {AWAKENING} in training"),
        per_shell(grouped, claims.products(dataset)),
    )
    if torus:
        figures.torus(torus, folder / f"torus_{dataset}.png")
    page.section("Training circles alone", figure(f"torus_{dataset}.png", "Circles alone"))
    pictures = {f"circle_{dataset}.png": ((FIGURE_2,), True), f"circles_{dataset}.png": (FIGURE_B2, False)}
    for name, (rows, extremes) in pictures.items():
        draw_circles(folder / name, runs, dataset, data_dir, rows, extremes)
    page.section(
        "Turning circles",
        figure(f"circle_{dataset}.png", "A circle in use and one that is not, of five"),
        figure(f"circles_{dataset}.png", "Each circle of a product turned once"),
    )
    path = folder / f"report_{dataset}.md"
    page.write(path)
    return path


def curves(lines: list[dict]) -> tuple[dict, dict]:
    """What `figures.awakening` and `figures.torus` draw."""
    shells: dict = {}
    circles: dict = {}
    for line in lines:
        epoch = int(line["epoch"])
        if line["row"] == AWAKENING and int(line["seed"]) < 3:
            epochs, values = shells.setdefault(f"{AWAKENING}, seed {line['seed']}", ([], []))
            epochs.append(epoch), values.append([float(kl) for kl in line["kl_per_shell"].split()])
        elif line["row"] in tables.TORI:
            epochs, values = circles.setdefault((line["row"].count(",") + 1, line["seed"]), ([], []))
            epochs.append(epoch), values.append(float(line["validation"]))
    return shells, circles


def draw_circles(path: Path, runs: Path, dataset: str, data_dir, rows, extremes: bool):
    """The picture of the first of these rows that has a finished run of seed 0, where there is one and the data are."""
    if data_dir is None and dataset != "digits":
        return
    for row in rows:
        config = tables.parse_row(row, dataset)
        for out in sorted(runs.glob(config.folder().name.replace(f"_{config.epochs}_", "_*_"))):
            if not (out / "result.json").exists():
                continue
            contents = train.read_checkpoint(out / "checkpoint.pt")
            images = data.load(dataset, data_dir)
            vae = config.build(images.size).eval()
            vae.load_state_dict((contents["best"] or contents)["model"])
            return figures.circles(vae, images, path, extremes=extremes)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=data.DATASETS, help="one data set's report alone")
    parser.add_argument("--data-dir", type=Path, help="for the pictures of the circles")
    parser.add_argument("--results", type=Path, default=tables.RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that sums up the data sets")
    args = parser.parse_args(argv)
    try:
        args.results.mkdir(parents=True, exist_ok=True)
        figures.divergence(args.results / "kl.png")
        there = [args.dataset] if args.dataset else [name for name in data.DATASETS if read(args.results, name)]
        for dataset in there:
            print(report(args.results, args.runs, dataset, args.data_dir))
        if not args.dataset:
            rows, slopes = ({name: f(args.results, name) for name in there} for f in (read, read_gradients))
            summary.page(rows, slopes).write(args.page)
            print(args.page)
    except (data.DataError, train.TrainingError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
