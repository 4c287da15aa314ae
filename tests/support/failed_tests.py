"""What a failed test has left open is closed with it, and does not fail the next one.

Its traceback keeps its variables until another test runs: files, processes and sockets that it had no time to close
would be found then, and their warnings be that test's error.
"""

import gc
import sys
import warnings
from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final

import pytest

_FAILED: Final = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    done = yield
    if _FAILED in item.stash:
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            with suppress(AttributeError):
                delattr(sys, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    return done
