"""`czsupervisor`: arguments, checks, logs, and the exit code. Imports late, because the guard starts here too and should stay small."""

import sys


def main() -> None:
    """Run the Supervisor, or its guard, and exit."""
    from codezero.local.supervisor import guard

    if sys.argv[1:2] == [guard.ARGUMENT]:
        sys.exit(guard.main(sys.argv[2:]))
    from codezero.local.supervisor.command_line import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
