"""csrc/cuda as a library for the host: two ways.

`kernels()` runs the kernels, their threads as coroutines, and checks every access of memory; `launches()` only writes
down what the launchers would start, for another to execute. Launches become calls of the stand-in for CUDA's header,
shared memory what it hands out; the rest of the text stays as it is.
"""

import ctypes
import functools
import os
import pathlib
import re
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
# Jumps between the stacks of coroutines are no mistake.
FLAGS = ("-std=c++20", "-w", "-fPIC", "-U_FORTIFY_SOURCE")


def launch_calls(text):
    return re.sub(
        r"(\S+)\s*<<<(.*?)>>>\((.*?)\);", r"cuda_on_host::launch(\2, [&] { \1(\3); });", text, flags=re.DOTALL
    )


def shared_memory(text):
    """extern __shared__ arrays as pointers into the block's shared memory."""
    return re.sub(
        r"extern __shared__ (?:__align__\(\d+\) )?(\w+) (\w+)\[\];",
        r"\1* \2 = reinterpret_cast<\1*>(cuda_on_host::shared.data());",
        text,
    )


def closing(text, opening):
    """Where the bracket that opens there is closed."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] in "({") - (text[at] in ")}")
        if depth == 0:
            return at
    raise ValueError("a bracket that is not closed")


def names(parameters):
    """The names declared by a list of parameters, of a template or a function."""
    parts = re.split(r",(?![^<]*>)", parameters)
    return [re.search(r"(\w+)\s*(?:=.*)?$", part.strip(), flags=re.DOTALL)[1] for part in parts if part.strip()]


def recorded_kernels(text):
    """Kernels that record their parameters, in place of what they do; in namespaces whose symbols can be found."""
    out, end = [], 0
    for kernel in re.finditer(r"(?:template <([^{}();]*)>\s*)?__global__\s+void\s+(?:__launch_bounds__)?", text):
        at = kernel.end()
        if kernel.group().endswith("bounds__"):
            at = closing(text, at) + 1
        opening = text.index("(", at)
        name, close = text[at:opening].strip(), closing(text, opening)
        body = text.index("{", close)
        itself = name + (f"<{', '.join(names(kernel[1]))}>" if kernel[1] else "")
        parameters = ", ".join(names(text[opening + 1 : close]))
        out.append(text[end : body + 1])
        out.append(f" cuda_on_host::record(reinterpret_cast<void*>(&{itself}), {parameters}); ")
        end = closing(text, body)
    return re.sub(r"^namespace \{", "inline namespace anonymous {", "".join([*out, text[end:]]), flags=re.MULTILINE)


def rewritten(folder, *changes):
    """A csrc there whose CUDA sources are changed; the rest are links."""
    (folder / "csrc" / "cuda").mkdir(parents=True)
    for path in CSRC.iterdir():
        if path.name != "cuda":
            (folder / "csrc" / path.name).symlink_to(path)
    for path in (CSRC / "cuda").iterdir():
        text = path.read_text()
        for change in changes:
            text = change(text)
        (folder / "csrc" / "cuda" / path.name).write_text(text)


def compiled(folder, target, *arguments):
    compiler = os.environ.get("CXX", "c++")
    includes = [f"-I{HERE}", f"-I{folder}"]
    subprocess.run([compiler, *FLAGS, *includes, *map(str, arguments), "-o", str(folder / target)], check=True)
    return folder / target


def watched(folder, source):
    """A source's functions, whose accesses of memory are checked by checks.cpp."""
    # A GPU faults where 16 bytes are not aligned: here, the process traps.
    traps = ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]
    code = compiled(folder, "watched.o", "-O1", "-c", "-fsanitize=thread", *traps, "-x", "c++", source)
    return ctypes.CDLL(str(compiled(folder, "watched.so", "-O2", "-shared", HERE / "checks.cpp", code)))


@functools.cache
def faults():
    """A kernel with the mistakes of faults.cu, run on the host."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "faults.cpp"
        source.write_text(shared_memory(launch_calls((HERE / "faults.cu").read_text())))
        return watched(folder, source)


@functools.cache
def kernels():
    """The kernels, run on the host under the checks of checks.cpp."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rewritten(folder, launch_calls, shared_memory)
        library = watched(folder, HERE / "kernels.cpp")
    library.divide.restype = ctypes.c_int64
    library.divide.argtypes = [ctypes.c_int64, ctypes.c_int64]
    return library


@functools.cache
def launches():
    """The launchers, whose launches are written down."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rewritten(folder, launch_calls, recorded_kernels)
        flags = ["-O0", "-shared", "-DCUDA_ON_HOST_CAPTURE"]
        return ctypes.CDLL(str(compiled(folder, "launches.so", *flags, HERE / "kernels.cpp", "-ldl")))
