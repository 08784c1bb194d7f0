"""Markers that tests get from what they use, and from how long they take; `make test-fast` leaves them out."""

from collections.abc import Iterator

import pytest

from tests.slow import SLOW_FOLDERS, SLOW_TESTS

FIXTURES = {"real_ct": "real_ct", "browser": "browser"}
"""Fixture → marker of the tests that use it, directly or through another one."""
CLUSTER = ("/test_cluster.py", "/test_orthanc.py", "/node/test_service.py")
"""Modules that start schedulers, workers or an archive."""


def markers_of(item: pytest.Item) -> Iterator[str]:
    """The markers of a test."""
    module, _, test = item.nodeid.partition("::")
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in FIXTURES:
            yield FIXTURES[fixture]
    if module.endswith(CLUSTER):
        yield "cluster"
    if module.startswith(SLOW_FOLDERS) or test.partition("[")[0] in SLOW_TESTS:
        yield "slow"
