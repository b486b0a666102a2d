"""Where training examples lie in a model's latent space, from sums that sites send; how far from them another lies.

Each site sends the number of its training examples, the sum of their latent values, of the products of these, and of
their reconstruction errors. The server adds; everyone uses the same mean and covariance. No row leaves a site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.float64]]


def compute_latent_moments(latent: npt.ArrayLike, errors: npt.ArrayLike) -> Arrays:
    """Return what a site sends of `(examples, latent)` values and `(examples,)` reconstruction errors."""
    z = np.asarray(latent, dtype=np.float64)
    count, error = np.full(1, float(len(z))), np.full(1, float(np.sum(np.asarray(errors, dtype=np.float64))))
    return {"count": count, "total": z.sum(0), "product": z.T @ z, "error": error}


def latent_moment_shapes(latent: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of `moments`."""
    return {"count": (1,), "total": (latent,), "product": (latent, latent), "error": (1,)}


@dataclass(frozen=True)
class LatentStatistics:
    """Mean `(latent,)` and covariance `(latent, latent)` of training examples, and their mean reconstruction error."""

    mean: Floats
    covariance: Floats
    error: float

    @classmethod
    def of(cls, merged: Arrays) -> LatentStatistics:
        """Return what merged moments say; the covariance is shrunk towards a sphere.

        Oracle approximating shrinkage, which needs nothing but the covariance and the number of examples: Chen,
        Wiesel, Eldar, Hero 2010, IEEE Trans Signal Process 58(10):5016-5029, as scikit-learn computes it.
        """
        count = float(merged["count"][0])
        mean = merged["total"] / count
        plain = merged["product"] / count - np.outer(mean, mean)
        wide = len(mean)
        level = max(float(np.trace(plain)) / wide, 1e-12)
        alpha = float((plain**2).mean())
        below = (count + 1) * (alpha - level**2 / wide)
        share = 1.0 if below <= 0 else min((alpha + level**2) / below, 1.0)
        covariance = (1 - share) * plain + (share * level + 1e-9 * level) * np.eye(wide)
        return cls(mean, covariance, float(merged["error"][0]) / count)

    def distance(self, latent: npt.ArrayLike) -> Floats:
        """Return squared Mahalanobis distances `(examples,)`, divided by the number of latent values."""
        apart = np.asarray(latent, dtype=np.float64) - self.mean
        found = np.linalg.solve(np.linalg.cholesky(self.covariance), apart.T)
        return np.asarray((found**2).sum(0) / len(self.mean), dtype=np.float64)

    def plane(self, latent: npt.ArrayLike) -> Floats:
        """Return `(examples, 2)`: along the two directions of most variance, in standard deviations.

        A direction's sign is that which makes its largest part positive. With one latent value the second is 0.
        """
        values, vectors = np.linalg.eigh(self.covariance)
        axes = vectors[:, ::-1][:, :2]
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        spread = np.sqrt(np.maximum(values[::-1][:2], 1e-12))
        found = (np.asarray(latent, dtype=np.float64) - self.mean) @ axes / spread
        return found if found.shape[1] == 2 else np.column_stack([found, np.zeros(len(found))])

    def to_bytes(self) -> bytes:
        """Return the form that crosses the wire and lies in the run's folder."""
        from safetensors.numpy import save

        return save({"mean": self.mean, "covariance": self.covariance, "error": np.asarray([self.error])})

    @classmethod
    def from_bytes(cls, raw: bytes) -> LatentStatistics:
        """Read what `to_bytes` gave.

        Raises:
            ValueError: it is something else.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found = load(raw)
            return cls(found["mean"], found["covariance"], float(found["error"][0]))
        except (SafetensorError, KeyError, IndexError):
            raise ValueError("the latent statistics that came cannot be read") from None
