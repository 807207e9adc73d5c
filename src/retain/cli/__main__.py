"""`python -m retain.cli`"""

from retain.cli.main import main

main()
