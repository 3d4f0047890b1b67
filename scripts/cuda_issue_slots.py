"""The instructions that warps issue for an element, in Markdown: nvcc's PTX as tests/cuda_on_ptx executes it.

python scripts/cuda_issue_slots.py > benchmarks/results/DATE-cuda-slots.md   # some minutes; no GPU

Threads of a warp that take different ways issue both, so a mix of regions costs what it costs on a GPU. An instruction
of PTX is one of the machine in float32 arithmetic but for division and square root by IEEE, which are some ten each.
"""

import pathlib
import sys

import torch

sys.path[:0] = [str(pathlib.Path(__file__).parent.parent / part) for part in ("", "tests")]
from cuda_on_host import launchers  # noqa: E402
from cuda_on_ptx import device, execution  # noqa: E402


class Slots:
    """Counts, while it lasts, what every warp issues."""

    def __enter__(self):
        self.count, self.follow = 0, execution.Run.follow

        def follow(run, lanes, at, waiting):
            before = run.clock.now
            self.follow(run, lanes, at, waiting)
            self.count += (run.clock.now - before) * len(set((lanes.id // execution.WARP).tolist()))

        execution.Run.follow = follow
        return self

    def __exit__(self, *_):
        execution.Run.follow = self.follow


def main():
    print("Instructions of a thread per element, float32, x log-uniform in [1e-3, 1e4]\n\n| | |\n|---|---|")
    generator = torch.Generator().manual_seed(0)
    n = 1 << 14
    x = 10 ** (7 * torch.rand(n, generator=generator) - 3)
    orders = {
        "v = 19.5": torch.tensor(19.5),
        "v = 1.5": torch.tensor(1.5),
        "v U[0,512]": 512 * torch.rand(n, generator=generator),
        "v U[0,3]": 3 * torch.rand(n, generator=generator),
    }
    for op, order in (("log_iv", lambda v: v), ("ratio", lambda v: v), ("kl_uniform", lambda v: 2 * v + 2)):
        for label, v in orders.items():
            here = device.Device()
            outputs = [here.output(x.shape, torch.float32) for _ in range(2)]
            launchers.elementwise(device.build.launches(), op, here.place(order(v)), here.place(x), outputs)
            here.collect()
            with Slots() as slots:
                here.run()
            print(f"| {op}, {label} | {slots.count * execution.WARP / n:.0f} |", flush=True)


if __name__ == "__main__":
    main()
