"""Write the pages: `python -m virtceph.manpages contrib/man/`."""

from __future__ import annotations

import sys
from pathlib import Path

from virtceph.manpages.commandpage import command_page
from virtceph.manpages.daemonpage import daemon_page
from virtceph.manpages.optionpage import option_page
from virtceph.schema.markdown import renew
from virtceph.schema.spec import load_contract


def pages() -> dict[str, str]:
    """Each page's text by its file's name. Blocks on the contract's file."""
    return {
        "virtceph.1": command_page(load_contract()),
        "virtcephd.8": daemon_page(),
        "virtcephd.toml.5": option_page(),
    }


def main(argv: list[str]) -> int:
    """Write the pages whose text changed, and name them. Blocks."""
    for name, text in pages().items():
        renew(Path(argv[0]) / name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
