"""`python -m ravine`."""

from ravine.cli import main

main()
