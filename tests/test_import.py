"""What an import costs, and that the compiler finds its functions whenever it comes. Each in a process of its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vmf_ops
from vmf_ops import __main__

COMPILED = """
function = lambda v, x: vmf_ops.log_iv(v, x) + vmf_ops.sample_vmf(x, x[:1]).sum()
f = torch.compile(function, fullgraph=True, backend="aot_eager")
x = torch.tensor([0.6, 0.8], requires_grad=True)
f(torch.tensor(2.0), x).sum().backward()
assert x.grad.isfinite().all()
"""


def python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_import_takes_at_most_60_ms_on_top_of_torch_and_leaves_the_compiler_out():
    code = """
import sys, time, torch
start = time.process_time()
import vmf_ops
print(time.process_time() - start)
import vmf_ops.distributions, vmf_ops.numpy, vmf_ops.vae
assert not {"torch._dynamo", "sympy"} & set(sys.modules)
"""
    # Once of three times, as other programs share the processor's caches.
    assert any(float(python(code)) < 0.06 for _ in range(3))


@pytest.mark.parametrize("order", ["import torch, vmf_ops", "import torch._dynamo, vmf_ops"])
def test_the_first_compilation_of_a_process_has_one_graph(order):
    python(order + COMPILED)


def test_the_self_check_passes_and_says_what_was_built():
    said = subprocess.run([sys.executable, "-W", "error", "-m", "vmf_ops"], capture_output=True, text=True)
    assert said.returncode == 0 and said.stdout.endswith("All checks passed.\n"), said.stdout + said.stderr
    for fact in (torch.__version__, vmf_ops.__version__, vmf_ops.build_info()["isa"]):
        assert fact in said.stdout


def test_the_self_check_notices_a_wrong_number(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vmf_ops"])
    monkeypatch.setattr(vmf_ops, "log_iv", lambda v, x: x * 1.0)
    assert __main__.main() == 1
    assert "do not use this build" in capsys.readouterr().out


def test_the_stub_names_what_the_extension_has():
    stub = ast.parse(Path(vmf_ops.__file__).with_name("_C.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert named - {"BuildInfo"} == {name for name in dir(vmf_ops._C) if not name.startswith("_")}
