"""Latent statistics from merged sums, against those of all examples together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import OAS
from sklearn.decomposition import PCA

from common import latent, scaling
from common.latent import LatentStatistics


def drawn(n: int, wide: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(wide, wide))
    return rng.normal(size=(n, wide)) @ mix + 3.0, rng.gamma(2.0, size=n)


@pytest.mark.parametrize(("n", "wide"), [(7, 4), (300, 4), (3, 6), (50, 1)])
def test_merged_sums_give_what_all_examples_together_give(n: int, wide: int) -> None:
    z, errors = drawn(n, wide)
    cuts = [0, n // 3, n // 2, n]
    parts = [latent.compute_latent_moments(z[a:b], errors[a:b]) for a, b in pairwise(cuts)]
    assert {name: value.shape for name, value in parts[0].items()} == latent.latent_moment_shapes(wide)
    result = LatentStatistics.from_moments(scaling.add_statistics(parts))
    expected = OAS().fit(z)
    np.testing.assert_allclose(result.mean, expected.location_, rtol=1e-9)
    np.testing.assert_allclose(result.covariance, expected.covariance_, rtol=1e-6, atol=1e-9)
    assert result.error == pytest.approx(errors.mean())
    inverse = np.linalg.inv(result.covariance)
    slow = [mahalanobis(row, result.mean, inverse) ** 2 / wide for row in z]
    np.testing.assert_allclose(result.distance(z), slow, rtol=1e-6)


def test_the_plane_is_that_of_principal_components() -> None:
    z, errors = drawn(5000, 5)
    result = LatentStatistics.from_moments(latent.compute_latent_moments(z, errors)).plane(z)
    expected = PCA(2).fit_transform(z)
    for axis in range(2):
        assert abs(np.corrcoef(result[:, axis], expected[:, axis])[0, 1]) == pytest.approx(1.0, abs=1e-6)
        assert result[:, axis].std() == pytest.approx(1.0, abs=0.02)
    again = LatentStatistics.from_bytes(
        LatentStatistics.from_moments(latent.compute_latent_moments(z, errors)).to_bytes()
    )
    np.testing.assert_array_equal(again.plane(z), result)
    assert LatentStatistics.from_moments(latent.compute_latent_moments(z[:, :1], errors)).plane(z[:, :1]).shape == (
        5000,
        2,
    )


@pytest.mark.parametrize("n", [1, 2])
def test_examples_that_are_all_alike_give_finite_distances(n: int) -> None:
    result = LatentStatistics.from_moments(latent.compute_latent_moments(np.ones((n, 3)), np.zeros(n)))
    assert np.isfinite(result.distance(np.asarray([[1.0, 1, 1], [2, 1, 1]]))).all()
    assert np.isfinite(result.plane(np.ones((2, 3)))).all()


def test_other_content_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        LatentStatistics.from_bytes(b"other")
