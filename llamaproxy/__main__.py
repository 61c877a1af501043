"""`python -m llamaproxy`: the same as the `llamaproxy` command."""

import sys

from llamaproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
