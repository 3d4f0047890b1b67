"""nvcc, and the PTX that it makes of csrc/cuda."""

import functools
import os
import pathlib
import re
import runpy
import subprocess
import tempfile

import torch

ROOT = pathlib.Path(__file__).parent.parent.parent
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
SETUP = runpy.run_path(str(ROOT / "setup.py"))


@functools.cache
def find():
    """The path of the nvcc that builds the package here, or None."""
    try:
        return SETUP["find_nvcc"](pathlib.Path(torch.__file__).parent)
    except SETUP["NoCuda"]:
        return None


@functools.cache
def architecture():
    """The oldest: its PTX is the text of which all machine code is made."""
    return SETUP["code_targets"](find())[0].partition("-")[0]


@functools.cache
def ptx(source):
    """The path of a source's PTX."""
    target = folder() / f"{source.stem}.ptx"
    flags = ("-std=c++20", "--expt-relaxed-constexpr", f"-arch=compute_{architecture()}")
    subprocess.run([find(), "-ptx", *flags, str(source), "-o", str(target)], check=True)
    return target


@functools.cache
def folder():
    held.append(tempfile.TemporaryDirectory(prefix="vmf_ops_ptx_"))
    return pathlib.Path(held[0].name)


held = []  # the folder, for as long as the process lives


def assembler_report(path):
    """What ptxas -v says of the kernels of a PTX file on an H100."""
    command = [find(), "-cubin", "-arch=sm_90", "-Xptxas=-v", str(path), "-o", os.devnull]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def uninitialised(text):
    """The declarations of objects in global or constant memory that start without a value, so as zeros."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    declared = re.findall(r"^\s*((?:\.\w+\s+)?\.(?:global|const)\s[^;={]*)([;=])", text, flags=re.MULTILINE)
    return [declaration.strip() for declaration, end in declared if end == ";"]
