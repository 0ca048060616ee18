"""`python -m fewshot`: the command line where the package is not installed (PYTHONPATH=src)."""

from fewshot.cli import main

main()
