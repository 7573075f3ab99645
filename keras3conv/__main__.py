"""`python -m keras3conv`: the command line."""

from keras3conv.cli.commands import main

if __name__ == "__main__":
    main()
