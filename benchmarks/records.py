"""Saved runs: what a commit measured, how two runs differ, and a picture of one."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import vmf_ops

ROOT = pathlib.Path(__file__).parent.parent
FORMAT = 1


def import_seconds():
    """Processor time that the package's import takes on top of torch's; the least of three."""
    code = "import time, torch; t = time.process_time(); import vmf_ops; print(time.process_time() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    return min(float(run.stdout) for run in runs)


def commit():
    """The commit that is checked out, with + where files differ from it; None outside of a checkout."""
    try:
        git = lambda *words: subprocess.run(  # noqa: E731
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def facts():
    """What is measured of the package itself."""
    binaries = pathlib.Path(vmf_ops.__file__).parent.glob("*.so")
    return {
        "commit": commit(),
        "import_seconds": import_seconds(),
        "binary_bytes": {file.name.split(".")[0]: file.stat().st_size for file in binaries},
        "build": vmf_ops.build_info(),
    }


def write(path, record):
    """The record as JSON, whole or not at all."""
    path = pathlib.Path(path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    os.replace(file.name, path)


def read(path):
    try:
        record = json.loads(pathlib.Path(path).read_text())
        if record["format"] == FORMAT and isinstance(record["sections"], dict):
            return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no run saved by --json: {error}") from None
    raise ValueError(f"{path} is no run saved by --json of this format, {FORMAT}")


def relative_times(record):
    """Our time over the last contender's, by (section, row, names): machines differ more than such ratios do."""
    ratios = {}
    for section, rows in record["sections"].items():
        for row in rows:
            (ours, seconds), *others = row["seconds"].items()
            if others:
                reference, other = others[-1]
                ratios[section, row["name"], f"{ours} / {reference}"] = seconds / other
    return ratios


def compare(before, after, write, tolerance=0.1):
    """Prints the ratios that both runs have and that moved by more than the tolerance; the number that grew."""
    old, new = relative_times(before), relative_times(after)
    shared = [key for key in new if key in old]
    moved = [(new[key] / old[key], key) for key in shared if abs(new[key] / old[key] - 1) > tolerance]
    write(
        f"\n### Against {before['commit'] or 'the saved run'}: {len(shared)} ratios, {len(moved)} moved by over 10 %\n"
    )
    if moved:
        write("| section, row | ratio | before | now | change |")
        write("|---|---|---|---|---|")
    for change, key in sorted(moved, reverse=True):
        section, name, ratio = key
        write(f"| {section}: {name} | {ratio} | {old[key]:.3g} | {new[key]:.3g} | {change - 1:+.0%} |")
    return sum(change > 1 for change, _ in moved)


def plot(record, path):
    """A panel for each section: the time of every contender, row by row, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    sections = record["sections"]
    heights = [max(2.0, 0.32 * len(rows) + 1) for rows in sections.values()]
    figure, axes = pyplot.subplots(
        len(sections), figsize=(10, sum(heights)), squeeze=False, height_ratios=heights, layout="constrained"
    )
    for axis, (section, rows) in zip(axes[:, 0], sections.items(), strict=True):
        names = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
        for name in names:
            points = [(row["seconds"][name], -i) for i, row in enumerate(rows) if name in row["seconds"]]
            axis.plot(*zip(*points, strict=True), "o", label=name, markersize=7 if name == names[0] else 5)
        axis.set(xscale="log", title=section, xlabel="seconds")
        axis.set_yticks([-i for i in range(len(rows))], [row["name"] for row in rows], fontsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
