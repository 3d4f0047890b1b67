"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"^## (.+?)$.*?```python\n(.+?)```", README, re.DOTALL | re.MULTILINE)


def test_there_is_an_example_of_each():
    assert [title for title, _ in EXAMPLES] == [
        "A drop-in operator",
        "A vMF loss in high dimension",
        "Clusters of directions",
        "The VAE layer",
    ]


@pytest.mark.parametrize(("title", "source"), EXAMPLES)
def test_example_runs(title, source, capsys):
    torch.manual_seed(0)
    names: dict = {}
    exec(compile(source, title, "exec"), names)
    printed = capsys.readouterr().out
    assert printed and "nan" not in printed
    if "log_kappa" in names:
        # The standard error of κ is 1/√(n A'(κ)) = 0.86, and maximum likelihood has an upward bias of about 1.
        assert abs(names["log_kappa"].exp() - 200) < 5 * 0.86 + 1
