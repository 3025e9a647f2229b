"""Certificates for the doors."""

from pathlib import Path

import pytest

from tests.api.harness import SERVER


@pytest.fixture(scope="session")
def tls_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    SERVER.write(folder)
    return folder
