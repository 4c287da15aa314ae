"""The environment of the real clients, made before the first test that needs it."""

import pytest

from support import real_clients


@pytest.fixture(scope="session", autouse=True)
def clients_environment() -> None:
    """Every test here runs programs in it; one that cannot be made is a failure, not a skip."""
    real_clients.ensure()
