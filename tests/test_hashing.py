"""Seeds and digests: functions of the names they are made from, and of nothing else."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctsr.hashing import rng_from, seed_from

PARTS = st.lists(st.text(max_size=4) | st.integers(), max_size=4)


def test_a_seed_is_the_same_for_ever() -> None:
    """Another value here would make every degradation and every noise field of earlier results another."""
    assert seed_from("anna", "1.2.3", 42) == 6103548168691334853


def test_a_seed_is_the_same_in_another_process() -> None:
    program = "from ctsr.hashing import seed_from; print(seed_from('anna', 7))"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(there) == seed_from("anna", 7)


@given(PARTS, PARTS)
def test_other_parts_give_another_seed(one: list[str | int], other: list[str | int]) -> None:
    assert (seed_from(*one) == seed_from(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "bc"), ("ab", "c")), ((1,), ("1",)), (("a",), ("a", "")), ((1, 2), (2, 1))]
)
def test_type_place_and_boundaries_of_parts_count(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert seed_from(*one) != seed_from(*other)


@given(PARTS, st.integers(1, 64))
def test_a_seed_fits_into_its_bits(parts: list[str | int], bits: int) -> None:
    assert 0 <= seed_from(*parts, bits=bits) < 2**bits


def test_a_generator_begins_where_its_name_says() -> None:
    assert rng_from("a", 1).random(3).tolist() == rng_from("a", 1).random(3).tolist()
    assert rng_from("a", 1).random() != rng_from("a", 2).random()
