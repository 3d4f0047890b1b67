"""The registers of every CUDA kernel, in Markdown, and whether any spills to memory: nvcc needed, no GPU.

python scripts/cuda_registers.py            # a minute; exit status 1 where a kernel spills
"""

import argparse
import pathlib
import re
import subprocess
import sys

CUDA = pathlib.Path(__file__).parent.parent / "csrc" / "cuda"
ARCHITECTURES = ("sm_80", "sm_90")
FLAGS = ("-std=c++20", "-O3", "--expt-relaxed-constexpr", "-Xptxas=-v", "-c", "-o", "/dev/null")


def enumerators():
    """(enum's name, value) -> the value's name, for the enums that kernels take as template arguments."""
    text = "".join(path.read_text() for path in (CUDA.parent / "math").glob("*.h"))
    enums = re.findall(r"enum class (\w+) \{([^}]*)\}", text)
    return {(name, str(i)): value.strip() for name, values in enums for i, value in enumerate(values.split(","))}


def short(symbol, names):
    """A kernel's name and template arguments, without namespaces and parameters."""
    name = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"vmf_ops::(cuda::)?|\(anonymous namespace\)::|^void ", "", name)
    name = re.sub(r"\((\w+)\)(\d+)", lambda match: names[match.groups()], name)
    name = re.sub(r"\(.*$", "", name)
    return re.sub(r"^elementwise_kernel<(.*)>$", r"\1", name)


def compile_one(path, nvcc, names):
    """(kernel, architecture) -> (registers, bytes spilled)."""
    targets = [f"-gencode=arch={a.replace('sm', 'compute')},code={a}" for a in ARCHITECTURES]
    report = subprocess.run([nvcc, *FLAGS, *targets, str(path)], capture_output=True, text=True)
    if report.returncode:
        sys.exit(report.stderr)
    pattern = (
        r"Compiling entry function '(\S+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers"
    )
    found = re.findall(pattern, report.stderr + report.stdout, flags=re.DOTALL)
    return {
        (short(symbol, names), architecture): (int(registers), int(stores) + int(loads))
        for symbol, architecture, stores, loads, registers in found
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    kernels = {}
    nvcc = parser.parse_args().nvcc
    for path in sorted(CUDA.glob("*.cu")):
        kernels |= compile_one(path, nvcc, enumerators())
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release .*", version).group()
    spilling = sum(spilled > 0 for _, spilled in kernels.values())
    print(f"nvcc {release}: registers of a thread; {spilling} of {len(kernels)} kernels spill\n")
    print("| kernel | " + " | ".join(ARCHITECTURES) + " |\n|---|" + "---|" * len(ARCHITECTURES))
    for name in sorted({name for name, _ in kernels}):
        cells = [kernels[name, architecture] for architecture in ARCHITECTURES]
        print(f"| {name} | " + " | ".join(f"{r}, {s} bytes spilled" if s else str(r) for r, s in cells) + " |")
    return any(spilled for _, spilled in kernels.values())


if __name__ == "__main__":
    sys.exit(main())
