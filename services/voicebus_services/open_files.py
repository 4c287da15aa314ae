"""How many files, of which each connection is one, a service may have open at once."""

import contextlib
import resource
from typing import Final

_ENOUGH: Final = 1024 * 1024


def allow_open_files() -> None:
    """Take as many as the system grants who asks; most begin with 1,024, and a session takes two and more."""
    given, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if most == resource.RLIM_INFINITY else min(most, _ENOUGH)
    if given != resource.RLIM_INFINITY and given < wanted:
        with contextlib.suppress(OSError, ValueError):  # the kernel has a bound of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
