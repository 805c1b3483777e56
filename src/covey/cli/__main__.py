"""``python -m covey.cli``."""

from covey.cli import main

main()
