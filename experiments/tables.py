"""The paper's tables as one command: python -m experiments.tables --dataset static_mnist --data-dir DIR.

Every row of shells and every seed is one training run and one line of results/rows_<dataset>.csv, written when the run
ends. Lines that are there are not run again, and a run that was stopped goes on from its checkpoint, so the command can
be stopped and started at will. Rows are named as in the paper's tables: sphere dimensions with commas, gaussian:41 for
a Gaussian of 41 dimensions, and options after a blank, as in "15,10,4,3,2,1 min_kappa=0" or "20,19 beta=1,2"; "paper",
"law" and "latent" name the rows of a whole part of the report.
"""

import argparse
import csv
import fcntl
import math
import os
import sys
from concurrent import futures
from pathlib import Path

import torch

import vmf_ops
from experiments import data, models, paper, train

RESULTS = Path(__file__).parent / "results"
NUMBERS = ("ll", "elbo", "reconstruction", "kl")
COLUMNS = ("row", "seed", "epochs", "trained_epochs", *NUMBERS, "kl_per_shell", "seconds", "version")
CURVE_COLUMNS = ("row", "seed", "epochs", "epoch", "train", "validation", "kl_per_shell")
CURVE_STEP = 5
"""Epochs between two points of a curve."""

SPHERES = ("2", "5", "10", "20", "40")
TORI = tuple(",".join(["1"] * count) for count in (20, 40))
"""S_40 broken up whole: 40 coordinates, or 40 degrees of freedom."""
GAUSSIAN = "gaussian:41"

LAW_SHELLS = ("34,1,1,1", "30,1,1,1,1,1", "10,9,9,9")
LAWS = {"rsvi": "gradient=rsvi", "published": "gradient=rsvi law=published"}
"""The paper's gradient under the exact law, and under the law that its code draws from."""

LATENT_SHELLS = ("10,9,9,9", "15,10,4,3,2,1")
LATENTS = (
    "gradient=rsvi",
    "min_kappa=0",
    "kappa=exp",
    "kappa=scaled",
    "free_bits=1",
    "shell_warmup=in_turn",
    "samples=4",
)
"""What might make a product good."""


def rows_of(part: str, dataset: str) -> list[str]:
    """The rows that a part of the report needs; any other name is a row's own."""
    if part == "paper":
        products = [name for name in paper.published(dataset) or paper.published("static_mnist") if "," in name]
        return [*products, *SPHERES, GAUSSIAN, *TORI]
    if part == "law":
        return [f"{shells} {words}".strip() for words in ("", *LAWS.values()) for shells in LAW_SHELLS]
    if part == "latent":
        return [f"{shells} {words}".strip() for shells in LATENT_SHELLS for words in ("", *LATENTS)]
    return [part]


def parse_row(row: str, dataset="static_mnist", **options) -> train.Config:
    """The run that a row's name describes."""
    try:
        name, *words = row.split()
        for word in words:
            option, value = word.split("=")
            options[option] = train.OPTIONS[option](value)
        if name.startswith("gaussian:"):
            return train.Config(dataset, models.parse_shells(str(int(name[9:]) - 1)), "gaussian", **options)
        return train.Config(dataset, models.parse_shells(name), **options)
    except KeyError as error:
        known = ", ".join(train.OPTIONS)
        raise train.TrainingError(f"{row!r} is not a row: its options are {known}, not {error}") from None
    except ValueError as error:
        raise train.TrainingError(f"{row!r} is not a row: {error}") from None


# ---- The files of results ----


def key(row: dict) -> tuple:
    """What makes a row of results unique."""
    return row["row"], int(row["seed"]), int(row["epochs"])


def read_rows(path: Path, columns=COLUMNS) -> list[dict]:
    """The finished rows of a CSV file; a last line that a kill cut short is not one."""
    if not path.exists():
        return []
    try:
        lines = path.read_text().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise train.TrainingError(f"{path}: not a text file ({error})") from None
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    reader = csv.DictReader(lines)
    if lines and reader.fieldnames != list(columns):
        raise train.TrainingError(f"{path}: its columns are not {', '.join(columns)}")
    rows = list(reader)
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise train.TrainingError(f"{path}: line {number} has more or fewer than its {len(columns)} columns")
        try:
            _check_values(row)
        except ValueError as error:
            raise train.TrainingError(f"{path}: line {number}: {error}") from None
    return rows


WHOLE = {"seed", "epochs", "trained_epochs", "epoch"}


def _check_values(row: dict):
    """Raises ValueError where a number is not one."""
    for name, text in row.items():
        if name in ("row", "version"):
            continue
        values = [int(text)] if name in WHOLE else [float(number) for number in text.split()]
        if not values or not all(map(math.isfinite, values)):
            raise ValueError(f"{name} is {text!r}")


def append_rows(path: Path, rows: list[dict], columns=COLUMNS):
    """Adds the rows in one write, alone; a line that was cut short is taken away first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        else:
            complete = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            file.truncate(len("".join(complete).encode()))
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def row_of(result: dict) -> dict:
    """A line of the CSV. `epochs` is the number that the run was allowed, which early stopping may cut short."""
    row = {"row": result["label"], **{name: result[name] for name in ("seed", "epochs", "trained_epochs")}}
    row |= {name: f"{result[name]:.4f}" for name in NUMBERS}
    row |= {"kl_per_shell": _spaced(result["kl_per_shell"]), "seconds": f"{result['seconds']:.1f}"}
    return row | {"version": vmf_ops.build_info()["version"]}


def curve_of(result: dict) -> list[dict]:
    """The lines of a run's curve, for the rows whose curves the report draws."""
    if result["label"] not in (*TORI, *LATENT_SHELLS):
        return []
    row = {"row": result["label"], **{name: result[name] for name in ("seed", "epochs")}}
    points = [point for point in result["history"] if point["epoch"] % CURVE_STEP == 0]
    return [
        row
        | {"epoch": point["epoch"], "kl_per_shell": _spaced(point["kl_per_shell"])}
        | {name: f"{point[name]:.4f}" for name in ("train", "validation")}
        for point in points
    ]


def _spaced(numbers) -> str:
    return " ".join(f"{number:.4f}" for number in numbers)


# ---- The runs ----


def run(config: train.Config, data_dir, runs: Path, progress=False) -> dict:
    """One row of the table, trained on one thread; what a worker does."""
    torch.set_num_threads(1)
    out = config.folder(runs)
    result = train.finished(config, out)
    if result is None:
        result = train.train(config, data.load(config.dataset, data_dir), out, progress=progress)
    return result


def local_results(configs, workers, *arguments):
    """(config, result or error) of each run as it ends, from worker processes, or from this one if it is alone."""
    if workers == 1:
        for config in configs:
            yield config, _attempt(lambda config=config: run(config, *arguments, progress=True))
        return
    import multiprocessing

    with futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        started = {pool.submit(run, config, *arguments): config for config in configs}
        for future in futures.as_completed(started):
            yield started[future], _attempt(future.result)


def ray_results(configs, workers, *arguments):
    """As local_results, on a Ray cluster: the running one if RAY_ADDRESS names it, else one on this machine."""
    try:
        import ray
    except ImportError:
        raise train.TrainingError("--engine ray needs Ray: pip install 'vmf_ops[cluster]'") from None
    address = os.environ.get("RAY_ADDRESS")
    ray.init(address=address, **({} if address else {"num_cpus": workers}), include_dashboard=False)
    try:
        remote = ray.remote(num_cpus=1)(run)
        started = {remote.remote(config, *arguments): config for config in configs}
        waiting = list(started)
        while waiting:
            (done,), waiting = ray.wait(waiting)
            yield started[done], _attempt(lambda done=done: ray.get(done))
    finally:
        ray.shutdown()


def _attempt(compute):
    """The result, or the error that a run ended in: one failed row doesn't stop the others."""
    try:
        return compute()
    except Exception as error:
        return error


def files(results: Path, dataset: str) -> tuple[Path, Path]:
    """Where a data set's rows and curves stand."""
    return results / f"rows_{dataset}.csv", results / f"curves_{dataset}.csv"


def fill(configs, data_dir, results: Path, runs: Path, *, workers=1, engine=local_results) -> int:
    """Runs those that have no row yet, in this order, and writes each row as its run ends; returns how many failed."""
    finished = {}
    for dataset in {config.dataset for config in configs}:
        data.load(dataset, data_dir)
        finished[dataset] = {key(row) for row in read_rows(files(results, dataset)[0])}
    names = {(config.dataset, key({**vars(config), "row": config.label})): config for config in configs}
    waiting = [config for (dataset, name), config in names.items() if name not in finished[dataset]]
    print(f"{len(names) - len(waiting)} rows are in {results}, {len(waiting)} to run", flush=True)
    failed = 0
    for config, result in engine(waiting, workers, data_dir and data_dir.resolve(), runs.resolve()):
        if isinstance(result, Exception):
            failed += 1
            print(f"{config.label}, seed {config.seed}: {result}", file=sys.stderr, flush=True)
            continue
        row, curve = row_of(result), curve_of(result)
        path, curves = files(results, config.dataset)
        if curve and key(row) not in map(key, read_rows(curves, CURVE_COLUMNS)):
            append_rows(curves, curve, CURVE_COLUMNS)
        append_rows(path, [row])
        print(f"seed {config.seed}  {train.describe(result)}", flush=True)
    return failed


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=data.DATASETS, default="static_mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--rows", nargs="+", metavar="ROW", default=["paper"], help="rows by name, or paper, law, latent"
    )
    parser.add_argument("--seeds", type=train.positive, default=1, help="number of seeds, from 0")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--importance-samples", type=int, default=500)
    parser.add_argument("--workers", type=train.positive, default=1, help="runs at once, one thread each")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints")
    args = parser.parse_args(argv)
    options = {"dataset": args.dataset, "epochs": args.epochs, "importance_samples": args.importance_samples}
    try:
        rows = [row for part in args.rows for row in rows_of(part, args.dataset)]
        # Seed by seed, so that every row has one before any has three.
        configs = [parse_row(row, seed=seed, **options) for seed in range(args.seeds) for row in rows]
        engine = ray_results if args.engine == "ray" else local_results
        failed = fill(configs, args.data_dir, args.results, args.runs, workers=args.workers, engine=engine)
    except (data.DataError, train.TrainingError, OSError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {failed} rows failed")


if __name__ == "__main__":
    main()
