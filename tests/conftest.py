"""Every test that takes `device` runs on the CPU and on each kind of accelerator that is there."""

import pytest
import torch

import vmf_ops

CUDA = vmf_ops.build_info()["cuda"] and torch.cuda.is_available()
DEVICES = ["cpu"] + (["cuda"] if CUDA else [])
collect_ignore = [] if CUDA else ["test_cuda.py"]


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on small tensors wait for each other, ten times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
