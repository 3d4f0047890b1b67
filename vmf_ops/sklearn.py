"""The mixture of von Mises-Fisher laws as a scikit-learn estimator (pip install vmf_ops[sklearn])."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.distributions import transform_to

from . import distributions as laws

__all__ = ["VonMisesFisherMixture"]


class VonMisesFisherMixture(ClusterMixin, DensityMixin, BaseEstimator):
    """Clusters rows by direction: each is divided by its length, and the mixture is fitted by expectation maximisation.

    Parameters as sklearn.mixture.GaussianMixture has them: `n_components`, `tol`, `max_iter`, `n_init`, `init_params`
    ("k-means++" or "random"), `means_init` (n_components, n_features), `random_state`, `verbose` (a progress bar); and
    `concentration_type` ("full", one per component, "tied", one for all, or "auto", which decides by the data), `hard`,
    `max_concentration` and `device` as vmf_ops.distributions.VonMisesFisherMixture.fit has them.

    Attributes: `weights_`, `means_` (unit vectors), `concentrations_`, `labels_`, `converged_`, `n_iter_`,
    `lower_bound_` (mean log density of the training points), `mixture_` (the torch law).

    A row of length 0 has no direction: it does not count in the fit, its probabilities are the weights, its density is
    NaN. Fewer than two features raise ValueError. float32 rows are computed in float32.

    >>> X = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    >>> VonMisesFisherMixture(3, random_state=0).fit(X).predict_proba(X[:2]).shape
    (2, 3)
    """

    def __init__(
        self,
        n_components=1,
        *,
        concentration_type="auto",
        tol=1e-4,
        max_iter=100,
        n_init=1,
        init_params="k-means++",
        means_init=None,
        hard=False,
        max_concentration=1e6,
        random_state=None,
        verbose=0,
        device=None,
    ):
        self.n_components = n_components
        self.concentration_type = concentration_type
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.means_init = means_init
        self.hard = hard
        self.max_concentration = max_concentration
        self.random_state = random_state
        self.verbose = verbose
        self.device = device

    def _directions(self, X, reset: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows' directions, and which rows have one."""
        X = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_features=2 if reset else 1)
        lengths = np.abs(X).max(-1)
        z = torch.from_numpy(X / np.where(lengths > 0, lengths, 1)[:, None]).to(self.device)
        z = transform_to(laws.unit_vector)(z)
        return z, torch.from_numpy(lengths > 0).to(self.device)

    def fit(self, X, y=None):
        """Fits the mixture to the directions of the rows of X (n, m). Weights: vmf_ops.distributions has them."""
        types = {"full": False, "tied": True, "auto": None}
        if self.concentration_type not in types:
            raise ValueError(f'concentration_type must be "full", "tied" or "auto", got {self.concentration_type!r}')
        z, known = self._directions(X, reset=True)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        mixture = laws.VonMisesFisherMixture.fit(
            z,
            self.n_components,
            weights=None if known.all() else known.double(),
            init=self.init_params if self.means_init is None else torch.as_tensor(np.asarray(self.means_init)),
            restarts=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            hard=self.hard,
            shared_concentration=types[self.concentration_type],
            max_concentration=self.max_concentration,
            generator=torch.Generator().manual_seed(seed),
            progress=bool(self.verbose),
        )
        law = mixture.component_distribution
        self.mixture_ = mixture
        self.weights_ = mixture.mixture_distribution.probs.numpy(force=True)
        self.means_ = law.loc.numpy(force=True)
        self.concentrations_ = law.concentration.numpy(force=True)
        self.lower_bound_, self.n_iter_, self.converged_ = mixture.report
        self.labels_ = self._probabilities(z, known).argmax(-1).numpy(force=True)
        return self

    def _fitted(self, X) -> tuple[torch.Tensor, torch.Tensor]:
        check_is_fitted(self)
        z, known = self._directions(X, reset=False)
        return z.to(self.mixture_.component_distribution.loc.dtype), known

    def _probabilities(self, z, known) -> torch.Tensor:
        weights = self.mixture_.mixture_distribution.probs
        return torch.where(known.unsqueeze(-1), self.mixture_.responsibilities(z), weights)

    def predict_proba(self, X):
        """Probability of each component, (n, n_components)."""
        return self._probabilities(*self._fitted(X)).numpy(force=True)

    def predict(self, X):
        """The likeliest component of each row."""
        return self.predict_proba(X).argmax(-1)

    def score_samples(self, X):
        """Log density of each row's direction; NaN for a row of length 0."""
        z, known = self._fitted(X)
        return torch.where(known, self.mixture_.log_prob(z), torch.nan).numpy(force=True)

    def score(self, X, y=None):
        """Mean log density of the rows' directions."""
        return float(self.score_samples(X).mean(dtype=np.float64))

    def sample(self, n_samples=1):
        """n_samples directions drawn from the mixture, and their components' shape as GaussianMixture has it."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        z = self.mixture_.sample((n_samples,), generator=torch.Generator(self.device or "cpu").manual_seed(seed))
        return z.numpy(force=True), self.mixture_.responsibilities(z).argmax(-1).numpy(force=True)

    def aic(self, X):
        """Akaike's criterion; smaller is better."""
        return self.mixture_.aic(self._fitted(X)[0])

    def bic(self, X):
        """Schwarz's criterion; smaller is better."""
        return self.mixture_.bic(self._fitted(X)[0])
