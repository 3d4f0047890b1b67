"""Functions that torch.compile calls as they are, marked without importing the compiler before somebody else does.

torch.compiler.allow_in_graph imports torch._dynamo, which takes longer than all of torch.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

import torch

_DYNAMO = "torch._dynamo"
_waiting: list[Callable] = []


def allow_in_graph(function: Callable) -> Callable:
    """torch.compiler.allow_in_graph, as soon as torch._dynamo is imported."""
    if _DYNAMO in sys.modules:
        return torch.compiler.allow_in_graph(function)
    _waiting.append(function)
    return function


class _WhenImported(MetaPathFinder):
    """Marks the functions that wait once torch._dynamo has been imported, before its importer goes on."""

    def find_spec(self, name, path, target=None):
        if name != _DYNAMO:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_mark(module):
            execute(module)
            while _waiting:
                torch.compiler.allow_in_graph(_waiting.pop())

        spec.loader.exec_module = execute_and_mark
        return spec


if _DYNAMO not in sys.modules:
    sys.meta_path.insert(0, _WhenImported())
