"""The paper's Tables 2 to 5 as one command: python -m experiments.table2 --dataset static_mnist --data-dir DIR.

Every row of shells and every seed is one training run and one line of results/table2_<dataset>.csv (`--fixed-dof`:
table5_<dataset>.csv), written when the run ends. Lines that are there are not run again, and a run that was stopped
goes on from its checkpoint, so the command can be stopped and started at will. Rows are named as in the tables:
sphere dimensions with commas, gaussian:41 for a Gaussian of 41 dimensions, and options after a blank, as in
"15,10,4,3,2,1 min_kappa=0" or "20,19 beta=1,2".
"""

import argparse
import csv
import fcntl
import json
import os
import sys
from concurrent import futures
from pathlib import Path

import torch

import vmf_ops
from experiments import data, models, train

RESULTS = Path(__file__).parent / "results"
COLUMNS = "shells seed gradient epochs ll elbo reconstruction kl kl_per_shell seconds version".split()
CURVE_COLUMNS = "shells seed gradient epochs epoch train validation".split()
TORUS = ",".join(["1"] * 20)

# The paper's rows of ambient dimension 41, with the LL, ELBO, RE and KL that it reports for static MNIST.
PAPER = {
    "20,19": (-93.18, -98.72, 69.78, 28.94),
    "38,1": (-95.69, -103.67, 71.67, 32.01),
    "10,9,9,9": (-92.65, -98.23, 70.55, 27.68),
    "20,10,6,1": (-92.59, -98.27, 71.33, 26.94),
    "34,1,1,1": (-108.42, -116.86, 99.62, 17.23),
    "15,10,4,3,2,1": (-92.25, -98.10, 69.78, 28.32),
    "30,1,1,1,1,1": (-93.86, -100.99, 69.46, 31.54),
    "6,6,6,6,6,5": (-92.71, -98.46, 70.97, 27.48),
    "10,5,4,3,2,2,2,1,1,1": (-92.93, -99.07, 70.67, 28.41),
    "22,1,1,1,1,1,1,1,1,1": (-93.45, -100.29, 68.75, 31.54),
    "4,3,3,3,3,3,3,3,3,3": (-93.36, -99.40, 71.93, 27.47),
}
BEST_SINGLE_SPHERE = (-93.37, -98.88)

SPHERES = ("2", "5", "10", "20", "40")
# Beyond the paper: a posterior that can reach the prior, and a dearer largest shell.
ABLATIONS = ("15,10,4,3,2,1 min_kappa=0", "15,10,4,3,2,1 beta=2,1,1,1,1,1")
FIXED_AMBIENT = (*PAPER, *SPHERES, "gaussian:41", TORUS, *ABLATIONS)
# As many shells as each break-up of the paper's, and 40 degrees of freedom in all.
FIXED_DOF = (
    "40",
    "20,20",
    "39,1",
    "10,10,10,10",
    "20,11,8,1",
    "37,1,1,1",
    "15,11,6,4,3,1",
    "35,1,1,1,1,1",
    "7,7,7,7,6,6",
    "12,7,6,4,3,2,2,2,1,1",
    "31,1,1,1,1,1,1,1,1,1",
    "4,4,4,4,4,4,4,4,4,4",
    TORUS + "," + TORUS,
)


OPTIONS = {"min_kappa": float, "beta": lambda text: tuple(map(float, text.split(",")))}
"""What a row's name can say after its shells."""


def parse_row(row: str, dataset="static_mnist", **options) -> train.Config:
    """The run that a row's name describes."""
    try:
        name, *words = row.split()
        for word in words:
            option, value = word.split("=")
            options[option] = OPTIONS[option](value)
        if name.startswith("gaussian:"):
            return train.Config(dataset, models.parse_shells(str(int(name[9:]) - 1)), "gaussian", **options)
        return train.Config(dataset, models.parse_shells(name), **options)
    except KeyError as error:
        raise train.TrainingError(f"{row!r} is not a row: its options are {', '.join(OPTIONS)}, not {error}") from None
    except ValueError as error:
        raise train.TrainingError(f"{row!r} is not a row: {error}") from None


def key(row: dict) -> tuple:
    """What makes a row of results unique."""
    return row["shells"], int(row["seed"]), row["gradient"], int(row["epochs"])


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
    if any(None in row or None in row.values() for row in rows):
        raise train.TrainingError(f"{path}: a line has more or fewer than its {len(columns)} columns")
    return rows


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


def run(config: train.Config, data_dir, runs: Path, progress=False) -> dict:
    """One row of the table, trained on one thread; what a worker does."""
    torch.set_num_threads(1)
    out = config.folder(runs)
    finished = out / "result.json"
    if finished.exists():
        result = json.loads(finished.read_text())
        train.check_same_run(config, result, finished)
        return result
    return train.train(config, data.load(config.dataset, data_dir), out, progress=progress)


def row_of(result: dict) -> dict:
    """A line of the CSV. `epochs` is the number that the run was allowed, which early stopping may cut short."""
    numbers = {name: f"{result[name]:.4f}" for name in ("ll", "elbo", "reconstruction", "kl")}
    shells = " ".join(f"{kl:.4f}" for kl in result["kl_per_shell"])
    row = {"shells": result["label"], **{name: result[name] for name in ("seed", "gradient", "epochs")}, **numbers}
    row |= {"kl_per_shell": shells, "seconds": f"{result['seconds']:.1f}"}
    return row | {"version": vmf_ops.build_info()["version"]}


def curve_point(epoch: dict) -> dict:
    return {"epoch": epoch["epoch"]} | {name: f"{epoch[name]:.4f}" for name in ("train", "validation")}


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


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=data.DATASETS, default="static_mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="rows by name (all of the table's)")
    parser.add_argument("--fixed-dof", action="store_true", help="Table 5: 40 degrees of freedom, not 41 coordinates")
    parser.add_argument("--seeds", type=train.positive, default=1, help="number of seeds, from 0")
    parser.add_argument("--gradient", choices=train.GRADIENTS, default="implicit")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--importance-samples", type=int, default=500)
    parser.add_argument("--workers", type=train.positive, default=1, help="runs at once, one thread each")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints")
    args = parser.parse_args(argv)
    name = f"{'table5' if args.fixed_dof else 'table2'}_{args.dataset}.csv"
    path, curves = args.results / name, args.results / name.replace("table", "curves")
    try:
        data.load(args.dataset, args.data_dir)
        finished = {key(row) for row in read_rows(path)}
        options = {"dataset": args.dataset, "epochs": args.epochs, "gradient": args.gradient}
        options["importance_samples"] = args.importance_samples
        rows = args.rows or (FIXED_DOF if args.fixed_dof else FIXED_AMBIENT)
        # Seed by seed, so that every row has one before any has three.
        configs = {}
        for seed in range(args.seeds):
            for config in (parse_row(row, seed=seed, **options) for row in rows):
                configs[key({**vars(config), "shells": config.label})] = config
        waiting = [config for name, config in configs.items() if name not in finished]
        print(f"{len(configs) - len(waiting)} rows are in {path}, {len(waiting)} to run")
        engine = ray_results if args.engine == "ray" else local_results
        data_dir = args.data_dir and args.data_dir.resolve()
        failed = 0
        for config, result in engine(waiting, args.workers, data_dir, args.runs.resolve()):
            if isinstance(result, Exception):
                failed += 1
                print(f"{config.label}, seed {config.seed}: {result}", file=sys.stderr)
                continue
            row = row_of(result)
            if key(row) not in map(key, read_rows(curves, CURVE_COLUMNS)):
                append_rows(curves, [row | curve_point(epoch) for epoch in result["history"]], CURVE_COLUMNS)
            append_rows(path, [row])
            print(f"seed {config.seed}  {train.describe(result)}", flush=True)
    except (data.DataError, train.TrainingError, OSError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {failed} of {len(waiting)} rows failed")


if __name__ == "__main__":
    main()
