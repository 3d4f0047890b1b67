"""nvcc, and the PTX that it makes of csrc/cuda."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

CUDA = pathlib.Path(__file__).parent.parent.parent / "csrc" / "cuda"
SOURCES = sorted(CUDA.glob("*.cu"))
NVCC = shutil.which("nvcc", path=f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/bin") or shutil.which("nvcc")
# The newest that CMakeLists.txt names, whose PTX ships.
ARCHITECTURE = os.environ.get("VMF_OPS_PTX_ARCH", "90")
FLAGS = ("-std=c++20", "--expt-relaxed-constexpr")


@functools.cache
def ptx(source):
    """The path of a source's PTX."""
    target = folder() / f"{source.stem}.ptx"
    subprocess.run([NVCC, "-ptx", *FLAGS, f"-arch=compute_{ARCHITECTURE}", str(source), "-o", str(target)], check=True)
    return target


@functools.cache
def folder():
    held.append(tempfile.TemporaryDirectory(prefix="vmf_ops_ptx_"))
    return pathlib.Path(held[0].name)


held = []  # the folder, for as long as the process lives


def assembler_report(path):
    """What ptxas -v says of the kernels of a PTX file."""
    command = [NVCC, "-cubin", f"-arch=sm_{ARCHITECTURE}", "-Xptxas=-v", str(path), "-o", os.devnull]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def uninitialised(text):
    """The declarations of objects in global or constant memory that start without a value, so as zeros."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    declared = re.findall(r"^\s*((?:\.\w+\s+)?\.(?:global|const)\s[^;={]*)([;=])", text, flags=re.MULTILINE)
    return [declaration.strip() for declaration, end in declared if end == ";"]
