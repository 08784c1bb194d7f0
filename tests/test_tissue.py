import numpy as np

from ctsr.hu import TISSUES, tissue_masks


def slabs(levels: list[float], width: int = 20) -> np.ndarray:
    return np.repeat(np.asarray(levels, dtype=float), width)[None].repeat(40, axis=0)


LEVELS = {"air": -1000.0, "lung": -850.0, "fat": -90.0, "soft": 50.0, "bone": 900.0, "metal": 2800.0}


def test_each_tissue_is_found_where_it_is_and_nowhere_else() -> None:
    masks = tissue_masks(slabs(list(LEVELS.values())))
    assert list(masks) == list(TISSUES)
    for place, name in enumerate(LEVELS):
        assert masks[name][:, 20 * place + 4 : 20 * place + 16].all()
    assert (sum(mask.astype(int) for mask in masks.values()) <= 1).all()


def test_the_edge_between_two_tissues_belongs_to_neither() -> None:
    masks = tissue_masks(slabs([-1000.0, 50.0]))
    assert not any(mask[:, 17:23].any() for mask in masks.values())


def test_pixels_are_not_chosen_by_their_noise() -> None:
    """Thresholds on the noisy image itself would leave out its extremes, and find a bias in a perfect image."""
    rng = np.random.default_rng(0)
    truth = np.full((200, 200), -45.0)  # near the upper end of fat, −30
    noisy = truth + rng.normal(0, 25, truth.shape)
    chosen = tissue_masks(noisy)["fat"]
    naive = (noisy >= TISSUES["fat"].low) & (noisy < TISSUES["fat"].high)
    bias, naive_bias = (float((truth - noisy)[mask].mean()) for mask in (chosen, naive))
    assert abs(naive_bias) > 10
    assert abs(bias) < 3
