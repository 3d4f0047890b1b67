"""A device for the launchers of csrc/cuda: what they launch is written down, found in nvcc's PTX, and executed."""

import ctypes
import functools
import re

from cuda_on_host import build
from cuda_on_host.launchers import Tensors

from . import nvcc
from .execution import Launch, execute
from .memory import Memory
from .parse import Module


@functools.cache
def kernels():
    """name -> (module, kernel), of all sources."""
    found = {}
    for source in nvcc.SOURCES:
        module = Module(nvcc.ptx(source))
        found |= {demangled(symbol): (module, kernel) for symbol, kernel in module.kernels.items()}
    return found


@functools.cache
def demangled(symbol):
    """A kernel's declaration; the host library's namespace that stands for the unnamed one is unnamed again."""
    demangle = build.launches().__cxa_demangle
    demangle.restype = ctypes.c_void_p
    text = ctypes.string_at(demangle(symbol.encode(), None, None, None)).decode()
    return re.sub(r"vmf_ops::cuda::(anonymous|\(anonymous namespace\)|_GLOBAL__N__\w+)::", "vmf_ops::cuda::", text)


class Device(Tensors):
    """Memory, and the launches that wait to be run."""

    def __init__(self):
        self.memory, self.waiting = Memory(), []
        self.kernels = kernels()
        build.launches().forget_launches()

    def watch(self, whole, first, size, writable):
        self.memory.place(whole, first, size, writable, written=not writable)

    def collect(self, off=0):
        """Takes over what the launchers have launched, approximations to err that way. Returns (name, Launch)s."""
        library, new = build.launches(), []
        for i in range(library.launch_count()):
            symbol, parameters, numbers = ctypes.c_char_p(), ctypes.c_void_p(), (ctypes.c_int64 * 4)()
            library.launch_at(ctypes.c_int64(i), ctypes.byref(symbol), numbers, ctypes.byref(parameters))
            grid, threads, shared, size = numbers
            launch = Launch(grid, threads, shared, ctypes.string_at(parameters, size), off)
            new.append((demangled(symbol.value.decode()), launch))
        library.forget_launches()
        self.waiting += new
        return new

    def run(self):
        """Runs what waits: the launches of a kernel together, the kernels in the order of their first launches."""
        by_kernel = {}
        for name, launch in self.waiting:
            by_kernel.setdefault(name, []).append(launch)
        self.waiting = []
        for name, launches in by_kernel.items():
            module, kernel = self.kernels[name]
            execute(module, kernel, launches, self.memory)
