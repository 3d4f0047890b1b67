"""Prints the tables that are asked for, in Markdown; --save keeps them under benchmarks/results/.

python -m benchmarks                       # all of them, a few minutes
python -m benchmarks special --threads 2
VMF_OPS_ISA=avx2 python -m benchmarks special sampler --save
python -m benchmarks latent --json run.json --plot run.png --compare before.json
"""

import argparse
import datetime
import importlib
import pathlib
import platform

import numpy
import scipy
import torch

import vmf_ops

from . import records, timing

SECTIONS = ("special", "second_kind", "vmf", "sampler", "latent", "calls", "vae", "mixture", "scaling", "compile")
RESULTS = pathlib.Path(__file__).parent / "results"


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS) + "; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each row, whose minimum is reported")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write the tables to benchmarks/results/ too")
    parser.add_argument("--json", metavar="FILE", help="write the run, with the commit, import time and sizes, as JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw the times (.png, .svg, .pdf)")
    parser.add_argument("--compare", metavar="FILE", help="list the ratios that moved since a run saved by --json")
    arguments = parser.parse_args()
    for path in filter(None, (arguments.json, arguments.plot)):
        if not pathlib.Path(path).resolve().parent.is_dir():
            parser.error(f"there is no folder for {path}")
    try:
        before = arguments.compare and records.read(arguments.compare)
    except ValueError as error:
        parser.error(str(error))
    if arguments.threads < 1 or not 0 < arguments.budget < float("inf"):
        parser.error("--threads and --budget must be positive")
    sections = arguments.sections or SECTIONS
    if unknown := set(sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    lines, results = [], {}

    def write(line):
        print(line, flush=True)
        lines.append(line)

    isa, today = vmf_ops.build_info()["isa"], datetime.date.today().isoformat()
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in (vmf_ops, torch, scipy, numpy))
    write(f"{today}; {versions}; Python {platform.python_version()}\n")
    write(f"{processor()}, {isa} loops, {arguments.threads} thread(s); the least time of {arguments.budget} s of calls")
    for section in sections:
        module = importlib.import_module(f".{section}", __package__)
        results[section] = timing.table(module.TITLE, module.UNIT, module.cases(), arguments.budget, write)
    record = {"format": records.FORMAT, "date": today, "processor": processor(), "threads": arguments.threads}
    record |= {"versions": versions, **records.facts(), "sections": results}
    if before:
        records.compare(before, record, write)
    if arguments.json:
        records.write(arguments.json, record)
    if arguments.plot:
        records.plot(record, arguments.plot)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        name = "-".join([today, isa, *([] if len(sections) == len(SECTIONS) else sections)])
        (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
