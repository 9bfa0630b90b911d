"""``python -m immune``."""

from immune.cli import main

main()
