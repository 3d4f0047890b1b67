"""The registers of every CUDA kernel, in Markdown, and whether any spills to memory: nvcc needed, no GPU.

python scripts/cuda_registers.py            # a minute; exit status 1 where a kernel spills
"""

import argparse
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

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


class Use(NamedTuple):
    """What a kernel takes of the machine: registers of a thread, bytes of its stack, bytes spilled to memory."""

    registers: int
    stack: int
    spilled: int


def kernel_resources(report):
    """(symbol, architecture) -> Use, from what ptxas -v reports."""
    pattern = (
        r"Compiling entry function '(\S+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers"
    )
    return {
        (symbol, architecture): Use(int(registers), int(stack), int(stores) + int(loads))
        for symbol, architecture, stack, stores, loads, registers in re.findall(pattern, report, flags=re.DOTALL)
    }


def compile_one(path, nvcc, names):
    """(kernel, architecture) -> Use."""
    targets = [f"-gencode=arch={a.replace('sm', 'compute')},code={a}" for a in ARCHITECTURES]
    report = subprocess.run([nvcc, *FLAGS, *targets, str(path)], capture_output=True, text=True)
    if report.returncode:
        sys.exit(report.stderr)
    resources = kernel_resources(report.stderr + report.stdout)
    return {(short(symbol, names), architecture): use for (symbol, architecture), use in resources.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    kernels = {}
    nvcc = parser.parse_args().nvcc
    for path in sorted(CUDA.glob("*.cu")):
        kernels |= compile_one(path, nvcc, enumerators())
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release .*", version).group()
    spilling = sum(use.spilled > 0 for use in kernels.values())
    print(f"nvcc {release}: registers of a thread; {spilling} of {len(kernels)} kernels spill\n")
    print("| kernel | " + " | ".join(ARCHITECTURES) + " |\n|---|" + "---|" * len(ARCHITECTURES))
    for name in sorted({name for name, _ in kernels}):
        cells = [kernels[name, architecture] for architecture in ARCHITECTURES]
        print(
            f"| {name} | "
            + " | ".join(
                f"{registers}, {spilled} bytes spilled" if spilled else str(registers)
                for registers, _, spilled in cells
            )
            + " |"
        )
    return any(use.spilled for use in kernels.values())


if __name__ == "__main__":
    sys.exit(main())
