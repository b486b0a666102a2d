"""Latent statistics of an autoencoder's training examples, and distances from them.

Each site sends the number of its training examples and the sums of their latent values, of the products of these, and
of their reconstruction errors. The server adds them, and all sites use the same mean and covariance. No row leaves a
site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.arrays import pack_arrays, unpack_arrays

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.float64]]


def compute_latent_moments(latent: npt.ArrayLike, errors: npt.ArrayLike) -> Arrays:
    """Return a site's sums over latent values `(examples, latent)` and reconstruction errors `(examples,)`."""
    z = np.asarray(latent, dtype=np.float64)
    count, error = np.full(1, float(len(z))), np.full(1, float(np.sum(np.asarray(errors, dtype=np.float64))))
    return {"count": count, "total": z.sum(0), "product": z.T @ z, "error": error}


def latent_moment_shapes(latent: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of `compute_latent_moments`."""
    return {"count": (1,), "total": (latent,), "product": (latent, latent), "error": (1,)}


@dataclass(frozen=True)
class LatentStatistics:
    """Distribution of the training examples' latent values.

    Attributes:
        mean: `(latent,)`.
        covariance: `(latent, latent)`, shrunk towards a multiple of the identity.
        error: mean reconstruction error of the training examples.
    """

    mean: Floats
    covariance: Floats
    error: float

    @classmethod
    def from_moments(cls, merged: Arrays) -> LatentStatistics:
        """Return the statistics of merged moments, with a shrunk covariance.

        Oracle approximating shrinkage, which needs only the covariance and the number of examples: Chen, Wiesel, Eldar
        and Hero 2010, IEEE Trans Signal Process 58(10):5016-5029, as scikit-learn computes it.
        """
        count = float(merged["count"][0])
        mean = merged["total"] / count
        plain = merged["product"] / count - np.outer(mean, mean)
        width = len(mean)
        level = max(float(np.trace(plain)) / width, 1e-12)
        alpha = float((plain**2).mean())
        denominator = (count + 1) * (alpha - level**2 / width)
        share = 1.0 if denominator <= 0 else min((alpha + level**2) / denominator, 1.0)
        covariance = (1 - share) * plain + (share * level + 1e-9 * level) * np.eye(width)
        return cls(mean, covariance, float(merged["error"][0]) / count)

    def distance(self, latent: npt.ArrayLike) -> Floats:
        """Return squared Mahalanobis distances `(examples,)`, divided by the number of latent values."""
        offset = np.asarray(latent, dtype=np.float64) - self.mean
        whitened = np.linalg.solve(np.linalg.cholesky(self.covariance), offset.T)
        return np.asarray((whitened**2).sum(0) / len(self.mean), dtype=np.float64)

    def plane(self, latent: npt.ArrayLike) -> Floats:
        """Return coordinates `(examples, 2)` along the two directions of most variance, in standard deviations.

        Signs make the largest component of each direction positive. With one latent value the second column is 0.
        """
        values, vectors = np.linalg.eigh(self.covariance)
        axes = vectors[:, ::-1][:, :2]
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        spread = np.sqrt(np.maximum(values[::-1][:2], 1e-12))
        points = (np.asarray(latent, dtype=np.float64) - self.mean) @ axes / spread
        return points if points.shape[1] == 2 else np.column_stack([points, np.zeros(len(points))])

    def to_bytes(self) -> bytes:
        """Return the statistics as they cross the wire and are stored in the run's folder."""
        return pack_arrays({"mean": self.mean, "covariance": self.covariance, "error": np.asarray([self.error])})

    @classmethod
    def from_bytes(cls, raw: bytes) -> LatentStatistics:
        """Return the statistics that `to_bytes` wrote.

        Raises:
            ValueError: the content is something else.
        """
        arrays = unpack_arrays(raw, ("mean", "covariance", "error"), "latent statistics")
        if arrays["error"].size != 1:
            raise ValueError("the received latent statistics cannot be read")
        return cls(arrays["mean"], arrays["covariance"], float(arrays["error"].item()))
