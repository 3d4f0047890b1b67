"""Training: one result whether killed or not, whatever the processes, and nothing written before it can start."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from experiments import data, models, train

ROOT = Path(__file__).parent.parent
TINY = {"shells": (3, 2, 1), "epochs": 6, "importance_samples": 5}


@pytest.fixture(scope="module")
def images():
    return data.load("digits")


def command(*arguments):
    return [sys.executable, "-m", "experiments.train", "--no-progress", *map(str, arguments)]


def lasting(result):
    """A result without what may differ between two equal runs: times."""
    result = json.loads(json.dumps(result))
    result.pop("seconds")
    for epoch in result["history"]:
        epoch.pop("seconds")
    return result


# ---- The command line's words ----


def test_shells_are_sphere_dimensions():
    assert models.parse_shells("15,10,4,3,2,1") == (15, 10, 4, 3, 2, 1)
    assert models.ambient_dims((15, 10, 4, 3, 2, 1)) == (16, 11, 5, 4, 3, 2)
    for text in ("", "3,0", "3;2", "-1", "2.5"):
        with pytest.raises(ValueError, match="d >= 1"):
            models.parse_shells(text)


def test_warmup_is_a_third_and_at_most_a_hundred_epochs():
    assert [train.Config(epochs=n).warmup for n in (1, 3, 30, 300, 1000)] == [0, 1, 10, 100, 100]


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"epochs": 5, "warmup": 5},
        {"beta": (1.0, 2.0)},
        {"batch_size": 0},
        {"importance_samples": 0},
        {"model": "gaussian", "shells": (2, 1), "beta": (1.0, 2.0)},
        {"model": "laplace"},
        {"gradient": "exact"},
        {"law": "published"},
        {"kappa": "square"},
        {"samples": 0},
        {"free_bits": -1.0},
        {"min_kappa": float("nan")},
        {"model": "gaussian", "min_kappa": 0.0},
    ],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(train.TrainingError):
        train.Config(**options)


# ---- One run ----


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "gaussian"},
        {"min_kappa": 0.0, "beta": (1.0, 1.0, 2.0)},
        {"gradient": "rsvi", "law": "published", "kappa": "scaled"},
        {"kappa": "exp", "samples": 2, "shell_warmup": "in_turn"},
    ],
)
def test_training_raises_the_bound(options, images, tmp_path):
    config = train.Config(**TINY | options)
    result = train.train(config, images, tmp_path / "run", progress=False)
    values = [epoch["validation"] for epoch in result["history"]]
    assert values[-1] > values[0] + 5
    assert result["ll"] > result["elbo"] - 0.5
    assert result["kl"] == pytest.approx(result["reconstruction"] - result["elbo"], abs=1e-4)
    assert len(result["kl_per_shell"]) == (1 if options.get("model") else 3)
    assert lasting(json.loads((tmp_path / "run" / "result.json").read_text())) == lasting(result)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.pt", "result.json"]


def test_free_bits_are_free(images, tmp_path):
    config = train.Config(**TINY | {"free_bits": 2.0, "epochs": 12})
    assert min(train.train(config, images, tmp_path / "run", progress=False)["kl_per_shell"]) > 1.5


def test_shells_are_warmed_up_in_turn():
    config = train.Config(shells=(3, 2, 1), shell_warmup="in_turn", beta=(1.0, 1.0, 4.0))
    weights = [train._beta(config, warm, "cpu").tolist() for warm in (1 / 6, 0.5, 5 / 6, 1.0)]
    expected = [[0.5, 0, 0], [1, 0.5, 0], [1, 1, 2], [1, 1, 4]]
    torch.testing.assert_close(torch.tensor(weights), torch.tensor(expected))


def test_the_map_to_kappa_is_the_option_s():
    raw = torch.tensor([[-1.0, 2.0]])
    softplus = torch.nn.functional.softplus(raw)
    degrees = torch.tensor([3.0, 1.0])
    for kappa, expected in {"softplus": softplus, "scaled": degrees * softplus, "exp": raw.exp()}.items():
        latent = models.VariantLatent(2, (4, 2), link=kappa, min_kappa=0.5)
        torch.testing.assert_close(latent.concentration(raw), 0.5 + expected)


def test_the_kept_model_is_the_best_after_warmup(images, tmp_path):
    config = train.Config(**TINY | {"epochs": 9})
    result = train.train(config, images, tmp_path, progress=False)
    checkpoint = train.read_checkpoint(tmp_path / "checkpoint.pt")
    after = [epoch for epoch in result["history"] if epoch["epoch"] > config.warmup]
    best = max(after, key=lambda epoch: epoch["validation"])
    # The record is broken only by an improvement of 0.01.
    assert best["validation"] - checkpoint["best"]["elbo"] <= config.min_improvement
    assert result["best_epoch"] == checkpoint["best"]["epoch"] > config.warmup


def test_early_stopping(images, tmp_path):
    config = train.Config(**TINY | {"epochs": 50, "warmup": 1, "patience": 2, "min_improvement": 1e3})
    assert train.train(config, images, tmp_path, progress=False)["trained_epochs"] == 4


def test_seeds_decide_the_result(images, tmp_path):
    results = [
        lasting(train.train(train.Config(**TINY, seed=seed), images, tmp_path / str(i), progress=False))
        for i, seed in enumerate((0, 0, 1))
    ]
    assert results[0] == results[1]
    assert results[0]["ll"] != results[2]["ll"]


def test_denormals_are_flushed_in_training_alone(images, tmp_path, monkeypatch):
    def halved():
        return torch.tensor(torch.finfo(torch.float32).tiny).mul(0.5).item()

    seen, evaluate = [], train.evaluate
    monkeypatch.setattr(train, "evaluate", lambda *arguments: (seen.append(halved()), evaluate(*arguments))[1])
    train.train(train.Config(**TINY | {"epochs": 1}), images, tmp_path, progress=False)
    assert seen == [0, 0] and halved() > 0


# ---- Going on ----


@pytest.mark.parametrize("stopped_at", [1, 4])
def test_an_interrupted_run_goes_on_to_the_same_result(stopped_at, images, tmp_path, monkeypatch):
    config = train.Config(**TINY)
    whole = train.train(config, images, tmp_path / "whole", progress=False)
    train_epoch, calls = train._train_epoch, []

    def interrupted(*arguments):
        trained = train_epoch(*arguments)
        calls.append(trained)
        if len(calls) == stopped_at:
            raise KeyboardInterrupt
        return trained

    monkeypatch.setattr(train, "_train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(config, images, tmp_path / "cut", progress=False)
    resumed = train.train(config, images, tmp_path / "cut", progress=False)
    # What was under way was lost, and no finished epoch was trained again.
    assert len(calls) == config.epochs + 1
    assert lasting(resumed) == lasting(whole)
    weights = [train.read_checkpoint(tmp_path / name / "checkpoint.pt")["model"] for name in ("whole", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_killed_process_goes_on_to_the_same_result(images, tmp_path):
    config = train.Config(**TINY | {"epochs": 60})
    whole = train.train(config, images, tmp_path / "whole", progress=False)
    arguments = command("--shells", "3,2,1", "--epochs", 60, "--importance-samples", 5, "--out", tmp_path / "cut")
    process = subprocess.Popen(arguments, cwd=ROOT)
    checkpoint = tmp_path / "cut" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < train.read_checkpoint(checkpoint)["epoch"] < 60
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "LL" in done.stdout
    assert lasting(json.loads((tmp_path / "cut" / "result.json").read_text())) == lasting(whole)


def test_a_checkpoint_of_other_settings_or_damaged_is_refused(images, tmp_path):
    train.train(train.Config(**TINY | {"epochs": 1}), images, tmp_path, progress=False)
    (tmp_path / "result.json").unlink()
    with pytest.raises(train.TrainingError, match="seed 0, not 3"):
        train.train(train.Config(**TINY | {"epochs": 1, "seed": 3}), images, tmp_path, progress=False)
    checkpoint = tmp_path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    for contents in ([1, 2], {"config": 3, "model": 4}, {"config": {}}):
        torch.save(contents, checkpoint)
        with pytest.raises(train.TrainingError, match="checkpoint.pt: not a checkpoint"):
            train.train(train.Config(**TINY | {"epochs": 1}), images, tmp_path, progress=False)
    checkpoint.write_bytes(whole)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(train.TrainingError, match="checkpoint.pt: not a readable") as caught:
        train.train(train.Config(**TINY | {"epochs": 1}), images, tmp_path, progress=False)
    assert "\n" not in str(caught.value)


def test_a_finished_run_is_not_trained_again_and_a_foreign_result_not_overwritten(images, tmp_path):
    config = train.Config(**TINY | {"epochs": 1})
    first = train.train(config, images, tmp_path, progress=False)
    (tmp_path / "checkpoint.pt").unlink()
    assert train.train(config, images, tmp_path, progress=False) == json.loads(json.dumps(first))
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    result = tmp_path / "result.json"
    damaged = (b"", b"[1, 2]", b'{"ll": -1}', b"\xff\xfe", json.dumps(first | {"seed": 5}).encode())
    for contents in damaged:
        result.write_bytes(contents)
        with pytest.raises(train.TrainingError, match="result.json") as caught:
            train.train(config, images, tmp_path, progress=False)
        assert "\n" not in str(caught.value) and result.read_bytes() == contents


def test_a_run_of_before_an_option_has_its_default(images, tmp_path):
    config = train.Config(**TINY | {"epochs": 1})
    train.train(config, images, tmp_path, progress=False)
    stored = train.read_checkpoint(tmp_path / "checkpoint.pt")["config"]
    del stored["law"]
    train.check_same_run(config, stored, tmp_path)
    del stored["seed"]
    with pytest.raises(train.TrainingError, match="seed None, not 0"):
        train.check_same_run(config, stored, tmp_path)


FULL_DISK = """
import resource, signal, sys
from experiments import train
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
train.main(sys.argv[1:])
"""


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    arguments = ["--shells", "3,2,1", "--epochs", "2", "--importance-samples", "2", "--no-progress", "--out", "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", FULL_DISK, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith(
        "error: run/checkpoint.pt cannot be"
    )
    assert list((tmp_path / "run").iterdir()) == []
    old = tmp_path / "kept.txt"
    old.write_text("old")
    with pytest.raises(train.TrainingError, match="kept.txt cannot be written: "):
        train.replace_file(old, lambda path: (path.write_text("half"), os.truncate(path, -1)))
    assert old.read_text() == "old" and not (tmp_path / "kept.txt.new").exists()


def test_a_folder_is_one_process_s(images, tmp_path):
    config = train.Config(**TINY | {"epochs": 1})
    with train.locked(tmp_path):
        with pytest.raises(train.TrainingError, match=f"{tmp_path}: another process trains there"):
            train.train(config, images, tmp_path, progress=False)
    assert train.train(config, images, tmp_path, progress=False)["trained_epochs"] == 1


# ---- Processes ----


def test_bad_files_and_options_are_one_line_and_nothing_is_written(tmp_path, capsys):
    out = tmp_path / "out"
    for arguments in (
        ["--dataset", "mnist", "--data-dir", str(tmp_path), "--out", str(out)],
        ["--shells", "3,x", "--out", str(out)],
        ["--epochs", "0", "--out", str(out)],
        ["--beta", "1,2", "--out", str(out)],
        ["--accelerator", "abacus", "--out", str(out)],
    ):
        with pytest.raises(SystemExit) as caught:
            train.main(arguments)
        assert caught.value.code.startswith("error: ") and "\n" not in caught.value.code
        assert not out.exists()
    assert capsys.readouterr().out == ""


WORKER = """
import os, sys, torch
from experiments import data, train
seen, models = [], []
evaluate, batch = train.evaluate, data.Images.batch
train.evaluate = lambda fabric, vae, *rest: (models.append(vae), evaluate(fabric, vae, *rest))[1]
data.Images.batch = lambda self, index: (seen.append(index), batch(self, index))[1]
train.main(sys.argv[1:])
contents = {"weights": models[-1].state_dict(), "noise": torch.rand(5), "seen": torch.cat(seen)}
torch.save(contents, f"rank{os.environ['RANK']}.pt")
"""


def test_torchrun_s_processes_share_weights_and_data_but_not_noise(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    options = ["--shells", "3,2,1", "--epochs", "2", "--importance-samples", "2", "--out", "run", "--no-progress"]
    done = subprocess.run(launch + options, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("LL") == 1
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for name, weight in ranks[0]["weights"].items():
        assert torch.equal(weight, ranks[1]["weights"][name])
    assert not torch.equal(ranks[0]["noise"], ranks[1]["noise"])
    # Twelve batches of 100 in each of two epochs, half of each batch to each process, no image to both.
    assert len(ranks[0]["seen"]) == len(ranks[1]["seen"]) == 2 * 600
    assert not torch.isin(ranks[0]["seen"][:600], ranks[1]["seen"][:600]).any()
    assert len(train.read_checkpoint(tmp_path / "run" / "checkpoint.pt")["rng"]["cpu"]) == 2


def test_the_command_starts_its_own_processes(tmp_path):
    arguments = command("--shells", "2,1", "--epochs", 1, "--importance-samples", 2, "--out", tmp_path / "run")
    done = subprocess.run([*arguments, "--devices", "2"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("LL") == 1
