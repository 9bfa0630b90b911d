"""The daemon, with a simulated fleet if asked for: ``python main.py --help``."""

import sys

from showcase.simulated import command

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
