"""`python -m retain`: the command line, for launchers that start modules."""

from retain.cli.main import main

main()
