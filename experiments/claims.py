"""What the rows of results say: means over seeds, tests between two models, and the paper's claims judged by them."""

import math
import statistics
from typing import NamedTuple

import torch
from scipy import stats

import vmf_ops
from experiments import models, paper, tables

BALANCED = ("40", "20,19", "10,9,9,9", "6,6,6,6,6,5", "4,3,3,3,3,3,3,3,3,3", tables.TORI[0])
UNBALANCED = ("38,1", "34,1,1,1", "30,1,1,1,1,1", "22,1,1,1,1,1,1,1,1,1")
# The break-up of 41 coordinates that each of Table 5's, of 40 degrees of freedom, has the place of.
FIXED_DOF = {
    "10,10,10,10": "10,9,9,9",
    "7,7,7,7,7,5": "6,6,6,6,6,5",
    "15,10,5,4,3,3": "15,10,4,3,2,1",
    "10,7,6,5,4,3,2,1,1,1": "10,5,4,3,2,2,2,1,1,1",
    "4,4,4,4,4,4,4,4,4,4": "4,3,3,3,3,3,3,3,3,3",
}
IGNORED = 0.1
"""Nats above the least that its smallest κ allows, from which on a shell's KL counts as information on the image."""
LEVEL = 0.05

Groups = dict[str, list[dict]]
"""A row's name -> the lines of its seeds"""


def groups(lines: list[dict], order=()) -> Groups:
    """The lines of the longest runs, their seeds together, in this order and then as they came."""
    grouped: Groups = {name: [] for name in order}
    for line in sorted(lines, key=lambda line: int(line["seed"])):
        grouped.setdefault(line["row"], []).append(line)
    for name, members in grouped.items():
        longest = max((int(line["epochs"]) for line in members), default=0)
        grouped[name] = [line for line in members if int(line["epochs"]) == longest]
    return {name: members for name, members in grouped.items() if members}


def mean(lines: list[dict], column: str = "ll") -> float:
    return statistics.fmean(float(line[column]) for line in lines)


def shortened(row: str) -> str:
    """30,1,1,1,1,1 as 30,1×5."""
    name, *options = row.split()
    parts: list = []
    for shell in name.split(","):
        if parts and parts[-1][0] == shell:
            parts[-1][1] += 1
        else:
            parts.append([shell, 1])
    name = ",".join(f"{shell}×{count}" if count > 2 else ",".join([shell] * count) for shell, count in parts)
    return " ".join([name, *options])


# ---- Shells ----


def shell_kl(line: dict) -> list[float]:
    """The KL of each shell. Which of equal shells carries how much is the seed's choice: they stand largest first."""
    dims, kl = line["row"].split()[0].split(","), map(float, line["kl_per_shell"].split())
    left: dict = {}
    for dim, value in sorted(zip(dims, kl, strict=True), key=lambda shell: shell[1]):
        left.setdefault(dim, []).append(value)
    return [left[dim].pop() for dim in dims]


def in_use(dims, min_kappa: float, kl) -> list[bool]:
    """Whether the decoder is told anything by each shell, of these ambient dimensions and this KL."""
    least = vmf_ops.vmf_kl_uniform(torch.tensor(dims), min_kappa)
    return (torch.as_tensor(kl) >= least + IGNORED).tolist()


def shells_in_use(line: dict) -> list[bool]:
    config = tables.parse_row(line["row"])
    return in_use(models.ambient_dims(config.shells), config.min_kappa, shell_kl(line))


# ---- Two models ----


class Comparison(NamedTuple):
    """The difference of the mean LL of two models, and the chance of one as large were they equal."""

    difference: float
    p: float
    how: str

    @property
    def verdict(self) -> str:
        if not self.p < LEVEL:  # NaN too, of one seed each
            return "not decided"
        return "holds" if self.difference > 0 else "does not hold"

    def __str__(self):
        p = "" if math.isnan(self.p) else f", p = {self.p:.3f}" if self.p >= 5e-4 else ", p < 0.001"
        return f"{self.difference:+.2f} nats ({self.how}{p})"


def spread(grouped: Groups) -> tuple[float, int]:
    """The pooled standard deviation of LL between the seeds of one model, and its degrees of freedom."""
    squares, degrees = 0.0, 0
    for lines in grouped.values():
        if len(lines) > 1:
            squares += statistics.variance(float(line["ll"]) for line in lines) * (len(lines) - 1)
            degrees += len(lines) - 1
    return (math.sqrt(squares / degrees) if degrees else math.nan), degrees


def same_seeds(one: list[dict], other: list[dict]) -> tuple[list[dict], list[dict]]:
    """The lines of both, for the seeds that both have."""
    common = {line["seed"] for line in one} & {line["seed"] for line in other}
    return [line for line in one if line["seed"] in common], [line for line in other if line["seed"] in common]


def compare(one: list[dict], other: list[dict], pooled: tuple[float, int]) -> Comparison:
    """Student's test: paired where three seeds are shared, else by the pooled deviation of the data set's rows."""
    ours, others = same_seeds(one, other)
    if len(ours) >= 3:
        changes = [float(a["ll"]) - float(b["ll"]) for a, b in zip(ours, others, strict=True)]
        return Comparison(statistics.fmean(changes), _p_of_mean(changes), f"paired, {len(ours)} seeds")
    difference = mean(one) - mean(other)
    deviation, degrees = pooled
    how = f"{len(one)} and {len(other)} seeds"
    if not degrees:
        return Comparison(difference, math.nan, how)
    error = deviation * math.sqrt(1 / len(one) + 1 / len(other))
    p = 2 * stats.t.sf(abs(difference) / error, degrees) if error else float(difference == 0)
    return Comparison(difference, float(p), f"{how}, between which one model deviates by {deviation:.2f}")


def _p_of_mean(changes: list[float]) -> float:
    """Student's test of a mean of 0."""
    if statistics.pstdev(changes) == 0:
        return float(changes[0] == 0)
    return float(stats.ttest_1samp(changes, 0).pvalue)


# ---- The claims ----


class Claim(NamedTuple):
    name: str
    verdict: str
    text: str


PRODUCT = "A product of spheres beats one sphere"
DEGREES = "Fixed degrees of freedom beat a fixed ambient dimension"
BREAKS = "Too many breaks hurt"
LARGE = "Unbalanced products ignore the large shell"
TORUS = "Circles alone do not train"
GAUSS = "A product of spheres beats the Gaussian"
NAMES = (PRODUCT, DEGREES, BREAKS, LARGE, TORUS, GAUSS)
NO_ROWS = "no rows yet"


def best(grouped: Groups, names) -> str | None:
    """Of these rows, the one with the best mean LL."""
    there = [name for name in names if name in grouped]
    return max(there, key=lambda name: mean(grouped[name])) if there else None


def products(dataset: str) -> list[str]:
    """The paper's products of 41 coordinates."""
    published = paper.published(dataset) or paper.published("static_mnist")
    return [name for name, figures in published.items() if "," in name and figures.ambient == 41]


def claims(dataset: str, grouped: Groups) -> list[Claim]:
    """Every one of NAMES, as the rows have it."""
    pooled = spread(grouped)
    product, sphere = best(grouped, products(dataset)), best(grouped, tables.SPHERES)

    def against(name, one, other):
        """What `one`, as good as `other` by the claim, is beside it."""
        if one is None or other is None:
            return Claim(name, NO_ROWS, "")
        result = compare(grouped[one], grouped[other], pooled)
        text = f"{shortened(one)} has LL {mean(grouped[one]):.2f}, {shortened(other)} {mean(grouped[other]):.2f}"
        return Claim(name, result.verdict, f"{text}: {result}.")

    gaussian = tables.GAUSSIAN if tables.GAUSSIAN in grouped else None
    return [
        against(PRODUCT, product, sphere),
        _degrees(grouped),
        _breaks(grouped, pooled),
        _large_shell(grouped),
        _torus(grouped, product),
        against(GAUSS, product, gaussian),
    ]


def _degrees(grouped: Groups) -> Claim:
    parts, changes = [], []
    for name, base in FIXED_DOF.items():
        ours, others = same_seeds(grouped.get(name, []), grouped.get(base, []))
        if ours:
            change = [float(a["ll"]) - float(b["ll"]) for a, b in zip(ours, others, strict=True)]
            changes += change
            parts.append(f"{shortened(base)} to {shortened(name)} {statistics.fmean(change):+.2f} ({len(change)})")
    if not changes:
        return Claim(DEGREES, NO_ROWS, "")
    p = _p_of_mean(changes) if len(changes) > 2 else math.nan
    result = Comparison(statistics.fmean(changes), p, f"{len(changes)} pairs of one seed")
    return Claim(DEGREES, result.verdict, f"LL changes (seeds): {', '.join(parts)}; in the mean {result}.")


def _breaks(grouped: Groups, pooled) -> Claim:
    there = [name for name in BALANCED if name in grouped]
    if len(there) < 3:
        return Claim(BREAKS, NO_ROWS, "")
    top, most = best(grouped, there), there[-1]
    steps = ", ".join(f"{name.count(',') + 1}: {mean(grouped[name]):.2f}" for name in there)
    text = f"LL of the balanced break-ups by their number of shells: {steps}."
    if top == most:
        return Claim(BREAKS, "does not hold", f"{text} The last is the best.")
    result = compare(grouped[top], grouped[most], pooled)
    counts = (name.count(",") + 1 for name in (top, most))
    return Claim(BREAKS, result.verdict, "{} {} against {} shells: {}.".format(text, *counts, result))


def _large_shell(grouped: Groups) -> Claim:
    lines = [line for name in UNBALANCED for line in grouped.get(name, [])]
    if not lines:
        return Claim(LARGE, NO_ROWS, "")
    ignored = sum(not shells_in_use(line)[0] for line in lines)
    least = min(lines, key=lambda line: shell_kl(line)[0])
    share = statistics.fmean(shell_kl(line)[0] / float(line["kl"]) for line in lines)
    text = (
        f"In {len(lines)} runs of one large shell and circles the large one is ignored {ignored} times; in the mean it "
        f"carries {100 * share:.0f}% of the KL, and {shell_kl(least)[0]:.1f} nats at least ({shortened(least['row'])})."
    )
    verdict = "holds" if ignored > 0.75 * len(lines) else "does not hold" if ignored < 0.25 * len(lines) else "in part"
    return Claim(LARGE, verdict, text)


def _torus(grouped: Groups, product) -> Claim:
    parts = []
    for name in (name for name in tables.TORI if name in grouped):
        seeds = len(grouped[name])
        parts.append(f"{name.count(',') + 1} circles train to the end, LL {mean(grouped[name]):.2f} ({seeds} seeds)")
    if not parts:
        return Claim(TORUS, NO_ROWS, "")
    text = "; ".join(parts)
    if product:
        text += f"; the best product has {mean(grouped[product]):.2f}"
    return Claim(TORUS, "does not hold", text + ".")
