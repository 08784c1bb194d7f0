import numpy as np

from ctsr.viewer.images import SliceCache


def image(kib: int) -> np.ndarray:
    return np.zeros(256 * kib, dtype=np.float32)


def test_the_slice_that_was_not_used_for_longest_goes_first() -> None:
    cache = SliceCache(3 * 1024)
    for key in "abc":
        cache.put(key, image(1))
    cache.get("a")
    cache.put("d", image(1))
    assert [key for key in "abcd" if cache.has(key)] == ["a", "c", "d"]


def test_memory_never_exceeds_the_limit() -> None:
    cache = SliceCache(10 * 1024)
    for key in range(100):
        cache.put(key % 13, image(1 + key % 4))
        assert cache.used <= 10 * 1024
    assert cache.used == sum(found.nbytes for key in range(13) if (found := cache.get(key)) is not None)


def test_one_slice_that_is_too_large_is_kept_alone() -> None:
    cache = SliceCache(1024)
    cache.put("small", image(1))
    cache.put("large", image(4))
    assert cache.has("large")
    assert not cache.has("small")


def test_room_is_told_without_giving_anything_up() -> None:
    cache = SliceCache(2048)
    cache.put("a", image(1))
    assert cache.fits(1024)
    assert not cache.fits(1025)
