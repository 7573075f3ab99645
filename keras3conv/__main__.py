"""The command line as a program: `keras3conv` and `python -m keras3conv`."""

from keras3conv.cli.commands import main
from keras3conv.garbage import memory_left_to_the_system


def program() -> None:
    """Run the command line in a process that has nothing else to do, and end it."""
    with memory_left_to_the_system():
        main()


if __name__ == "__main__":
    program()
