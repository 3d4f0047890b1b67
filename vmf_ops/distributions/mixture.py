"""Mixtures of von Mises-Fisher laws, and their fit by expectation maximisation.

Banerjee, Dhillon, Ghosh, Sra: Clustering on the unit hypersphere using von Mises-Fisher distributions, Journal of
Machine Learning Research 6 (2005) 1345.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from .._arguments import check_last, sizes
from .._autograd import transformed
from .._normalize import normalized
from .._shells import capturing
from ..vmf import log_anchor, log_sphere_area, mean_length_slope, vmf_concentration, vmf_concentration_c
from .estimation import check_points, check_weights
from .spherical import validation
from .von_mises_fisher import VonMisesFisher

# Points from which the first means are drawn, and numbers of responsibilities made at a time.
_SEEDS, _AT_ONCE = 2**14, {"cpu": 2**19, "cuda": 2**25}

# Above the dispersion of draws of the laws, at most 1.3 where a fit has found them (tests/test_mixture.py), and below
# that of embeddings of sentences, 6.5 to 16 (benchmarks/clusters.py).
_OVERDISPERSED = 3.0


class FitReport(NamedTuple):
    """How a fit of a mixture went."""

    log_likelihood: float
    """mean log density of the points, weighted"""
    iterations: int
    converged: bool


def _plain(kappa: Tensor, m: int, dtype: torch.dtype) -> bool:
    """Whether κ μᵀz may be a product in that dtype: off by less than 2^-11, and 1 - R of the means by 2^-9 of it."""
    eps, largest = torch.finfo(dtype).eps, kappa.max().item()
    return largest * eps <= 2**-11 and 4 * largest * eps <= 2**-9 * (m - 1)


class VonMisesFisherMixture(MixtureSameFamily):
    """Mixture of K von Mises-Fisher laws on one sphere.

    Args:
        mixture_distribution: Categorical of the K weights.
        component_distribution: VonMisesFisher whose last batch dimension is K.

    `log_prob` is one matrix product where rounding of κ μᵀz is below 2^-11, and otherwise, or under torch.func and
    torch.compile, three in float64 that lose nothing. `fit` makes one from data.

    >>> import torch
    >>> from torch.nn.functional import normalize
    >>> z = normalize(torch.eye(3).repeat(40, 1) + 0.1 * torch.randn(120, 3), dim=-1)
    >>> mixture = VonMisesFisherMixture.fit(z, 3, restarts=5)
    >>> mixture.responsibilities(z).shape, mixture.sample((7,)).shape
    (torch.Size([120, 3]), torch.Size([7, 3]))
    """

    report: FitReport | None = None
    shared_concentration = False

    def __init__(self, mixture_distribution, component_distribution, validate_args=None):
        if not isinstance(component_distribution, VonMisesFisher):
            raise TypeError(
                f"component_distribution must be a VonMisesFisher, got {type(component_distribution).__name__}"
            )
        super().__init__(mixture_distribution, component_distribution, validate_args=validation(validate_args))

    @property
    def num_components(self) -> int:
        return self._num_component

    @property
    def num_parameters(self) -> int:
        """Free parameters of one mixture: weights, mean directions and concentrations."""
        k, m = self.num_components, self.event_shape[0]
        return k - 1 + k * (m - 1) + (1 if self.shared_concentration else k)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance or self._get_checked_instance(VonMisesFisherMixture))
        new.report, new.shared_concentration = self.report, self.shared_concentration
        return new

    def to(self, *args, **kwargs) -> "VonMisesFisherMixture":
        """The same mixture with its tensors moved or cast as by Tensor.to."""
        new = self.expand(self.batch_shape)
        logits = self.mixture_distribution.logits.to(*args, **kwargs)
        new._mixture_distribution = Categorical(logits=logits, validate_args=False)
        new._component_distribution = self.component_distribution.to(*args, **kwargs)
        return new

    def _log_joint(self, z: Tensor) -> Tensor:
        """log of weight times density, (..., K)."""
        if self._validate_args:
            self._validate_sample(z)
        law, m = self.component_distribution, self.event_shape[0]
        check_last("value", z, m)
        log_weights = torch.log_softmax(self.mixture_distribution.logits, -1)
        apart = transformed() or torch.compiler.is_compiling() or capturing()
        apart = apart or torch.is_grad_enabled() and law.loc.requires_grad
        if apart or self.batch_shape or z.dtype != law.loc.dtype or not _plain(law.concentration, m, z.dtype):
            return log_weights + law.log_prob(z.unsqueeze(-2))
        slope, bias = _as_product(law.loc, law.concentration, log_weights)
        return z @ slope.T + bias

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.logsumexp(self._log_joint(value), -1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """Probability of each component given the point, (..., K)."""
        return torch.softmax(self._log_joint(z), -1)

    def sample(self, sample_shape=(), *, generator=None) -> Tensor:
        """Draws of shape sample_shape + batch_shape + (m,), without a gradient."""
        with torch.no_grad():
            law = self.component_distribution
            shape = sizes(sample_shape) + self.batch_shape
            flat = self.mixture_distribution.probs.reshape(-1, self.num_components)
            count = math.prod(sample_shape)
            drawn = (
                torch.multinomial(flat, count, True, generator=generator)
                if count
                else flat.new_empty(len(flat), 0, dtype=torch.long)
            )
            which = drawn.T.reshape(shape)
            loc = law.loc.expand(shape + law.loc.shape[-2:])
            loc = loc.gather(-2, which[..., None, None].expand(*shape, 1, loc.shape[-1])).squeeze(-2)
            kappa = law.concentration.expand(shape + law.concentration.shape[-1:]).gather(-1, which[..., None])
            chosen = VonMisesFisher(loc, kappa.squeeze(-1), normalize=False, validate_args=False)
            return chosen.sample(generator=generator)

    @torch.no_grad()
    def dispersion(self, z: Tensor) -> Tensor:
        """How each component's points depart from its law, (K,): 1 where they follow it.

        The variance of the cosines with its mean direction, over A_m'(κ), the law's own, with κ from the mean of the
        cosines; each point of z (n, m) counts by its responsibility. NaN where all points of one are equal to rounding.
        """
        check_points(z, False)
        return _dispersion(self, [(z, None)])[1].to(z.dtype)

    def aic(self, z: Tensor) -> float:
        """Akaike's criterion 2 p - 2 log L of points z (n, m), p = num_parameters; smaller is better."""
        return 2 * self.num_parameters - 2 * self.log_prob(z).double().sum().item()

    def bic(self, z: Tensor) -> float:
        """Schwarz's criterion p log n - 2 log L of points z (n, m); smaller is better."""
        return self.num_parameters * math.log(len(z)) - 2 * self.log_prob(z).double().sum().item()

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        z: "Tensor | Iterable",
        num_components: int,
        *,
        weights: Tensor | None = None,
        init: "str | Tensor | VonMisesFisherMixture" = "k-means++",
        restarts: int = 1,
        max_iter: int = 100,
        tol: float = 1e-4,
        hard: bool = False,
        shared_concentration: bool | None = None,
        max_concentration: float = 1e6,
        normalize: bool = False,
        generator: torch.Generator | None = None,
        progress: bool | None = None,
    ) -> "VonMisesFisherMixture":
        """Maximum likelihood of weights, mean directions and concentrations by expectation maximisation.

        Args:
            z: unit vectors (n, m) in memory; or, for data that outgrow it, anything that can be iterated again and
                again for minibatches, tensors (b, m) or pairs of them and their weights (b,): a DataLoader, a list of
                files' readers. Each iteration is one pass, and exact: sums are kept, not points.
            weights: (n,), nonnegative; how often each point counts.
            init: "k-means++" (on the sphere, from at most 16384 of the points), "random" points, mean directions
                (K, m), or a mixture to go on from.
            restarts: fits from as many starts, of which the most likely is returned.
            max_iter, tol: ends when the mean log-likelihood of an iteration rises by less than tol.
            hard: give each point to its likeliest component alone (classification EM).
            shared_concentration: one κ for all components, as suits clustering: what separates k-means' clusters is one
                κ too. False: each has its own, whose height then draws or repels points. None, the default: own ones,
                and where the `dispersion` of most points' components is above 3, which says that they are not von
                Mises-Fisher laws, a second fit with one κ; `shared_concentration` of the result says which.
            max_concentration: a bound of κ, without which a component on one point, or copies of it, is infinitely
                likely and swallows the fit.
            normalize: divide the points by their lengths.
            generator: for the start; default torch's own.
            progress: show a bar (needs tqdm); None shows one where a fit takes more than five seconds on a terminal.

        A component that loses its points starts anew from the point that the mixture explains worst. Fewer points, or
        fewer different ones, than components raise ValueError, as do points that are no unit vectors. The result has
        z's dtype; `report` tells its log-likelihood, iterations and whether they converged.
        """
        if not isinstance(num_components, int) or num_components < 1:
            raise ValueError(f"num_components must be an integer of at least 1, got {num_components!r}")
        if restarts < 1 or max_iter < 1 or not tol >= 0 or not max_concentration > 0:
            raise ValueError(
                "restarts and max_iter must be at least 1, tol at least 0 and max_concentration above 0, got "
                f"{restarts}, {max_iter}, {tol} and {max_concentration}"
            )
        data = _Data(z, weights, normalize, num_components)
        rule = _Rule(hard, bool(shared_concentration), float(max_concentration), max_iter, tol)

        def likeliest(rule: _Rule) -> "VonMisesFisherMixture":
            best = None
            with _Bar(progress, restarts * max_iter) as bar:
                for _ in range(restarts):
                    start = _start(data, num_components, init, generator)
                    found, report = _expectation_maximisation(data, rule, start, bar)
                    if best is None or report.log_likelihood > best[1].log_likelihood:
                        best = found, report
            (log_weights, loc, kappa), report = best
            law = VonMisesFisher(loc, kappa, normalize=False, validate_args=False)
            mixture = cls(Categorical(logits=log_weights, validate_args=False), law, validate_args=False)
            mixture.report, mixture.shared_concentration = report, rule.shared
            return mixture

        mixture = likeliest(rule)
        if shared_concentration is None and num_components > 1:
            mass, dispersion = _dispersion(mixture.to(data.computed), data)
            if _median(dispersion, mass) > _OVERDISPERSED:
                mixture = likeliest(rule._replace(shared=True))
        mixture = mixture.to(data.dtype)
        mixture._validate_args = torch.distributions.Distribution._validate_args
        return mixture


class _Rule(NamedTuple):
    hard: bool
    shared: bool
    bound: float
    max_iter: int
    tol: float


class _Data:
    """The points in minibatches of their dtype (float32 for half), checked as they pass for the first time."""

    def __init__(self, z, weights, normalize: bool, num_components: int):
        self._normalize, self._checked = normalize, False
        if isinstance(z, Tensor):
            check_points(z[:1] if z.dim() == 2 and len(z) else z, normalize)
            if z.dim() != 2:
                raise ValueError(f"z must have shape (n, m), got {tuple(z.shape)}")
            rows = max(1024, _AT_ONCE.get(z.device.type, 2**22) // num_components)
            weights = None if weights is None else check_weights(weights, z)
            parts = [None] * -(-len(z) // rows) if weights is None else weights.split(rows)
            self._batches = list(zip(z.split(rows), parts, strict=True))
        elif weights is not None:
            raise ValueError("weights of minibatches come with them, as pairs (z, weights)")
        elif iter(z) is z:
            raise TypeError("z must be a tensor or iterable again and again, as a list or a DataLoader is")
        else:
            self._batches = z
        self.size, self.mass, m, dtype, device = 0, 0.0, None, None, None
        for points, part in self:
            m, dtype, device = points.shape[-1], points.dtype, points.device
            self.size += len(points)
            self.mass += len(points) if part is None else part.sum().item()
        self.m, self.device, self._checked = m, device, True
        if self.size < num_components:
            raise ValueError(f"{self.size} points are fewer than {num_components} components")
        if not self.mass > 0:
            raise ValueError("the weights of all points are 0")
        self.computed, self.dtype = dtype, dtype if not isinstance(z, Tensor) else z.dtype

    def __iter__(self):
        for batch in self._batches:
            points, weights = batch if isinstance(batch, (tuple, list)) else (batch, None)
            if not self._checked:
                check_points(points, self._normalize)
                weights = None if weights is None else check_weights(weights, points)
            if points.dtype in (torch.float16, torch.bfloat16):
                points = points.float()
            if self._normalize:
                points = normalized(points, points.shape[-1:])
            yield points, None if weights is None else weights.to(points.dtype)

    def some(self, generator) -> Tensor:
        """At most _SEEDS points of positive weight, each subset as likely."""
        keys = torch.empty(0)
        rows = torch.empty(0, self.m, dtype=self.computed, device=self.device)
        for points, weights in self:
            if weights is not None:
                points = points[weights > 0]
            fresh = _uniform(len(points), generator)
            keys = torch.cat([keys, fresh])
            kept = keys.topk(min(_SEEDS, len(keys))).indices
            rows, keys = torch.cat([rows, points])[kept.to(rows.device)], keys[kept]
        return rows


def _uniform(n: int, generator) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.rand(n, generator=generator, device=device).cpu()


def _as_product(loc: Tensor, kappa: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """The factor and the summand that take zᵀ to log of weight times density."""
    m, wide = loc.shape[-1], kappa.double()
    anchor = log_anchor(m, wide) - torch.where(wide <= 0.5 * m, 0.0, wide) - log_sphere_area(m)
    return (wide.unsqueeze(-1) * loc).to(loc.dtype), (log_weights.double() + anchor).to(loc.dtype)


# ---- The start ----


def _start(data: _Data, k: int, init, generator):
    """log weights, mean directions (K, m) and concentrations (K,) in float64."""
    if isinstance(init, VonMisesFisherMixture):
        law = init.component_distribution
        if law.loc.shape != (k, data.m):
            raise ValueError(f"init must have {k} components in R^{data.m}, got {tuple(law.loc.shape)}")
        return (
            torch.log_softmax(init.mixture_distribution.logits.double(), -1),
            law.loc.double(),
            (law.concentration.double()),
        )
    if isinstance(init, Tensor):
        if init.shape != (k, data.m):
            raise ValueError(f"init must have shape ({k}, {data.m}), got {tuple(init.shape)}")
        return _from_means(data, normalized(init.to(data.device, data.computed), (data.m,)))
    points = data.some(generator)
    if len(points) < k:
        raise ValueError(f"{len(points)} points of positive weight are fewer than {k} components")
    if init == "random":
        return _from_means(data, points[:k])
    if init != "k-means++":
        raise ValueError(f'init must be "k-means++", "random", mean directions or a mixture, got {init!r}')
    # Each next mean is a point drawn by its squared distance to the nearest one (Arthur and Vassilvitskii 2007).
    means, nearest = points[:1], torch.full((len(points),), math.inf, device=points.device)
    for found in range(1, k):
        nearest = torch.minimum(nearest, (points - means[-1]).square().sum(-1))
        far = nearest.double().cumsum(0)
        if not far[-1] > 0:
            raise ValueError(f"only {found} different points for {k} components")
        at = torch.searchsorted(far, _uniform(1, generator).to(far) * far[-1], right=True)
        means = torch.cat([means, points[at.clamp_max(len(points) - 1)]])
    return _from_means(data, means)


def _from_means(data: _Data, means: Tensor):
    """Each point to its nearest mean; the concentration of all together for every component."""
    k = len(means)
    sums, mass = torch.zeros_like(means), means.new_zeros(k)
    for points, weights in data:
        nearest = (points @ means.T).argmax(-1)
        ones = points.new_ones(len(points)) if weights is None else weights
        sums.index_add_(0, nearest, points if weights is None else weights.unsqueeze(-1) * points)
        mass.index_add_(0, nearest, ones)
    lengths = torch.linalg.vector_norm(sums.double(), dim=-1)
    loc = torch.where(lengths.unsqueeze(-1) > 0, sums.double() / lengths.unsqueeze(-1), means.double())
    # 1 - R to float32's rounding, at least: the first iteration sharpens it.
    length = (lengths.sum() / mass.double().sum()).clamp_max(1 - 1e-6)
    kappa = vmf_concentration(data.m, length).expand(k)
    share = (mass.double() + 1) / (mass.double().sum() + k)
    return share.log(), loc, kappa


# ---- Expectation and maximisation ----


class _Sums(NamedTuple):
    """Of one pass: of responsibilities and of them times points, the log-likelihood, and the points explained worst."""

    mass: Tensor
    points: Tensor
    log_likelihood: float
    worst: Tensor


def _expectation_maximisation(data: _Data, rule: _Rule, parameters, bar):
    before, converged, iteration = -math.inf, False, 0
    while iteration < rule.max_iter and not converged:
        iteration += 1
        sums = _pass(data, rule, parameters)
        bar.step(sums.log_likelihood)
        last, parameters = parameters, _maximise(data, rule, sums, parameters)
        reseeded = bool((sums.mass <= _empty(data)).any())
        converged = abs(sums.log_likelihood - before) < rule.tol and not reseeded
        before = sums.log_likelihood
    if converged:  # the parameters that were measured
        return last, FitReport(sums.log_likelihood, iteration, True)
    return parameters, FitReport(_pass(data, rule, parameters).log_likelihood, iteration, False)


def _empty(data: _Data) -> float:
    return 1e-6 * data.mass / data.size


def _pass(data: _Data, rule: _Rule, parameters) -> _Sums:
    log_weights, loc, kappa = parameters
    k, exact = len(kappa), not _plain(kappa, data.m, data.computed)
    if exact:
        law = VonMisesFisher(loc, kappa, normalize=False, validate_args=False)
    else:
        slope, bias = (t.to(data.computed) for t in _as_product(loc, kappa, log_weights))
    mass, sums, total = loc.new_zeros(k), torch.zeros_like(loc), 0.0
    worst_scores, worst = loc.new_empty(0), loc.new_empty(0, data.m)
    for points, weights in data:
        if exact:  # of length 1 to float64's rounding, which 1 - R feels
            points = normalized(points.double(), (data.m,))
            weights = None if weights is None else weights.double()
            joint = log_weights + law.log_prob(points.unsqueeze(-2))
        else:
            joint = torch.addmm(bias, points, slope.T)
        top = joint.amax(-1, keepdim=True)
        if rule.hard:
            scores = top.squeeze(-1)
            joint = torch.zeros_like(joint).scatter_(-1, joint.argmax(-1, keepdim=True), 1.0)
            if weights is not None:
                joint.mul_(weights.unsqueeze(-1))
        else:
            joint = joint.sub_(top).exp_()
            share = joint.sum(-1, keepdim=True)
            scores = (top + share.log()).squeeze(-1)
            share = share.reciprocal_() if weights is None else weights.unsqueeze(-1) / share
            joint.mul_(share)
        mass += joint.sum(0)
        sums += joint.T @ points
        total += (scores if weights is None else scores * weights).sum(dtype=torch.float64).item()
        if weights is not None:
            scores = torch.where(weights > 0, scores, math.inf)
        low = scores.topk(min(k, 16, len(scores)), largest=False)
        worst_scores = torch.cat([worst_scores, low.values])
        kept = worst_scores.topk(min(k, 16, len(worst_scores)), largest=False, sorted=True).indices
        worst = torch.cat([worst, points[low.indices].double()])[kept]
        worst_scores = worst_scores[kept]
    return _Sums(mass, sums, total / data.mass, worst)


def _maximise(data: _Data, rule: _Rule, sums: _Sums, parameters):
    lengths = torch.linalg.vector_norm(sums.points, dim=-1)
    loc = torch.where(lengths.unsqueeze(-1) > 0, sums.points / lengths.unsqueeze(-1), parameters[1])
    if rule.shared:
        length = (lengths.sum() / sums.mass.sum()).expand(len(lengths))
    else:
        length = lengths / torch.where(sums.mass > 0, sums.mass, 1)
    kappa = vmf_concentration(data.m, length.clamp(0, 1)).clamp_max(rule.bound)
    mass, empty = sums.mass, sums.mass <= _empty(data)
    if empty.any():
        at = empty.nonzero().squeeze(-1)[: len(sums.worst)]
        loc[at] = sums.worst[: len(at)]
        kappa = kappa.clone()
        kappa[empty] = kappa[~empty].median()
        mass = torch.where(empty, data.mass / data.size, mass)
    return (mass / mass.sum()).log(), loc, kappa


# ---- Whether the components are laws of their kind ----


def _dispersion(mixture: VonMisesFisherMixture, batches) -> tuple[Tensor, Tensor]:
    """Of each component its mass, and the variance of its points' cosines over that of its law's."""
    law = mixture.component_distribution
    m, loc = law.event_shape[0], law.loc.double()
    mass, first, second = (loc.new_zeros(len(loc)) for _ in range(3))
    for z, weights in batches:
        share = mixture.responsibilities(z).double()
        share = share if weights is None else share * weights.unsqueeze(-1)
        complement = 1 - z.double() @ loc.T
        mass += share.sum(0)
        first += (share * complement).sum(0)
        second += (share * complement.square()).sum(0)
    mean = first / mass
    model = mean_length_slope(m, vmf_concentration_c(m, mean))
    one_point = mean <= 4 * torch.finfo(z.dtype).eps
    return mass, torch.where(one_point, torch.nan, (second / mass - mean.square()) / model)


def _median(values: Tensor, mass: Tensor) -> float:
    """The value that half of the mass lies below; 0 in the place of NaN."""
    values, order = values.nan_to_num(0.0).sort()
    below = mass[order].cumsum(0)
    return values[(below < 0.5 * below[-1]).sum()].item()


class _Bar:
    """A progress bar of iterations; without tqdm, or unwanted, nothing."""

    def __init__(self, progress: bool | None, total: int):
        self._bar = None
        if progress is False:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            if progress:
                raise ImportError("progress=True needs tqdm: pip install tqdm") from None
            return
        shown = {"disable": False} if progress else {"disable": None, "delay": 5}
        self._bar = tqdm(total=total, desc="EM", unit="iteration", leave=False, **shown)

    def __enter__(self):
        return self

    def step(self, log_likelihood: float):
        if self._bar is not None:
            self._bar.set_postfix_str(f"log-likelihood {log_likelihood:.6g}", refresh=False)
            self._bar.update()

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.close()
