"""The ops as a library: in a process that never imports vmf_ops, and in a program without Python."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vmf_ops
from vmf_ops import _C

PACKAGE = Path(vmf_ops.__file__).parent
LIBRARY = next(PACKAGE.glob("libvmf_ops.*"))
TORCH = Path(torch.__file__).parent

LOADED = """
import sys, torch
torch.ops.load_library(sys.argv[1])
assert "vmf_ops" not in sys.modules
print(torch.ops.vmf_ops.log_iv(torch.tensor(19.5), torch.tensor(3.0)).item())
"""


@pytest.mark.parametrize("library", [LIBRARY, Path(_C.__file__)], ids=["ops", "module"])
def test_the_ops_run_without_the_package(library):
    run = subprocess.run([sys.executable, "-c", LOADED, str(library)], capture_output=True, text=True, check=True)
    assert float(run.stdout) == vmf_ops.log_iv(19.5, torch.tensor(3.0)).item()


def test_a_wrong_isa_is_an_error_of_the_op():
    environment = {**os.environ, "VMF_OPS_ISA": "sse9"}
    command = [sys.executable, "-c", LOADED, str(LIBRARY)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 1 and "VMF_OPS_ISA must be one of default" in run.stderr


class Both(torch.nn.Module):
    def forward(self, v, x, loc, kappa):
        return vmf_ops.log_iv(v, x), vmf_ops.sample_vmf(loc, kappa, (3, 2))


def test_a_program_without_python_calls_the_ops_and_an_aoti_package(tmp_path):
    v, x = torch.linspace(0, 40, 5), torch.linspace(0.5, 90, 5)
    loc, kappa, key = torch.eye(5)[[0, 3]].sum(0).repeat(3, 1), torch.full((3, 2), 4.0), torch.tensor([123])
    exported = torch.export.export(Both(), (v, x, loc, kappa))
    package = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "both.pt2"))

    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    includes = [f"-I{TORCH / 'include' / part}" for part in ("", "torch/csrc/api/include")]
    libraries = [
        f"-L{TORCH / 'lib'}",
        f"-Wl,-rpath,{TORCH / 'lib'}",
        "-Wl,--no-as-needed",
        "-ltorch",
        "-ltorch_cpu",
        "-lc10",
    ]
    if ctypes.util.find_library("dl"):
        libraries.append("-ldl")
    source, program = Path(__file__).parent / "without_python" / "main.cpp", tmp_path / "main"
    subprocess.run([compiler, "-std=c++20", "-O0", source, *includes, *libraries, "-o", program], check=True)
    assert "libpython" not in subprocess.run(["ldd", program], capture_output=True, text=True).stdout

    run = subprocess.run([program, LIBRARY, package], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    numbers = torch.tensor([float(line) for line in run.stdout.split()], dtype=torch.float64).float()
    values, drawn, packaged_values, packaged_draw = numbers.split([5, 15, 5, 15])
    assert torch.equal(values, vmf_ops.log_iv(v, x)) and torch.equal(packaged_values, values)
    expected = torch.ops.vmf_ops.sample_vmf(loc[None], kappa[None], (3, 2), key, 3)[0]
    assert torch.equal(drawn.view(1, 3, 5), expected)
    lengths = torch.stack([part.norm(dim=-1) for part in packaged_draw.view(3, 5).split((3, 2), -1)])
    assert torch.allclose(lengths, torch.ones(2, 3))
