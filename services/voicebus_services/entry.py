"""Where the `voicebus` command begins: importing the rest takes a second, in which Ctrl-C is to end it as quietly as
later, rather than with a traceback out of some import.
"""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """As `cli.main`, which takes Ctrl-C over once it is there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from voicebus_services.cli import main as run

    run()
