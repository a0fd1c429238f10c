"""Which Debian packages the lab needs. Stdlib only: it runs before the virtual environment exists."""

import argparse
import subprocess
from pathlib import Path

LIST = Path(__file__).with_name("packages.txt")


def needed() -> list[str]:
    """The packages of packages.txt. Does not block."""
    lines = (line.partition("#")[0].strip() for line in LIST.read_text().splitlines())
    return [line for line in lines if line]


def versions(names: list[str]) -> dict[str, str]:
    """The version of each installed package among `names`. Blocks, some 20 ms.

    Raises:
        FileNotFoundError: this is no Debian: there is no dpkg-query.
    """
    argv = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\n", *names]
    # dpkg-query ends with status 1 if it does not know one of the names: that is an answer.
    output = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    rows = (line.split() for line in output.splitlines())
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def missing() -> list[str]:
    """The packages that are not installed. Blocks, some 20 ms."""
    names = needed()
    try:
        present = versions(names)
    except FileNotFoundError:
        return ["dpkg"]
    return [name for name in names if name not in present]


def main() -> int:
    """Print the needed or the missing packages on one line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.packages", description=main.__doc__)
    parser.add_argument("--missing", action="store_true", help="only those that are not installed")
    names = missing() if parser.parse_args().missing else needed()
    if names:
        print(*names)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
