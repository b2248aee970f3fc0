"""``python -m chatstream``: the command line."""

import sys

from chatstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
