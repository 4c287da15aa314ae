"""`python -m dashboards`: writes the dashboards."""

import sys

from dashboards.files import write


def main() -> None:
    for path in write():
        sys.stdout.write(f"{path}\n")


main()
