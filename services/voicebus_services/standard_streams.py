"""Standard streams that whoever started the process has closed, as `>&-` and some supervisors do."""

import os
import sys
from typing import Final

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""By their descriptors: 0, 1, 2."""


def open_standard_streams() -> None:
    """Open those that are closed on /dev/null. A socket would get such a number otherwise, and libuv ends a process
    that closes one of these.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
