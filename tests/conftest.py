"""Every test that takes `device` runs on the CPU and on each kind of accelerator that is there.

One thread: two on small tensors wait for each other, ten times as long on a busy machine.
"""

import pytest
import torch

torch.set_num_threads(1)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)
