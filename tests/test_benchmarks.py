"""The benchmarks' peers are the laws they are named after, and a saved run is read back and compared."""

import json
import sys

import numpy as np
import pytest
import torch

import vmf_ops
from benchmarks import __main__ as command
from benchmarks import cuda, peers, records


@pytest.mark.parametrize("m", [3, 8, 33])
def test_divergences_of_the_peers_are_their_integrals(m):
    """E log f - log of the uniform density, by quadrature in the cosine; to the digits of float32."""
    t = (np.arange(200_000) + 0.5) / 100_000 - 1
    surface = (1 - t * t) ** ((m - 3) / 2)

    def divergence(log_density):
        density = np.exp(log_density) * surface
        return np.sum(density * log_density) / density.sum() - np.log(density.sum() / surface.sum())

    for kappa in (0.5, 5.0, 30.0):
        rho = kappa / (kappa + m)
        column = torch.tensor([kappa])
        expected = {
            peers.power_spherical_kl(m, column): divergence(kappa * np.log1p(t)),
            peers.spherical_cauchy_kl(m, torch.tensor([rho])): divergence(
                -(m - 1) * np.log(1 + rho * rho - 2 * rho * t)
            ),
            peers.s_vae_kl(m, column): divergence(kappa * (t - 1)),
        }
        for got, right in expected.items():
            assert abs(got.item() - right) < 2e-4 * (1 + right)


def test_draws_of_the_peers_have_their_mean():
    torch.manual_seed(1)
    loc = torch.nn.functional.normalize(torch.randn(5), dim=0).expand(200_000, 5)
    cosine = (peers.power_spherical(loc, torch.full((200_000, 1), 4.0)) * loc).sum(-1)
    assert abs(cosine.mean().item() - 4 / (4 + 4)) < 5 * cosine.std().item() / 200_000**0.5
    z = peers.spherical_cauchy(loc, torch.full((200_000, 1), 0.6))
    assert torch.allclose(z.norm(dim=-1), torch.ones(200_000), atol=1e-5)
    # log(|z - ρμ|² / (1-ρ²)) of a draw is minus that of |u + ρμ|² of the uniform point: a divergence of law from law.
    gap = -4 * torch.log((z - 0.6 * loc).square().sum(-1) / (1 - 0.36))
    right = peers.spherical_cauchy_kl(5, torch.tensor([0.6])).item()
    assert abs(gap.mean().item() - right) < 5 * gap.std().item() / 200_000**0.5


def test_a_run_is_saved_drawn_and_compared(tmp_path, monkeypatch, capsys):
    files = {name: str(tmp_path / name) for name in ("run.json", "run.png")}
    words = ["calls", "--budget", "0.001", "--json", files["run.json"], "--plot", files["run.png"]]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    threads = torch.get_num_threads()
    command.main()
    torch.set_num_threads(threads)
    record = records.read(files["run.json"])
    assert record["build"]["version"] == vmf_ops.__version__ and 0 < record["import_seconds"] < 10
    assert all(seconds > 0 for row in record["sections"]["calls"] for seconds in row["seconds"].values())
    assert (tmp_path / "run.png").stat().st_size > 1000 and sorted(p.name for p in tmp_path.iterdir()) == sorted(files)
    slower = json.loads(json.dumps(record))
    slower["sections"]["calls"][0]["seconds"]["vmf_ops"] *= 3
    lines = []
    assert records.compare(record, record, lines.append) == 0
    assert records.compare(record, slower, lines.append) == 1 and "+200%" in lines[-1]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 0, "sections": {}}'])
def test_a_file_that_is_no_run_is_refused(tmp_path, monkeypatch, capsys, content):
    (tmp_path / "run.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "calls", "--compare", str(tmp_path / "run.json")])
    with pytest.raises(SystemExit):
        command.main()
    assert "no run saved by --json" in capsys.readouterr().err


@pytest.mark.parametrize("capture, fails, held", [(True, False, 20), (True, True, 1), (False, False, 1)])
def test_a_short_call_is_timed_in_a_graph_where_one_can_be_made(monkeypatch, capsys, capture, fails, held):
    """A call of 1 µs, by a clock that counts calls; what no graph can hold is timed as it is, with a message."""
    clock = [0.0]

    def call():
        clock[0] += 1e-3

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            self.at = clock[0]

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            return end.at - self.at

    replays = []

    def graphed(step, calls=1):
        if fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        return (lambda: (replays.append(calls), [step() for _ in range(calls)])), None

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(cuda, "graphed", graphed)
    assert cuda.milliseconds(call, repeats=2, capture=capture) == pytest.approx(1e-3)
    assert set(replays) == ({held} if held > 1 else set())
    assert ("not permitted" in capsys.readouterr().out) == fails
