"""Finds the installed torch and nvcc, and drives CMake; everything else about the package is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def find_torch():
    """Folder of the torch that this interpreter would import, also from inside an isolated build."""
    for scheme in ("platlib", "purelib"):
        folder = Path(sysconfig.get_path(scheme)) / "torch"
        if (folder / "include" / "torch" / "csrc" / "stable").is_dir():
            return folder
    sys.exit("vmf_ops builds against an installed PyTorch >= 2.11: run `pip install torch==2.13.0` first")


def find_nvcc():
    """Path of nvcc, or None. VMF_OPS_CUDA=0 leaves CUDA out; VMF_OPS_CUDA=1 insists on it."""
    wanted = os.environ.get("VMF_OPS_CUDA", "")
    if wanted not in ("", "0", "1"):
        sys.exit(f"VMF_OPS_CUDA must be 0 or 1, not {wanted!r}")
    if wanted == "0":
        return None
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    if wanted == "1" and nvcc is None:
        sys.exit(f"VMF_OPS_CUDA=1, but there is no nvcc on PATH or in {home}/bin")
    return nvcc


TORCH = find_torch()  # before pip resolves dependencies and downloads another torch


class CMakeBuild(build_ext):
    def build_extension(self, ext):
        import pybind11

        nvcc = find_nvcc()
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # A fresh folder each time: a cache left by an isolated build names a ninja and a pybind11 that are gone.
        # VMF_OPS_BUILD_DIR keeps one, for incremental builds outside isolation.
        kept = os.environ.get("VMF_OPS_BUILD_DIR")
        folder = Path(kept or tempfile.mkdtemp(prefix="vmf_ops_build_"))
        configure = [
            *("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"),
            f"-DTORCH_DIR={TORCH}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target}",
            f"-DVMF_OPS_VERSION={self.distribution.get_version()}",
            f"-DVMF_OPS_NVCC={nvcc or ''}",
            f"-DVMF_OPS_STRICT={os.environ.get('VMF_OPS_STRICT', '')}",
        ]
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", str(folder), "--parallel", jobs], check=True)
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)


setup(ext_modules=[Extension("vmf_ops._C", [])], cmdclass={"build_ext": CMakeBuild})
