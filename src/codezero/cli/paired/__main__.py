"""`python -m codezero.cli.paired`, as czctl starts it."""

import os

from codezero.cli.paired.running import main

if __name__ == "__main__":
    # Threads that wait for a Hub are waited for by nobody.
    os._exit(main())
