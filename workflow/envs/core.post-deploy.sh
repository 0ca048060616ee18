#!/usr/bin/env bash
# Snakemake runs this from the project's root, inside the new environment.
set -euo pipefail
python -m pip install --no-deps --editable .
