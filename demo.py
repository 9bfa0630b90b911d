"""The demo: ``python demo.py --help``."""

import sys

from showcase.demo import command

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
