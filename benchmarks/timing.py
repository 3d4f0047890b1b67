"""Timing and tables, shared by the benchmarks."""

import dataclasses
import time
from collections.abc import Callable


@dataclasses.dataclass
class Case:
    """One row: what is computed, by whom, how many items a call handles, and cells that are not timings."""

    name: str
    contenders: dict[str, Callable[[], object]]  # the first is ours
    count: int = 1
    notes: dict[str, str] = dataclasses.field(default_factory=dict)


def best_seconds(functions, budget):
    """The least time of each; in turn, so that a drift of the machine meets all alike, and thrice, for warm caches."""
    best = [float("inf")] * len(functions)
    for function in functions:
        function()
        function()
    end = time.perf_counter() + budget
    while True:
        for i, function in enumerate(functions):
            for _ in range(3):
                start = time.perf_counter()
                function()
                best[i] = min(best[i], time.perf_counter() - start)
        if time.perf_counter() > end:
            return best


def table(title, unit, cases, budget, write):
    """Times the cases, writes a Markdown table row by row, and returns the rows; unit is a name and its seconds."""
    unit_name, unit_seconds = unit
    columns, rows = None, []
    for case in cases:
        if columns is None:
            columns = list(case.contenders) + list(case.notes)
            write(f"\n### {title}\n")
            write(f"| {unit_name} | " + " | ".join(columns) + " |")
            write("|---|" + "---|" * len(columns))
        seconds = dict(zip(case.contenders, best_seconds(case.contenders.values(), budget), strict=True))
        times = {name: value / case.count for name, value in seconds.items()}
        cells = {name: f"{value / unit_seconds:.3g}" for name, value in times.items()} | case.notes
        write(f"| {case.name} | " + " | ".join(cells.get(name, "") for name in columns) + " |")
        rows.append({"name": case.name, "unit": unit_name, "seconds": times, "notes": case.notes})
    return rows
