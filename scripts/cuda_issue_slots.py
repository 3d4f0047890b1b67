"""The machine instructions that warps issue for a number, in Markdown; no GPU.

python scripts/cuda_issue_slots.py > benchmarks/results/DATE-cuda-slots.md   # some minutes
python scripts/cuda_issue_slots.py log_iv "draw 11"                          # the rows that begin so

Needs nvcc and nvdisasm (pip install nvidia-cuda-nvdisasm). nvcc's PTX is executed by tests/cuda_on_ptx, which counts
the warps that issue each of its instructions: threads of a warp that take different ways issue both, so a mix of
regions costs what it costs on a GPU. ptxas makes sm_90's machine code of the same PTX, every instruction of which is
told to be a line, and nvdisasm tells the line that a machine instruction comes from: it is issued as often as that.
(What ptxas makes of a short branch is issued always, and counted where a thread of the warp takes the branch.)
"""

import argparse
import collections
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import torch

sys.path[:0] = [str(pathlib.Path(__file__).parent.parent / part) for part in ("", "tests")]
from cuda_on_host import launchers  # noqa: E402
from cuda_on_ptx import device, execution, nvcc  # noqa: E402

# Instructions of two slots, whose unit takes half as many numbers a cycle as are issued; and those of the unit for
# special functions, which takes an eighth (CUDA C++ Programming Guide, throughput of arithmetic instructions, 9.0).
TWICE = re.compile(r"IMAD\.(WIDE|HI)|D(FMA|MUL|ADD|SETP)")
SPECIAL = re.compile(r"MUFU|F2[IF]|I2F\b|FRND|POPC|FLO")

# ---- What is issued ----


class Issued:
    """Counts, while it lasts, how many warps issue each instruction of the PTX: [kernel][its place]."""

    def __enter__(self):
        self.counts, self.programs = collections.defaultdict(collections.Counter), {}
        self.make = make = execution.Program.of

        def program(module, kernel):
            made = make(module, kernel)
            if kernel.name not in self.programs:
                self.programs[kernel.name] = made, made.steps
                made.steps = [self.counted(kernel.name, *numbered) for numbered in enumerate(made.steps)]
            return made

        execution.Program.of = program
        return self

    def counted(self, kernel, place, step):
        counter = self.counts[kernel]

        def count(run, lanes):
            warps = getattr(lanes, "warps", None)
            if warps is None:
                warps = lanes.warps = len(set((lanes.id // execution.WARP).tolist()))
            counter[place] += warps
            return step(run, lanes)

        return count

    def __exit__(self, *_):
        execution.Program.of = self.make
        for program, steps in self.programs.values():
            program.steps = steps

    def slots(self):
        """(of the PTX, of the machine code, those for which its unit for special functions is held)."""
        ptx = sum(sum(counter.values()) for counter in self.counts.values())
        machine = special = 0
        for kernel, counter in self.counts.items():
            for place, opcode in machine_code(kernel):
                machine += counter[place] * (2 if TWICE.match(opcode) else 1)
                special += counter[place] * (8 if SPECIAL.match(opcode) else 0)
        return ptx, machine, special


# ---- Machine code ----


@functools.cache
def machine_code(kernel):
    """[(place of an instruction of the PTX, opcode of one that is made for it)]."""
    source = next(source for source in nvcc.SOURCES if f".entry {kernel}(" in nvcc.ptx(source).read_text())
    rows, place, keep = ['.file 1 "ptx"'], 0, True
    for row in nvcc.ptx(source).read_text().splitlines():
        if ".entry " in row:
            keep = f".entry {kernel}(" in row
        if keep and (count := instructions(row)):
            rows.append(f".loc 1 {place + 1} 0")
            place += count
        if keep:
            rows.append(row)
        keep = keep or row == "}"
    rows[: rows.index(".address_size 64") + 1] = [*rows[1 : rows.index(".address_size 64") + 1], rows[0]]
    marked, cubin = (nvcc.folder() / f"marked.{kind}" for kind in ("ptx", "cubin"))
    marked.write_text("\n".join(rows))
    subprocess.run([nvcc.find(), "-cubin", "-arch=sm_90", "-lineinfo", marked, "-o", cubin], check=True)
    listing = subprocess.run([nvdisasm(), "-c", "-g", cubin], check=True, capture_output=True, text=True).stdout
    found, at = [], None
    for row in listing.splitlines():
        if line := re.search(r"//## File .*, line (\d+)", row):
            at = int(line[1]) - 1
        elif row.startswith("$"):  # a function of ptxas's own, called for what is rare
            at = None
        elif at is not None and (opcode := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([\w.]+)", row)):
            if opcode[1] != "NOP":  # behind the last exit
                found.append((at, opcode[1]))
    return found


def instructions(row):
    """How many instructions a row of PTX holds."""
    statements = (part.strip("{} \t") for part in re.sub(r"//.*", "", row).split(";")[:-1])
    return sum(bool(part) and not part.startswith(".") for part in statements)


@functools.cache
def nvdisasm():
    folders = [f"{os.environ['CUDA_HOME']}/bin"] if "CUDA_HOME" in os.environ else []
    found = shutil.which("nvdisasm", path=os.pathsep.join([*folders, os.environ["PATH"]]))
    return found or sys.exit("no nvdisasm in CUDA_HOME or on PATH: pip install nvidia-cuda-nvdisasm")


# ---- What is counted ----


def elementwise():
    """(name, what launches it, numbers of output) of functions of an order and an argument."""
    generator = torch.Generator().manual_seed(0)
    n = 1 << 14
    x = 10 ** (7 * torch.rand(n, generator=generator) - 3)
    orders = {
        "v = 19.5": torch.tensor(19.5),
        "v = 1.5": torch.tensor(1.5),
        "v U[0,512]": 512 * torch.rand(n, generator=generator),
        "v U[0,3]": 3 * torch.rand(n, generator=generator),
    }
    for op in ("log_iv", "ratio", "kl_uniform", "kl_uniform_with_slope", "log_kv"):
        for label, v in orders.items():
            order = 2 * v + 2 if op.startswith("kl") else v

            def launch(here, op=op, order=order):
                outputs = [here.output(x.shape, torch.float32) for _ in range(2)]
                launchers.elementwise(
                    device.build.launches(), op, here.place(order), here.place(x), outputs, order.dim() == 0
                )

            yield f"{op}, {label}", launch, n


def draws():
    """The same of draws and their gradients: rows of a posterior, kappa log-uniform in [0.1, 1000]."""
    for label, dims in {"3": (3,), "11": (11,), "41": (41,), "2 x20": (2,) * 20, "512": (512,)}.items():
        draw = launchers.Draw(dims, torch.float32, rows=max(256, (1 << 14) // sum(dims) // 256 * 256))
        for name, method in (("draw", draw.sample), ("gradient", draw.backward)):

            def launch(here, method=method):
                method(device.build.launches(), here.place, here.output)

            yield f"{name} {label}", launch, draw.z.numel()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="beginnings of names")
    only = tuple(parser.parse_args().only)
    print("Slots of a number, float32, sm_90; arguments log-uniform in [1e-3, 1e4]\n")
    print("| | PTX | machine code | unit for special functions |\n|---|---|---|---|")
    for name, launch, numbers in (*elementwise(), *draws()):
        if only and not name.startswith(only):
            continue
        here = device.Device()
        launch(here)
        here.collect()
        with Issued() as issued:
            here.run()
        counts = (f"{count * execution.WARP / numbers:.0f}" for count in issued.slots())
        print(f"| {name} | {' | '.join(counts)} |", flush=True)


if __name__ == "__main__":
    main()
