"""The page that sums up all data sets, and its parts that a data set's own report shows too."""

import math
import statistics

from scipy import stats

from experiments import claims, markdown, paper, tables
from experiments.claims import Groups, compare, mean, shell_kl, shells_in_use, shortened, spread

TITLES = {"static_mnist": "static MNIST", "omniglot": "Omniglot", "caltech101": "Caltech 101 Silhouettes"}

ORIGIN = {
    "static_mnist": "The data are Larochelle's fixed binarisation of MNIST, 50,000/10,000/10,000 images, to the byte.",
    "caltech101": "The data are Caltech 101 Silhouettes as published (Marlin et al.), 4,100/2,264/2,307 images.",
    "omniglot": "The data are Omniglot, 24,345 train and 8,070 test images, rebuilt from the 105×105 drawings by the "
    "rule behind the IWAE authors' chardata.mat (99.6% of the pixels that could be compared agree within 1/256; 45 "
    "images of one drawer are left out, and which ones chardata.mat lacks is not known): a few tenths of a nat from "
    "the paper say nothing. 1,345 images drawn from train are for validation; train is binarised anew in each batch.",
}


def title(dataset: str) -> str:
    return TITLES.get(dataset, dataset)


# ---- Law and gradient ----


def laws(data_sets: dict[str, Groups]) -> str:
    """What the exact law and what the unbiased gradient is worth, of the rows that have all three."""
    lines, proven = [], {}
    for dataset, grouped in data_sets.items():
        pooled, published = spread(grouped), paper.published(dataset)
        for shells in tables.LAW_SHELLS:
            models = [grouped.get(f"{shells} {words}".strip()) for words in ("", *tables.LAWS.values())]
            if None in models:
                continue
            implicit, rsvi, theirs = models
            gradient, law = compare(implicit, rsvi, pooled), compare(rsvi, theirs, pooled)
            cells = [title(dataset), shortened(shells), " ".join(str(len(model)) for model in models)]
            cells += [f"{mean(model):.2f}" for model in models]
            cells.append(f"{published[shells].ll:.2f}" if shells in published else "–")
            cells += [f"{result.difference:+.2f}{_p(result)}" for result in (gradient, law)]
            cells.append(" ".join(f"{statistics.fmean(shell_kl(line)[0] for line in model):.1f}" for model in models))
            cells.append(" ".join(f"{sum(not shells_in_use(line)[0] for line in model)}" for model in models))
            lines.append(cells)
            if shells in claims.UNBALANCED:
                proven[dataset, shells] = law.verdict == "holds" and law.difference > 2 * abs(gradient.difference)
    if not lines:
        return ""
    header = (
        "data | shells | seeds | LL exact, implicit | LL exact, rsvi | LL published law | paper's LL | "
        "gradient is worth | law is worth | KL of the first shell | runs that ignore it"
    )
    if not proven:
        sentence = ""
    elif all(proven.values()):
        sentence = "That unbalanced products failed in the paper is its sampler's doing, not the model's."
    else:
        failed = ", ".join(f"{shortened(shells)} on {title(name)}" for (name, shells), so in proven.items() if not so)
        sentence = f"That the paper's sampler makes unbalanced products fail is not shown for {failed}."
    return f"{_LAWS}\n\n{markdown.table(header, lines)}" + (f"\n\n**{sentence}**" if sentence else "")


_LAWS = (
    "The paper's code draws from another law than von Mises-Fisher's for κ > 10 unless κ is far larger than m, and "
    "takes a biased gradient (rsvi). Below is the same training with the exact law and the unbiased gradient, the "
    "exact law and the biased one, and the published law, which has the biased one; where three numbers stand together "
    "they are in this order. Under the published law the LL is as the paper's code estimates it, with samples of one "
    "law weighted by the density of another."
)


def _p(result: claims.Comparison) -> str:
    return "" if math.isnan(result.p) else f" (p {result.p:.3f})" if result.p >= 5e-4 else " (p < 0.001)"


# ---- What makes a product good ----


def latents(data_sets: dict[str, Groups]) -> str:
    """What each option changes over the seeds that it shares with the default."""
    lines, results = [], {}
    for dataset, grouped in data_sets.items():
        for shells in tables.LATENT_SHELLS:
            for words in tables.LATENTS:
                ours, base = claims.same_seeds(grouped.get(f"{shells} {words}", []), grouped.get(shells, []))
                if len(ours) < 3:
                    continue
                changes = [float(a["ll"]) - float(b["ll"]) for a, b in zip(ours, base, strict=True)]
                result = compare(ours, base, (math.nan, 0))
                results[dataset, shells, words] = result
                cells = [title(dataset), shortened(shells), words, str(len(ours)), f"{mean(base):.2f}"]
                error = statistics.stdev(changes) / math.sqrt(len(changes))
                cells += [f"{result.difference:+.2f} ± {error:.2f}", f"{result.p:.3f}"]
                cells += [
                    f"{mean(ours, 'elbo') - mean(base, 'elbo'):+.2f}",
                    f"{mean(ours, 'kl') - mean(base, 'kl'):+.2f}",
                ]
                cells += [f"{statistics.fmean(sum(shells_in_use(line)) for line in part):.1f}" for part in (base, ours)]
                lines.append(cells)
    if not lines:
        return ""
    header = (
        "data | shells | option | seeds | LL by default | LL ± standard error | p | ELBO | KL | "
        "shells in use by default | with the option"
    )
    return "\n\n".join(filter(None, [markdown.table(header, lines), choice(results), *map(_seeds, data_sets.items())]))


def choice(results: dict) -> str:
    """Which options are better or worse than the default beyond what so many tests bring about by chance."""
    sure = {name: result for name, result in results.items() if result.p * len(results) < claims.LEVEL}

    def listed(names):
        return ", ".join(f"`{words}` ({shortened(shells)}, {title(data)})" for data, shells, words in names) or "none"

    better = listed(name for name, result in sure.items() if result.difference > 0)
    worse = listed(name for name, result in sure.items() if result.difference < 0)
    return (
        f"Paired by seed; of {len(results)} tests a p below {claims.LEVEL / len(results):.4f} counts (Bonferroni). "
        f"**Better than the default: {better}. Worse: {worse}.**"
    )


def _seeds(item: tuple[str, Groups]) -> str:
    """Whether the seeds of a model that use more shells are the better ones."""
    dataset, grouped = item
    parts = []
    for name in tables.LATENT_SHELLS:
        lines = grouped.get(name, [])
        used = [sum(shells_in_use(line)) for line in lines]
        if len(lines) >= 5 and len(set(used)) > 1:
            result = stats.spearmanr(used, [float(line["ll"]) for line in lines])
            counts = ", ".join(
                f"{count} in use: {mean([line for line, n in zip(lines, used, strict=True) if n == count]):.2f} "
                f"({used.count(count)} seeds)"
                for count in sorted(set(used))
            )
            parts.append(
                f"LL of {shortened(name)} on {title(dataset)} by the number of shells in use: {counts}; "
                f"rank correlation {result.statistic:+.2f}, p = {result.pvalue:.2f}."
            )
    return " ".join(parts)


def gradients(data_sets: dict[str, list[dict]]) -> tuple[str, str]:
    """What `experiments.gradients` found, of the lines of each data set's file: in words, and as a table."""
    cells, means, deviations, silent, apart = [], [], [], [], [0.0]
    for dataset, lines in data_sets.items():
        for line in lines:
            number = {name: float(text) for name, text in line.items() if name not in ("row", "seed", "epochs")}
            names = ("kl", "kl_slope", "mean_implicit", "mean_rsvi", "deviation_implicit", "deviation_rsvi")
            shell = line["row"].split()[0].split(",")[int(number["shell"]) - 1]
            cells.append([title(dataset), shortened(line["row"]), f"S{shell}", *(f"{number[n]:.3f}" for n in names)])
            means.append(number["mean_rsvi"] / number["mean_implicit"])
            deviations.append(number["deviation_implicit"] / number["deviation_rsvi"])
            share = number["mean_implicit"] / number["kl_slope"]
            silent.append(share) if share < 0.5 else apart.append(abs(share - 1))
    if not cells:
        return "", ""
    text = (
        "Does the unbiased gradient spread more, or does the bias help? At trained models, d/d log κ of log p(x|z) by "
        f"draw of z has with rsvi {min(means):.2f} to {max(means):.2f} times the mean of the unbiased one, and the "
        f"unbiased one {min(deviations):.2f} to {max(deviations):.2f} times the deviation of rsvi."
    )
    if silent:
        text += (
            f" In {len(silent)} of the {len(cells)} shells the likelihood's slope is at most {max(silent):.2f} of the "
            "KL's, by either gradient: the decoder does not listen to them, and their κ is driven to its least. In the "
            f"others the two differ by {100 * max(apart):.0f}% at most, as at an optimum."
        )
    header = "data | shells | shell | KL | slope of the KL | of log p, implicit | rsvi | deviation, implicit | rsvi"
    return text, markdown.table(header, cells)


# ---- The page ----

INTRO = (
    '"Increasing Expressivity of a Hyperspherical VAE" (Davidson, Tomczak, Gavves, 2019) breaks the latent sphere of a '
    "hyperspherical VAE up into a product of smaller ones. Here it is repeated with samples of the exact law and their "
    "unbiased gradient, by the paper's protocol: MLP 784-256-128-latent, Adam 1e-3, batches of 100, 300 epochs, the "
    "KL's weight rising over 100, the best model by validation ELBO after them, a stop after 50 epochs without 0.01 "
    "nats, LL by 500 importance samples. Every number on this page is computed from "
    "[experiments/results](../experiments/results) by `python -m experiments.report`. Shells are sphere dimensions, LL "
    "means over seeds, in nats; p is Student's test, paired where two models share three seeds, and below 0.05 a claim "
    "counts as decided."
)


CHOSEN = (
    "The best of several rows is chosen by the seeds that then speak for it, which flatters a small lead; a row of one "
    "seed can lead by chance. A shell counts as ignored where its KL is within "
    f"{claims.IGNORED:g} nats of the least that its κ allows."
)


def page(data_sets: dict[str, Groups], slopes: dict[str, list[dict]]) -> markdown.Page:
    """The whole story, of the paper's data sets and others that have rows; `slopes` is what `gradients` takes."""
    data_sets = {name: {} for name in TITLES} | data_sets
    text = markdown.Page("The paper on its own data sets", INTRO)
    text.section("The best of each kind", _best(data_sets), _seeds_behind(data_sets))
    judged = {name: {claim.name: claim for claim in claims.claims(name, rows)} for name, rows in data_sets.items()}
    lines = [[name, *(judged[dataset][name].verdict for dataset in judged)] for name in claims.NAMES]
    header = " | ".join(["claim", *map(title, judged)])
    text.section("The claims", markdown.table(header, lines), CHOSEN, *(_claim(name, judged) for name in claims.NAMES))
    text.section("Law and gradient", laws(data_sets) or "No row has been run under all of them yet.")
    waiting = "No option has three seeds beside the default's yet: which is to be chosen is open."
    text.section("What makes a product good", latents(data_sets) or waiting, gradients(slopes)[0])
    text.section(
        "The data, and all rows",
        *(
            f"- [{title(name)}](../experiments/results/report_{name}.md): {sum(map(len, rows.values()))} runs of "
            f"{len(rows)} rows. {ORIGIN.get(name, '')}".strip()
            for name, rows in data_sets.items()
            if rows
        ),
        "![KL of a von Mises-Fisher law from the uniform law, over m and κ](../experiments/results/kl.png)",
    )
    return text


def _best(data_sets: dict[str, Groups]) -> str:
    lines = []
    for dataset, grouped in data_sets.items():
        published, products = paper.published(dataset), claims.products(dataset)
        theirs = published.get(paper.BEST_SPHERE)
        top = max((name for name in products if name in published), default=None, key=lambda name: published[name].ll)
        sphere, product, gaussian = (
            claims.best(grouped, kind) for kind in (tables.SPHERES, products, [tables.GAUSSIAN])
        )
        cells = [title(dataset), f"{theirs.ll:.2f}" if theirs else "–", _score(grouped, sphere)]
        cells += [f"{published[top].ll:.2f} ({shortened(top)})" if top else "–", _score(grouped, product)]
        lines.append([*cells, _score(grouped, gaussian)])
    return markdown.table("data | paper's best sphere | ours | paper's best product | ours | our Gaussian", lines)


def _score(grouped: Groups, name: str | None) -> str:
    return f"{mean(grouped[name]):.2f} ({shortened(name)})" if name else "–"


def _seeds_behind(data_sets: dict[str, Groups]) -> str:
    """How many of the paper's rows there are, with how many seeds, and how many have at least its LL."""
    lines = []
    for dataset, grouped in data_sets.items():
        published = {name: row for name, row in paper.published(dataset).items() if name != paper.BEST_SPHERE}
        if not published:
            continue
        there = [name for name in published if name in grouped]
        behind = [
            f"{shortened(name)} {mean(grouped[name]) - published[name].ll:+.2f}"
            for name in there
            if mean(grouped[name]) < published[name].ll
        ]
        three = sum(len(grouped[name]) >= 3 for name in there)
        cells = [title(dataset), f"{len(there)} of {len(published)}", str(three), str(len(there) - len(behind))]
        lines.append([*cells, ", ".join(behind) or "–"])
    return markdown.table(
        "data | the paper's rows that were run | with three seeds | LL at least the paper's | behind it", lines
    )


def _claim(name: str, judged: dict) -> str:
    parts = [f"{title(dataset)}: {found[name].text}" for dataset, found in judged.items() if found[name].text]
    return f"**{name}.** {' '.join(parts)}" if parts else ""
