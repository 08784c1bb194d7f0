"""What the tests of the data room draw from."""

from pathlib import Path

import pytest

from ctsr.data.hu_cache import StoredSeries
from tests.made.series import bodies, stored_series


@pytest.fixture
def series(tmp_path: Path) -> StoredSeries:
    """Six slices of 150×203 pixels: sizes that neither 2 nor 4 divides."""
    return stored_series(tmp_path / "series", bodies(6, 150, 203))
