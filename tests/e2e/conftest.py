"""One running system for the tests that only look."""

from collections.abc import Iterator

import pytest

from tests.e2e.harness import Up


@pytest.fixture(scope="module")
def system() -> Iterator[Up]:
    """A `thalweg up` that the tests of a module share, on free ports."""
    with Up("--http-port", "0", "--demo-port", "0") as up:
        yield up
