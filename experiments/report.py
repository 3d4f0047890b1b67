"""The results beside the paper's, its claims judged by them, and figures: python -m experiments.report.

Reads results/table2_<dataset>.csv and its like, and writes results/report_<dataset>.md and the figures it shows; every
number and verdict in it comes from those rows. The picture of the circles needs the checkpoint of a run that has some,
and is drawn where --runs holds one.
"""

import argparse
import statistics
import sys
from pathlib import Path

from experiments import data, figures, models, table2, train

BALANCED = ("20,19", "10,9,9,9", "6,6,6,6,6,5", "4,3,3,3,3,3,3,3,3,3", table2.TORUS)
UNBALANCED = ("38,1", "34,1,1,1", "30,1,1,1,1,1", "22,1,1,1,1,1,1,1,1,1")
ORDER = (*table2.FIXED_AMBIENT, *table2.FIXED_DOF)

Groups = dict[tuple[str, str], list[dict]]
"""(shells, gradient) -> the rows of its seeds"""


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


def groups(rows: list[dict]) -> Groups:
    """Rows of the longest runs, their seeds together, in the order of the tables."""
    grouped: Groups = {}
    place = {name: at for at, name in reversed(list(enumerate(ORDER)))}
    for row in sorted(rows, key=lambda row: (place.get(row["shells"], len(place)), row["gradient"], int(row["seed"]))):
        grouped.setdefault((row["shells"], row["gradient"]), []).append(row)
    for name, members in grouped.items():
        longest = max(int(row["epochs"]) for row in members)
        grouped[name] = [row for row in members if int(row["epochs"]) == longest]
    return grouped


def mean(rows: list[dict], column: str) -> float:
    return statistics.fmean(float(row[column]) for row in rows)


def shell_kl(row: dict) -> list[float]:
    """The KL of each shell. Which of equal shells carries how much is the seed's choice: they stand largest first."""
    dims, kl = row["shells"].split()[0].split(","), map(float, row["kl_per_shell"].split())
    left: dict = {}
    for dim, value in sorted(zip(dims, kl, strict=True), key=lambda shell: shell[1]):
        left.setdefault(dim, []).append(value)
    return [left[dim].pop() for dim in dims]


def shells_in_use(row: dict) -> list[bool]:
    config = table2.parse_row(row["shells"])
    return figures.in_use(models.ambient_dims(config.shells), config.min_kappa, shell_kl(row))


# ---- Tables ----


def markdown(header: str, lines: list[list[str]]) -> str:
    names = header.split(" | ")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *lines))


def mean_and_deviation(values) -> str:
    values = [float(value) for value in values]
    text = f"{statistics.fmean(values):.2f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.2f}"


def trained_epochs(curves: list[dict]) -> dict:
    """table2.key of a run -> the epochs it trained before it was stopped."""
    epochs: dict = {}
    for row in curves:
        epochs[table2.key(row)] = max(int(row["epoch"]), epochs.get(table2.key(row), 0))
    return epochs


def table(grouped: Groups, paper=None, epochs=None) -> str:
    """One line for each composition and gradient, beside the paper's where it has one."""
    paper, epochs = paper or {}, epochs or {}
    lines = []
    for (shells, gradient), members in grouped.items():
        cells = [shortened(shells), gradient, str(len(members))]
        trained = [epochs[table2.key(row)] for row in members if table2.key(row) in epochs]
        cells.append(f"{statistics.fmean(trained):.0f}" if trained else members[0]["epochs"])
        cells += [mean_and_deviation(row[name] for row in members) for name in ("ll", "elbo")]
        # The paper's RE is the cost, -log p(x|z).
        cells += [mean_and_deviation(-float(row["reconstruction"]) for row in members)]
        cells += [mean_and_deviation(row["kl"] for row in members)]
        published = paper.get(shells, ())
        cells += [f"{number:.2f}" for number in published] or ["–"] * 4
        cells.append(f"{mean(members, 'll') - published[0]:+.2f}" if published else "–")
        lines.append(cells)
    return markdown(
        "shells | gradient | seeds | epochs | LL | ELBO | RE | KL | paper's LL | ELBO | RE | KL | LL - paper's", lines
    )


# ---- What the rows say ----


def seed_deviation(grouped: Groups) -> float:
    """The pooled standard deviation of LL between seeds; NaN where no composition has two."""
    spread = [statistics.variance([float(row["ll"]) for row in rows]) for rows in grouped.values() if len(rows) > 1]
    return statistics.fmean(spread) ** 0.5 if spread else float("nan")


def gain(better: list[dict], worse: list[dict], deviation: float) -> str:
    """A difference of LL, and what it is beside the difference that other seeds of one model show."""
    difference = mean(better, "ll") - mean(worse, "ll")
    noise = deviation * (1 / len(better) + 1 / len(worse)) ** 0.5
    verdict = "holds" if difference > 2 * noise else "does not hold" if difference < -2 * noise else "is not decided"
    if noise != noise:
        verdict = "holds" if difference > 0 else "does not hold"
        return f"{difference:+.2f} nats, one seed each: **{verdict}**"
    seeds = f"{len(better)} against {len(worse)} seeds of one model"
    return f"{difference:+.2f} nats, where {seeds} differ by {noise:.2f}: **{verdict}**"


def claims(grouped: Groups) -> str:
    """The paper's three claims, as far as there are rows to judge them by."""
    implicit = {shells: rows for (shells, gradient), rows in grouped.items() if gradient == "implicit"}
    score = {shells: mean(rows, "ll") for shells, rows in implicit.items()}
    deviation = seed_deviation(grouped)
    text = []

    products = [shells for shells in table2.PAPER if shells in score]
    spheres = [shells for shells in table2.SPHERES if shells in score]
    if products and spheres:
        product, sphere = (max(names, key=score.get) for names in (products, spheres))
        text.append(
            f"**A product of spheres beats one sphere.** The best product, {shortened(product)}, has LL "
            f"{score[product]:.2f}, the best sphere, {sphere}, {score[sphere]:.2f}: "
            f"{gain(implicit[product], implicit[sphere], deviation)}."
        )

    balanced = [shells for shells in ("40", *BALANCED) if shells in score]
    if len(balanced) > 1:
        best, most = max(balanced, key=score.get), balanced[-1]
        steps = ", ".join(f"{shells.count(',') + 1}: {score[shells]:.2f}" for shells in balanced)
        text.append(
            f"**Too many breaks hurt.** LL of the balanced break-ups by their number of shells: {steps}. The best has "
            f"{best.count(',') + 1}, and is better than {most.count(',') + 1} by "
            f"{gain(implicit[best], implicit[most], deviation)}."
        )

    unbalanced = [shells for shells in UNBALANCED if shells in score]
    if unbalanced:
        ignored = [shells for shells in unbalanced if not any(shells_in_use(row)[0] for row in implicit[shells])]
        verdict = "holds" if len(ignored) == len(unbalanced) else "does not hold"
        text.append(
            f"**Unbalanced products ignore the large shell.** The large shell is ignored in {len(ignored)} of the "
            f"{len(unbalanced)} break-ups into one large shell and circles: **{verdict}**. A shell counts as ignored "
            f"where its KL is within {figures.IGNORED:g} nats of the least that its smallest κ allows."
        )
        lines = []
        for row in (row for shells in products for row in implicit[shells]):
            used = shells_in_use(row)
            ignored = ",".join(d for d, known in zip(row["shells"].split(","), used, strict=True) if not known)
            cells = [shortened(row["shells"]), row["seed"], f"{sum(used)} of {len(used)}"]
            cells += [shortened(ignored) if ignored else "–", " ".join(f"{kl:.1f}" for kl in shell_kl(row))]
            lines.append(cells)
        text.append(markdown("shells | seed | used | ignored | KL of each, equal shells by size", lines))
    return "\n\n".join(text)


def same_seeds(grouped: Groups, name: tuple, base: tuple) -> tuple[list[dict], list[dict]]:
    """The rows of both, for the seeds that both have."""
    one, other = grouped.get(name, []), grouped.get(base, [])
    common = {row["seed"] for row in one} & {row["seed"] for row in other}
    return [row for row in one if row["seed"] in common], [row for row in other if row["seed"] in common]


def differences(grouped: Groups, pairs) -> str:
    """What each of the pairs (name, base) changes over the same seeds: a table, or nothing."""
    lines = []
    for name, base in pairs:
        ours, others = same_seeds(grouped, name, base)
        if ours:
            cells = [shortened(name[0]), name[1], shortened(base[0]), base[1], str(len(ours))]
            change = (f"{mean(ours, c) - mean(others, c):+.2f}" for c in ("ll", "elbo", "reconstruction", "kl"))
            lines.append([*cells, *change])
    header = "shells | gradient | against | gradient | seeds | LL | ELBO | reconstruction | KL"
    return markdown(header, lines) if lines else ""


# ---- The report ----


def run_with_circles(runs: Path, dataset: str) -> Path | None:
    """The checkpoint with the most epochs among this data set's runs that have circles beside a larger shell."""
    found = []
    for path in sorted(runs.glob(f"{dataset}_*/checkpoint.pt")):
        config = train.read_checkpoint(path)["config"]
        if config["model"] == "vmf" and 1 in config["shells"] and max(config["shells"]) > 1:
            found.append((config["epochs"], config["shells"].count(1), path))
    return max(found)[-1] if found else None


def write(results: Path, runs: Path, dataset: str, data_dir=None) -> Path:
    """results/report_<dataset>.md and its figures; results/notes_<dataset>.md, where there is one, ends it."""
    grouped = groups(table2.read_rows(results / f"table2_{dataset}.csv"))
    dof = groups(table2.read_rows(results / f"table5_{dataset}.csv"))
    curves = table2.read_rows(results / f"curves2_{dataset}.csv", table2.CURVE_COLUMNS)
    if not grouped and not dof:
        raise train.TrainingError(f"{results}: no table2_{dataset}.csv or table5_{dataset}.csv with a finished row")
    paper = table2.PAPER if dataset == "static_mnist" else None
    text = [
        f"# Hyperspherical VAEs on {dataset}",
        "Shells are sphere dimensions; nats; mean ± deviation over seeds; epochs trained before early stopping.",
    ]

    def section(title, *paragraphs):
        text.extend([f"## {title}", *filter(None, paragraphs)])

    def figure(title, name):
        section(title, f"![{title}]({name})")

    if grouped:
        best = "The paper's best single sphere: LL {:.2f}, ELBO {:.2f}.".format(*table2.BEST_SINGLE_SPHERE)
        section("Ambient dimension 41", table(grouped, paper, trained_epochs(curves)), best if paper else "")
    if dof:
        section("40 degrees of freedom", table(dof))
    judged = claims(grouped)
    if judged:
        section("The paper's claims", judged)
    unbiased = differences(grouped, [((s, "implicit"), (s, "rsvi")) for s, gradient in grouped if gradient == "rsvi"])
    if unbiased:
        section("What the unbiased gradient changes", "Implicit less rsvi, both with the exact sampler.", unbiased)
    options = [((s, gradient), (s.split()[0], gradient)) for s, gradient in grouped if " " in s]
    beyond = differences(grouped, options)
    if beyond:
        section("Beyond the paper", "An option of the latent or the bound less the paper's.", beyond)

    figures.divergence(results / "kl.png")
    figure("KL over dimension and concentration", "kl.png")
    kinds = {
        kind: {s: [shell_kl(row) for row in grouped[s, "implicit"]] for s in names}
        for kind, all_names in (("balanced", BALANCED), ("unbalanced", UNBALANCED))
        if (names := [s for s in all_names if (s, "implicit") in grouped])
    }
    if kinds:
        figures.shells(kinds, results / f"shells_{dataset}.png")
        figure("KL of each shell", f"shells_{dataset}.png")
    lines: dict = {}
    for row in curves:
        if row["shells"] == table2.TORUS:
            epochs, values = lines.setdefault((row["gradient"], row["seed"]), ([], []))
            epochs.append(int(row["epoch"])), values.append(float(row["validation"]))
    if lines:
        figures.curves(lines, "20 circles", results / f"torus_{dataset}.png")
        figure("Training 20 circles", f"torus_{dataset}.png")
    checkpoint = run_with_circles(runs, dataset)
    circles = results / f"circles_{dataset}.png"
    if checkpoint is not None and (data_dir is not None or dataset == "digits"):
        contents = train.read_checkpoint(checkpoint)
        config, images = contents["config"], data.load(dataset, data_dir)
        vae = models.build(images.size, config["shells"], min_kappa=config["min_kappa"]).eval()
        vae.load_state_dict((contents["best"] or contents)["model"])
        figures.circles(vae, images, circles)
    if circles.exists():
        figure("Turning each circle once", circles.name)
    notes = results / f"notes_{dataset}.md"
    if notes.exists():
        section("Notes", notes.read_text().strip())
    path = results / f"report_{dataset}.md"
    train.replace_file(path, lambda beside: beside.write_text("\n\n".join(text) + "\n"))
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
    except (data.DataError, train.TrainingError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
