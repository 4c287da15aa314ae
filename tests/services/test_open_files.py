"""How many files a service may have open at once."""

import subprocess
import sys

TOLD = """
import resource
from voicebus_services.open_files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_a_service_takes_all_the_open_files_that_it_may_have() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, timeout=60, check=True)
    soft, hard = done.stdout.split()
    assert soft == hard
