"""White Gaussian noise as a function of (seed, row, column): any crop of a field is that crop, whoever asks."""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

__all__ = ["standard_normal"]

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


def standard_normal(seed: int, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> npt.NDArray[np.float32]:
    """The pixels ``origin … origin + shape`` (row, column) of the noise field that belongs to `seed`.

    A counter-based generator: pixel (r, c) of a field is output number r·2³² + c of SplitMix64 (Steele, Lea
    and Flood, OOPSLA 2014), mapped to a normal deviate by the inverse distribution function. Both act on one
    pixel at a time, so neither the crop, the batch nor the number of threads can change a bit of it.

    Returns:
        ``shape``, float32, mean 0 and standard deviation 1.
    """
    (rows, columns), (top, left) = shape, origin
    row = np.arange(top, top + rows, dtype=np.uint64)[:, None] << np.uint64(32)
    counter = row + np.arange(left, left + columns, dtype=np.uint64)
    # Two fields must not be shifts of one another: the seed is mixed before the counter is added to it.
    start = _mix(np.array([seed], dtype=np.uint64) * GAMMA)
    word = _mix(start + (counter + np.uint64(1)) * GAMMA)
    uniform = ((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(ndtri(uniform), dtype=np.float32)


def _mix(word: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function: a bijection of 64-bit words in which every bit depends on every other."""
    word = (word ^ (word >> np.uint64(30))) * MIX_1
    word = (word ^ (word >> np.uint64(27))) * MIX_2
    return word ^ (word >> np.uint64(31))
