"""Markers that tests get from what they use, and from how long they take; `make test-fast` leaves them out."""

from collections.abc import Iterator

import pytest

from tests.slow import SLOW

FIXTURES = {"real_ct": "real_ct", "browser": "browser"}
"""Fixture → marker of the tests that use it, directly or through another one."""
CLUSTER = ("tests/upscale/test_cluster.py", "tests/evaluate/test_cluster.py", "tests/upscale/test_orthanc.py")
"""Modules that start schedulers, workers or an archive."""


def markers_of(item: pytest.Item) -> Iterator[str]:
    """The markers of a test."""
    module, _, test = item.nodeid.partition("::")
    function = test.partition("[")[0]
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in FIXTURES:
            yield FIXTURES[fixture]
    if module in CLUSTER:
        yield "cluster"
    names = SLOW.get(module, frozenset())
    if names is None or function in names:
        yield "slow"
