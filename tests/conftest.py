"""The tests of ops, in modules that use the fixture `device`, run on the CPU and on a GPU where there is one."""

import pytest
import torch

import vmf_ops

CUDA = vmf_ops.build_info()["cuda"] and torch.cuda.is_available()
DEVICES = ["cpu"] + (["cuda"] if CUDA else [])
collect_ignore = [] if CUDA else ["test_cuda.py"]


@pytest.fixture(params=DEVICES)
def device(request):
    """The device on which tensors are made that ask for none."""
    if request.param == "cpu":
        yield torch.device("cpu")
    else:
        torch.set_default_device(request.param)
        yield torch.get_default_device()
        torch.set_default_device(None)


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on small tensors wait for each other, ten times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed):
    """A generator for tensors made on the default device."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)
