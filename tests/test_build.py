"""How setup.py finds nvcc and what it compiles for, with an nvcc and a torch made of files."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KNOWN = {"12.4": "50 60 70 75 80 86 87 89 90 90a", "13.0": "75 80 86 87 88 89 90 90a 100 110 103 120 121", "11.8": "80"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes toolkits and torches in files; `setup` is setup.py's names."""

    class Machine:
        setup = runpy.run_path(str(ROOT / "setup.py"))

        def nvcc(self, name, version):
            path = tmp_path / name / "bin" / "nvcc"
            path.parent.mkdir(parents=True)
            lines = " ".join(f"compute_{arch}" for arch in KNOWN[version].split())
            report = f"release {version}, V{version}.1"
            path.write_text(f'#!/bin/bash\nif [ "$1" = --version ]; then echo "{report}"; else echo "{lines}"; fi\n')
            path.chmod(0o755)
            return path

        def torch(self, cuda):
            folder = tmp_path / f"torch{cuda}"
            folder.mkdir()
            (folder / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda!r}\n")
            return folder

    for name in ("CUDA_HOME", "CUDAARCHS", "TORCH_CUDA_ARCH_LIST", "VMF_OPS_CUDA"):
        monkeypatch.delenv(name, raising=False)
    return Machine()


def test_cuda_home_comes_before_path(machine, monkeypatch):
    ours, other = machine.nvcc("home", "13.0"), machine.nvcc("other", "13.0")
    monkeypatch.setenv("PATH", str(other.parent), prepend=":")
    assert machine.setup["find_nvcc"](machine.torch(None)) == str(other)
    monkeypatch.setenv("CUDA_HOME", str(ours.parent.parent))
    assert machine.setup["find_nvcc"](machine.torch("13.0")) == str(ours)


@pytest.mark.parametrize(
    "nvcc, torch, why",
    [("11.8", None, "12 is the oldest"), ("12.4", "13.0", "installed torch of CUDA 13"), ("13.0", "12.6", "CUDA 12")],
)
def test_an_nvcc_that_does_not_fit_is_left_out(machine, monkeypatch, nvcc, torch, why):
    monkeypatch.setenv("CUDA_HOME", str(machine.nvcc("home", nvcc).parent.parent))
    with pytest.raises(machine.setup["NoCuda"], match=why):
        machine.setup["find_nvcc"](machine.torch(torch))


@pytest.mark.parametrize("version, newest", [("12.4", "90"), ("13.0", "120")])
def test_every_architecture_of_torch_that_nvcc_knows(machine, version, newest):
    targets = machine.setup["code_targets"](str(machine.nvcc("home", version)))
    assert targets[0] == "75-real" and targets[-2:] == [f"{newest}-real", "75-virtual"]
    (flag,) = machine.setup["gencode"](targets)
    assert flag.startswith("-gencode=arch=compute_75,code=[sm_75,sm_80,") and flag.endswith(f"sm_{newest},compute_75]")


@pytest.mark.parametrize(
    "variables, targets, flags",
    [
        (
            {"TORCH_CUDA_ARCH_LIST": "8.0 9.0+PTX"},
            "80-real 90-real 90-virtual",
            ["compute_80,code=[sm_80,sm_90,compute_80]"],
        ),
        ({"CUDAARCHS": "90-real;80"}, "90-real 80-real 80-virtual", ["compute_80,code=[sm_90,sm_80,compute_80]"]),
        (
            {"CUDAARCHS": "80-real;90a-real", "TORCH_CUDA_ARCH_LIST": "7.5"},
            "80-real 90a-real",
            ["compute_80,code=[sm_80]", "compute_90a,code=[sm_90a]"],
        ),
    ],
)
def test_lists_of_architectures(machine, monkeypatch, variables, targets, flags):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = machine.setup["code_targets"](str(machine.nvcc("home", "13.0")))
    assert found == targets.split()
    assert machine.setup["gencode"](found) == [f"-gencode=arch={flag}" for flag in flags]


def test_an_unknown_architecture_is_named(machine, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "6.0")
    with pytest.raises(machine.setup["NoCuda"], match="no architecture '60-real'; it knows 75, 80"):
        machine.setup["code_targets"](str(machine.nvcc("home", "13.0")))


def test_left_out_with_a_line_or_insisted_on(machine, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_HOME", str(machine.nvcc("home", "11.8").parent.parent))
    assert machine.setup["cuda_options"]() == ["-DVMF_OPS_NVCC="]
    assert "built without CUDA kernels" in capsys.readouterr().err
    monkeypatch.setenv("VMF_OPS_CUDA", "1")
    with pytest.raises(SystemExit, match="VMF_OPS_CUDA=1, but .* is of CUDA 11"):
        machine.setup["cuda_options"]()
