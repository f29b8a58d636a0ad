"""`python -m codezero.cli` is czctl."""

from codezero.cli.main import main

main()
