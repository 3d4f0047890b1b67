"""What the paper reports: the figures of its Tables 1 to 5, from paper.csv."""

import csv
from pathlib import Path
from typing import NamedTuple

FIGURES = Path(__file__).parent / "paper.csv"
BEST_SPHERE = "best single sphere (d <= 40)"


class Published(NamedTuple):
    """One row: the ambient dimension in all, means over three seeds; the cost RE is -log p(x|z)."""

    table: int
    ambient: int
    ll: float
    elbo: float
    cost: float | None
    kl: float | None


def published(dataset: str) -> dict[str, Published]:
    """Row name -> figures of this data set, Table 1's best sphere first, empty for a data set that the paper lacks."""
    with FIGURES.open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["dataset"] == dataset]
    rows: dict[str, Published] = {}
    for line in sorted(lines, key=lambda line: int(line["table"])):
        cost, kl = (float(line[name]) if line[name] else None for name in ("reconstruction", "kl"))
        figures = Published(
            int(line["table"]), int(line["ambient"] or 0), float(line["ll"]), float(line["elbo"]), cost, kl
        )
        rows.setdefault(line["shells"], figures)  # Table 5 names the best sphere of Table 1 again
    return rows
