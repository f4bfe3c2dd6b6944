"""``python -m fadiag`` is the ``fadiag`` command."""

from fadiag.cli import main

# The guard matters: a study's processes are spawned and load this module again.
if __name__ == "__main__":
    main(prog_name="fadiag")
