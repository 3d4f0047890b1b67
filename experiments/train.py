"""Trains one VAE by the paper's protocol: python -m experiments.train --dataset mnist --data-dir DIR --shells 15,10,4.

Adam, a KL warm-up over the first third of the epochs (at most 100), after it the best model by validation ELBO, early
stopping; then test ELBO and importance-sampled log-likelihood of that model. After each epoch a checkpoint replaces the
last one; the same command goes on from it, to the result that an undisturbed run gives. Several processes:
torchrun --nproc-per-node 2 -m experiments.train ...; the batch is shared among them.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import json
import math
import os
import sys
import time
from pathlib import Path

import torch

from experiments import data, models

CHOICES = {
    "model": ("vmf", "gaussian"),
    "gradient": ("implicit", "rsvi"),
    "law": models.LAWS,
    "kappa": tuple(models.CONCENTRATIONS),
    "shell_warmup": ("together", "in_turn"),
}


def numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


OPTIONS = {
    "gradient": str,
    "law": str,
    "kappa": str,
    "min_kappa": float,
    "beta": numbers,
    "free_bits": float,
    "samples": int,
    "shell_warmup": str,
}
"""The settings that a row's name can hold, and how each is read: what departs from the paper's model or bound."""


class TrainingError(Exception):
    """A run cannot start or go on; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run's result; a checkpoint goes on only under the same."""

    dataset: str = "digits"
    shells: tuple[int, ...] = (15, 10, 4, 3, 2, 1)
    model: str = "vmf"
    epochs: int = 300
    seed: int = 0
    gradient: str = "implicit"
    law: str = "exact"
    kappa: str = "softplus"
    min_kappa: float = 1.0
    beta: tuple[float, ...] = (1.0,)
    free_bits: float = 0.0
    samples: int = 1
    shell_warmup: str = "together"
    batch_size: int = 100
    learning_rate: float = 1e-3
    warmup: int = -1
    patience: int = 50
    min_improvement: float = 1e-2
    importance_samples: int = 500

    def __post_init__(self):
        if self.warmup < 0:
            object.__setattr__(self, "warmup", min(100, self.epochs // 3))
        if self.epochs < 1 or self.warmup >= self.epochs:
            raise TrainingError(f"{self.epochs} epochs, {self.warmup} of warm-up: the best model is chosen after it")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainingError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        shells = len(self.shells) if self.model == "vmf" else 1
        if len(self.beta) not in (1, shells):
            raise TrainingError(f"beta needs one number or one per shell ({shells}), got {len(self.beta)}")
        for name in ("batch_size", "patience", "importance_samples", "samples"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("min_kappa", "free_bits"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(f"{name} must be a finite number >= 0, got {getattr(self, name)}")
        if self.model == "gaussian":
            for name in ("gradient", "law", "kappa", "min_kappa"):
                if getattr(self, name) != getattr(Config, name):
                    raise TrainingError(f"a Gaussian has no {name}, got {getattr(self, name)}")
        if self.law == "published" and self.gradient != "rsvi":
            raise TrainingError("law=published has the gradient of its accepted proposal alone: gradient=rsvi")

    @property
    def label(self) -> str:
        """The row's name in tables: its shells, or gaussian:size, and each of OPTIONS that is not the default."""
        shells = ",".join(map(str, self.shells))
        words = [shells if self.model == "vmf" else f"gaussian:{sum(models.ambient_dims(self.shells))}"]
        for name in OPTIONS:
            value = getattr(self, name)
            if value != getattr(Config, name):
                parts = value if isinstance(value, tuple) else (value,)
                words.append(f"{name}=" + ",".join(p if isinstance(p, str) else f"{p:g}" for p in parts))
        return " ".join(words)

    def folder(self, root="runs") -> Path:
        name = f"{self.dataset}_{self.label}_{self.epochs}_{self.seed}"
        return Path(root) / name.replace(" ", "_").replace(":", "").replace(",", "-")

    def build(self, pixels: int):
        """The untrained VAE, for images of so many pixels."""
        options = {name: getattr(self, name) for name in ("gradient", "law", "kappa", "min_kappa")}
        return models.build(pixels, self.shells, self.model, **options)


@contextlib.contextmanager
def flushed_denormals():
    """Denormals count as 0 in this thread.

    Adam's moments of weights whose gradient has vanished decay into the denormals and stay there; arithmetic on them is
    a hundred times as slow.
    """
    before = torch.tensor(torch.finfo(torch.float32).tiny).mul(0.5).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextlib.contextmanager
def locked(folder: Path):
    """The folder is this process's alone; raises TrainingError where another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TrainingError(f"{folder}: another process trains there") from None
    finally:
        os.close(descriptor)


def train(config: Config, images: data.Images, out: Path, *, fabric=None, progress=True) -> dict:
    """Trains, or goes on training, in the folder `out`; returns the result, which is also in out/result.json.

    A run that is finished is not trained again, and one folder belongs to one run and one process at a time.
    """
    fabric = fabric or make_fabric()
    if config.batch_size % fabric.world_size:
        raise TrainingError(f"batch size {config.batch_size} cannot be shared by {fabric.world_size} processes")
    result = finished(config, out)
    if result is not None:
        return result
    with contextlib.ExitStack() as stack:
        if fabric.is_global_zero:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out))
        return _train(config, images, out, fabric, progress)


@flushed_denormals()
def _train(config: Config, images: data.Images, out: Path, fabric, progress) -> dict:
    torch.manual_seed(config.seed)
    vae = config.build(images.size)
    # Fused Adam does the same arithmetic in one pass over the parameters.
    model, optimizer = fabric.setup(vae, torch.optim.Adam(vae.parameters(), lr=config.learning_rate, fused=True))
    images = images.to(fabric.device)
    # The weights and the order of the batches are the same in every process, the noise is not.
    shuffle = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed + 1_000_003 * fabric.global_rank)

    state = {"epoch": 0, "history": [], "best": None, "stale": 0, "seconds": 0.0}
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = _resume(checkpoint, config, fabric, vae, optimizer, shuffle)

    bar = _progress_bar(config, state["epoch"], progress and fabric.is_global_zero)
    while state["epoch"] < config.epochs and state["stale"] < config.patience:
        start = time.perf_counter()
        epoch = state["epoch"] = state["epoch"] + 1
        warm = min(1.0, epoch / config.warmup) if config.warmup else 1.0
        trained = _train_epoch(fabric, model, optimizer, images, config, warm, shuffle)
        validation = evaluate(fabric, vae, images.validation)
        elbo = validation["elbo"]
        if not (math.isfinite(trained) and math.isfinite(elbo)):
            raise TrainingError(f"epoch {epoch} gave {trained} in training and {elbo} in validation: not a number")
        if epoch > config.warmup:
            if state["best"] is None or elbo > state["best"]["elbo"] + config.min_improvement:
                weights = {name: value.detach().cpu().clone() for name, value in vae.state_dict().items()}
                state["best"], state["stale"] = {"elbo": elbo, "epoch": epoch, "model": weights}, 0
            else:
                state["stale"] += 1
        seconds = time.perf_counter() - start
        state["seconds"] += seconds
        point = {"epoch": epoch, "train": trained, "validation": elbo, "kl_per_shell": validation["kl_per_shell"]}
        state["history"].append(point | {"seconds": seconds})
        _save(checkpoint, config, fabric, vae, optimizer, shuffle, state)
        bar.set_postfix(train=f"{trained:.2f}", validation=f"{elbo:.2f}", refresh=False)
        bar.update()
    bar.close()

    vae.load_state_dict(state["best"]["model"])
    # Its own seed, so that the test's result depends on the weights alone.
    torch.manual_seed(config.seed + 1_000_003 * fabric.global_rank)
    result = {"label": config.label, **dataclasses.asdict(config)}
    result |= evaluate(fabric, vae, images.test, config.importance_samples)
    result |= {"trained_epochs": state["epoch"], "best_epoch": state["best"]["epoch"], "seconds": state["seconds"]}
    result["history"] = state["history"]
    if fabric.is_global_zero:
        replace_file(out / "result.json", lambda path: path.write_text(json.dumps(result, indent=1)))
    return result


def make_fabric(accelerator="cpu", devices=1):
    """Lightning Fabric for these devices; under torchrun, one process of the group it started."""
    from lightning.fabric import Fabric

    nodes = 1
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun's; the processes that Fabric starts have none
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy = "ddp" if nodes > 1 or devices != 1 else "auto"
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
    except Exception as error:  # Lightning has its own for a device that is not there
        raise TrainingError(" ".join(str(error).split())) from None
    fabric.launch()
    return fabric


def _train_epoch(fabric, model, optimizer, images, config, warm, shuffle) -> float:
    """One pass over the training images in a new order; returns the mean ELBO under the warm-up's β."""
    beta = _beta(config, warm, fabric.device)
    order = torch.randperm(len(images.train), generator=shuffle).to(fabric.device)
    # The rows left over stay out, so that each process makes the same number of equal steps.
    size = min(config.batch_size, len(order) - len(order) % fabric.world_size)
    batches = order[: len(order) // size * size].view(-1, fabric.world_size, size // fabric.world_size)
    total = torch.zeros((), device=fabric.device)
    model.train()
    for index in batches[:, fabric.global_rank].unbind():
        optimizer.zero_grad()
        x = images.batch(index)
        elbo = model(x.repeat(config.samples, 1) if config.samples > 1 else x, beta)
        loss = -elbo.value.mean()
        if config.free_bits:
            # So many nats of a shell's KL, in the batch's mean, cost nothing (Kingma et al., 2016, appendix C.8).
            loss = (beta * elbo.kl.mean(0).clamp_min(config.free_bits)).sum() - elbo.reconstruction.mean()
        fabric.backward(loss)
        optimizer.step()
        total -= loss.detach()
    return (fabric.all_reduce(total, reduce_op="sum") / (len(batches) * fabric.world_size)).item()


def _beta(config, warm: float, device):
    """The KL's weight, one for all shells or one for each, when so much of the warm-up, 0 to 1, is over."""
    if config.shell_warmup == "in_turn":
        # Each shell's weight rises when that of the one before has risen.
        count = len(config.shells)
        turns = (warm * count - torch.arange(count, device=device)).clamp(0, 1)
        return turns * torch.tensor(config.beta, device=device)
    if len(config.beta) > 1:
        return warm * torch.tensor(config.beta, device=device)
    return warm * config.beta[0]


@torch.no_grad()
def evaluate(fabric, vae, rows, importance_samples=0, chunk=1000) -> dict:
    """Means over the rows, shared among the processes: elbo, reconstruction, kl, kl_per_shell and, if asked, ll."""
    vae.eval()
    sums = 0
    for part in rows[fabric.global_rank :: fabric.world_size].split(chunk):
        x = part.float()
        elbo = vae.elbo(x)
        columns = [elbo.value, elbo.reconstruction, *elbo.kl.unbind(-1)]
        if importance_samples:
            columns.append(vae.log_likelihood(x, importance_samples))
        sums = sums + torch.stack(columns).double().sum(-1)
    elbo, reconstruction, *kl = (fabric.all_reduce(sums, reduce_op="sum") / len(rows)).tolist()
    ll = {"ll": kl.pop()} if importance_samples else {}
    return ll | {"elbo": elbo, "reconstruction": reconstruction, "kl": sum(kl), "kl_per_shell": kl}


def _rng_states(fabric) -> dict:
    """The states of every process's generators, one row each."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    gathered = {name: fabric.all_gather(state.to(fabric.device)).cpu() for name, state in states.items()}
    return {name: rows.view(fabric.world_size, -1) for name, rows in gathered.items()}


def _save(checkpoint, config, fabric, vae, optimizer, shuffle, state):
    contents = {
        **state,
        "config": _plain(config),
        "model": vae.state_dict(),
        "optimizer": optimizer.state_dict(),
        "shuffle": shuffle.get_state(),
        "rng": _rng_states(fabric),
    }
    if fabric.is_global_zero:
        replace_file(checkpoint, lambda path: torch.save(contents, path))


def _resume(checkpoint, config, fabric, vae, optimizer, shuffle) -> dict:
    contents = read_checkpoint(checkpoint)
    check_same_run(config, contents.pop("config"), checkpoint)
    rng = contents.pop("rng")
    if len(rng["cpu"]) != fabric.world_size:
        raise TrainingError(f"{checkpoint} was written by {len(rng['cpu'])} processes, not {fabric.world_size}")
    vae.load_state_dict(contents.pop("model"))
    optimizer.load_state_dict(contents.pop("optimizer"))
    shuffle.set_state(contents.pop("shuffle"))
    torch.set_rng_state(rng["cpu"][fabric.global_rank])
    if "cuda" in rng and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(rng["cuda"][fabric.global_rank], fabric.device)
    return contents


RESULT_COLUMNS = ("label", "ll", "elbo", "reconstruction", "kl", "kl_per_shell", "trained_epochs", "seconds", "history")


def finished(config: Config, out: Path) -> dict | None:
    """The result of this run in the folder `out`, if it is there; raises TrainingError if another's is."""
    path = out / "result.json"
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text())
    except ValueError as error:  # not UTF-8, or not JSON
        raise TrainingError(f"{path}: not a readable result ({error})") from None
    if not isinstance(result, dict) or not result.keys() >= set(RESULT_COLUMNS):
        raise TrainingError(f"{path}: not the result of a training run")
    check_same_run(config, result, path)
    return result


def read_checkpoint(path: Path) -> dict:
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from EOFError to UnpicklingError
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise TrainingError(f"{path}: not a readable checkpoint ({reason})") from None
    if not isinstance(contents, dict) or not isinstance(contents.get("config"), dict) or "model" not in contents:
        raise TrainingError(f"{path}: not a checkpoint of a training run")
    return contents


def check_same_run(config: Config, stored: dict, path: Path):
    """Raises TrainingError where what is stored in path came from other settings."""
    defaults = _plain(Config())
    for name, value in _plain(config).items():
        # A file that does not name one of OPTIONS is older than the option, and has its default.
        found = stored.get(name, defaults[name] if name in OPTIONS else None)
        if found != value:
            raise TrainingError(f"{path} belongs to a run with {name} {found}, not {value}: choose another folder")


def replace_file(path: Path, write):
    """Writes beside path and renames, so that a kill or a full disk leaves the old file or the new one."""
    beside = path.with_name(path.name + ".new")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch.save raises the second
        beside.unlink(missing_ok=True)
        raise TrainingError(f"{path} cannot be written: {str(error).splitlines()[0]}") from None
    beside.replace(path)


def _plain(config: Config) -> dict:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(config).items()}


def _progress_bar(config, done, shown):
    from tqdm import tqdm

    return tqdm(total=config.epochs, initial=done, desc=config.label, unit="epoch", disable=not shown, leave=False)


def positive(text: str) -> int:
    """An integer from 1 on, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def describe(result: dict) -> str:
    """One line of a result."""
    shells = " ".join(f"{kl:.2f}" for kl in result["kl_per_shell"])
    return (
        f"{result['label']}: LL {result['ll']:.2f}  ELBO {result['elbo']:.2f}  "
        f"reconstruction {result['reconstruction']:.2f}  KL {result['kl']:.2f} ({shells})  "
        f"{result['trained_epochs']} epochs, {result['seconds']:.1f} s"
    )


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=data.DATASETS, default="digits")
    parser.add_argument("--data-dir", type=Path, help="folder of the data set's files (digits needs none)")
    parser.add_argument("--shells", default="15,10,4,3,2,1", help="sphere dimensions d (a circle is 1)")
    parser.add_argument("--model", choices=CHOICES["model"], default="vmf")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    for name, help in {
        "gradient": "of the samples; rsvi is the paper's, which is biased",
        "law": "of the samples; published is what the paper's code draws from",
        "kappa": "softplus(t), (m-1) softplus(t) or exp(t), added to --min-kappa",
        "shell_warmup": "of the KL of all shells together, or of one after the other",
    }.items():
        choices = CHOICES[name]
        parser.add_argument(f"--{name.replace('_', '-')}", choices=choices, default=choices[0], help=help)
    parser.add_argument("--min-kappa", type=float, default=1.0, help="the least kappa; 0 reaches the prior")
    parser.add_argument("--beta", type=numbers, default=(1.0,), help="weight of the KL, one number or one per shell")
    parser.add_argument("--free-bits", type=float, default=0.0, help="nats of each shell's KL that cost nothing")
    parser.add_argument("--samples", type=int, default=1, help="of the latent for each image in training")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=-1, help="epochs of KL warm-up (a third of all, at most 100)")
    parser.add_argument("--patience", type=int, default=50, help="epochs without improvement before stopping")
    parser.add_argument("--importance-samples", type=int, default=500)
    parser.add_argument("--out", type=Path, help="folder of the run (runs/ and a name made of the options)")
    parser.add_argument("--accelerator", default="cpu", help="as Lightning Fabric names it: cpu, cuda, mps, auto")
    parser.add_argument("--devices", type=positive, default=1, help="processes on this machine, one device each")
    parser.add_argument("--threads", type=positive, default=1, help="of each process; one is enough for these nets")
    parser.add_argument("--no-progress", action="store_true")
    args = parser.parse_args(argv)
    try:
        names = {field.name for field in dataclasses.fields(Config)}
        options = {name: value for name, value in vars(args).items() if name in names}
        options["shells"] = models.parse_shells(args.shells)
        config = Config(**options)
        torch.set_num_threads(args.threads)
        # Read before the processes are started and anything is written, so that a bad file is one line.
        images = data.load(config.dataset, args.data_dir)
        fabric = make_fabric(args.accelerator, args.devices)
        out = args.out or config.folder()
        result = train(config, images, out, fabric=fabric, progress=not args.no_progress)
        if fabric.is_global_zero:
            print(f"{describe(result)}\nin {out}")
    except (data.DataError, TrainingError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
