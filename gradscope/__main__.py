"""`python -m gradscope`: the command line, also where its script is not on the path."""

from gradscope.cli import main

if __name__ == "__main__":
    main(prog_name="gradscope")
