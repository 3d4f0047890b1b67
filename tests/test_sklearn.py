"""The estimator under scikit-learn's own checks; skipped where scikit-learn is not installed."""

import doctest

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import vmf_ops.sklearn  # noqa: E402
from vmf_ops.sklearn import VonMisesFisherMixture  # noqa: E402


@parametrize_with_checks([VonMisesFisherMixture(n_components=2, n_init=2)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def clusters(n=300, seed=0):
    rng = np.random.default_rng(seed)
    means, labels = np.eye(4)[:3], rng.integers(0, 3, n)
    return means[labels] * 5 + rng.normal(size=(n, 4)), labels


def test_clusters_are_found_and_repeat():
    X, labels = clusters()
    model = VonMisesFisherMixture(3, n_init=3, random_state=0)
    found = model.fit_predict(X)
    assert all((found[labels == k] == np.bincount(found[labels == k]).argmax()).mean() > 0.97 for k in range(3))
    again = clone(model).fit(X)
    np.testing.assert_array_equal(model.means_, again.means_)
    assert model.converged_ and model.n_iter_ < 100
    np.testing.assert_allclose(model.predict_proba(X).sum(-1), 1)
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    assert model.score(X) == pytest.approx(model.lower_bound_, rel=1e-9)
    assert model.score_samples(X).shape == (300,)
    z, which = model.sample(50)
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1)
    assert which.shape == (50,)
    assert model.bic(X) < VonMisesFisherMixture(1).fit(X).bic(X) and model.aic(X) < model.bic(X)
    tied = VonMisesFisherMixture(3, concentration_type="tied", random_state=0).fit(X)
    assert np.ptp(tied.concentrations_) == 0
    make_pipeline(FunctionTransformer(), model).fit(X).predict(X)


def test_a_row_of_length_zero_does_not_count():
    X, _ = clusters(60)
    with_zero = np.insert(X, 3, 0, axis=0)
    start = {"means_init": np.eye(4)[:2], "tol": 1e-12, "max_iter": 500}
    model, without = VonMisesFisherMixture(2, **start).fit(with_zero), VonMisesFisherMixture(2, **start).fit(X)
    np.testing.assert_allclose(model.means_, without.means_, atol=1e-8)
    np.testing.assert_allclose(model.predict_proba(with_zero)[3], model.weights_)
    assert np.isnan(model.score_samples(with_zero)).nonzero()[0].tolist() == [3]


def test_bad_parameters_are_refused():
    X, _ = clusters(10)
    with pytest.raises(ValueError, match="concentration_type"):
        VonMisesFisherMixture(2, concentration_type="diag").fit(X[:3])
    with pytest.raises(ValueError, match="n_samples"):
        VonMisesFisherMixture(2).fit(X[:3]).sample(0)


def test_examples_in_the_documentation():
    results = doctest.testmod(vmf_ops.sklearn)
    assert results.attempted > 0 and results.failed == 0
