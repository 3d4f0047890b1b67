"""Finds the installed torch and nvcc, and drives CMake; everything else about the package is in pyproject.toml."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
OLDEST_NVCC = 12
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""Those that torch's own wheels serve, from Turing to Blackwell; PTX of the first serves what comes after."""


def find_torch():
    """Folder of the torch that this interpreter would import, also from inside an isolated build."""
    for scheme in ("platlib", "purelib"):
        folder = Path(sysconfig.get_path(scheme)) / "torch"
        if (folder / "include" / "torch" / "csrc" / "stable").is_dir():
            return folder
    sys.exit("vmf_ops builds against an installed PyTorch >= 2.11: run `pip install torch==2.13.0` first")


class NoCuda(Exception):
    """Why the CUDA kernels are left out; the message is one line."""


def find_nvcc(torch):
    """Path of nvcc: CUDA_HOME's, else the one on PATH, else /usr/local/cuda's, if it fits the torch in that folder."""
    homes = [home for home in (os.environ.get("CUDA_HOME"), None, "/usr/local/cuda") if home != ""]
    found = [shutil.which("nvcc", path=home and f"{home}/bin") for home in homes]
    nvcc = next(filter(None, found), None)
    if nvcc is None:
        raise NoCuda("no nvcc in CUDA_HOME, on PATH or in /usr/local/cuda")
    version = re.search(r"release (\d+)\.", _output(nvcc, "--version"))
    if version is None:
        raise NoCuda(f"{nvcc} does not tell its version")
    major = int(version.group(1))
    if major < OLDEST_NVCC:
        raise NoCuda(f"{nvcc} is of CUDA {major}, and {OLDEST_NVCC} is the oldest that will do")
    # None in a build of torch without CUDA, beside which kernels are compiled all the same: one wheel serves both.
    theirs = re.search(r"^cuda\b[^=\n]*= '(\d+)", (torch / "version.py").read_text(), flags=re.MULTILINE)
    if theirs and int(theirs.group(1)) != major:
        raise NoCuda(f"{nvcc} is of CUDA {major}, and the installed torch of CUDA {theirs.group(1)}")
    return nvcc


def _output(*command):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoCuda(f"{command[0]} does not run ({error})") from None


def code_targets(nvcc):
    """What to make machine code and PTX for, as in "75-real": CUDAARCHS' list, else TORCH_CUDA_ARCH_LIST's, else
    ARCHITECTURES as far as this nvcc knows them."""
    known = set(re.findall(r"compute_(\w+)", _output(nvcc, "--list-gpu-arch")))
    wanted = os.environ.get("CUDAARCHS", "").replace(";", " ").split()
    for name in os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split() if not wanted else ():
        arch, *ptx = name.replace(".", "").split("+")
        wanted += [arch if ptx else f"{arch}-real"]
    if not wanted:
        real = [str(arch) for arch in ARCHITECTURES if str(arch) in known]
        wanted = [f"{arch}-real" for arch in real] + [f"{real[0]}-virtual"]
    targets = []
    for name in wanted:
        arch, _, kind = name.partition("-")
        if arch not in known or kind not in ("", "real", "virtual"):
            raise NoCuda(f"{nvcc} knows no architecture {name!r}; it knows {', '.join(sorted(known, key=_number))}")
        targets += [f"{arch}-{kind}"] if kind else [f"{arch}-real", f"{arch}-virtual"]
    return targets


def _number(arch):
    return int(re.match(r"\d+", arch).group())


def gencode(targets):
    """nvcc's flags: one PTX text, of the oldest architecture, assembled for every one; those with a letter, which are
    like no other, are compiled for themselves."""
    plain = sorted({arch for arch, _ in (t.split("-") for t in targets) if arch.isdigit()}, key=_number)
    codes = {arch: [] for arch in (plain[:1] + sorted({t.split("-")[0] for t in targets} - set(plain)))}
    for arch, kind in (t.split("-") for t in targets):
        base = plain[0] if arch.isdigit() else arch
        code = f"sm_{arch}" if kind == "real" else f"compute_{base}"
        codes[base] += [code] if code not in codes[base] else []
    return [f"-gencode=arch=compute_{base},code=[{','.join(code)}]" for base, code in codes.items()]


def cuda_options():
    """CMake's options for the CUDA kernels. VMF_OPS_CUDA=0 leaves them out, VMF_OPS_CUDA=1 makes it an error where they
    cannot be built."""
    wanted = os.environ.get("VMF_OPS_CUDA", "")
    if wanted not in ("", "0", "1"):
        sys.exit(f"VMF_OPS_CUDA must be 0 or 1, not {wanted!r}")
    try:
        if wanted == "0":
            raise NoCuda("VMF_OPS_CUDA=0")
        nvcc = find_nvcc(TORCH)
        targets = code_targets(nvcc)
    except NoCuda as reason:
        if wanted == "1":
            sys.exit(f"VMF_OPS_CUDA=1, but {reason}")
        print(f"vmf_ops: built without CUDA kernels: {reason}", file=sys.stderr)
        return ["-DVMF_OPS_NVCC="]
    libraries = Path(nvcc).resolve().parent.parent / "lib"  # the toolkit of wheels has no lib64, where nvcc looks
    print(f"vmf_ops: CUDA kernels for {' '.join(targets)} by {nvcc}", file=sys.stderr)
    return [
        f"-DVMF_OPS_NVCC={nvcc}",
        f"-DCMAKE_CUDA_FLAGS={f'-L{libraries}' if (libraries / 'libcudart_static.a').exists() else ''}",
        f"-DVMF_OPS_GENCODE={';'.join(gencode(targets))}",
        f"-DVMF_OPS_CUDA_ARCHS={','.join(targets)}",
    ]


TORCH = find_torch()  # before pip resolves dependencies and downloads another torch


class CMakeBuild(build_ext):
    def build_extension(self, ext):
        import pybind11

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
            f"-DVMF_OPS_STRICT={os.environ.get('VMF_OPS_STRICT', '')}",
            *cuda_options(),
        ]
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", str(folder), "--parallel", jobs], check=True)
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)

    def copy_extensions_to_source(self):
        """For an installation in place: the library that the module links to goes along."""
        super().copy_extensions_to_source()
        package = self.get_finalized_command("build_py").get_package_dir("vmf_ops")
        for library in Path(self.build_lib, "vmf_ops").glob("libvmf_ops.*"):
            self.copy_file(library, Path(package, library.name))


if __name__ == "__main__":
    setup(ext_modules=[Extension("vmf_ops._C", [])], cmdclass={"build_ext": CMakeBuild})
