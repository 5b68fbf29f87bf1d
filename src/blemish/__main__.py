"""`python -m blemish`: the same as the command `blemish`."""

from blemish.cli.main import main

if __name__ == "__main__":
    main()
