#!/usr/bin/env bash
# One run on a machine that has PyTorch and this checkout, and nothing else: no network, no Snakemake, no MLflow, no DVC.
#
#   scripts/gpu_run.sh CONFIG OUT [SECONDS]
#
# Goes through preparation, stage 1, features, stage 2 and evaluation with the `fewshot` command line alone. Called again it
# goes on where it was; after SECONDS (540 unless told) it stops by itself with its state saved. What is complete then lies in
# OUT/<run>, packed in files of at most 15 MiB, larger ones in parts; at home `fewshot prepare CONFIG`, then
# `fewshot take OUT/<run>/*.tar.gz`, makes it the pipeline's own.
#
# Data comes as the publisher's archive in data/raw/, or in parts of at most 60 MB:
#   mkdir -p data/parts
#   split --bytes 60000000 --numeric-suffixes cifar-100-python.tar.gz data/parts/cifar-100-python.tar.gz.part-
#
# PYTHON: the interpreter (python3). CPU=1: do without a GPU. FEWSHOT_REVISION: the commit, where the checkout came without its
# history. DONE: 0 when the run is complete, 75 when there is more to do, else the error's status.
set -euo pipefail
cd "$(dirname "$0")/.."

config=${1:?usage: scripts/gpu_run.sh CONFIG OUT [SECONDS]}
out=${2:?usage: scripts/gpu_run.sh CONFIG OUT [SECONDS]}
seconds=${3:-540}
python=${PYTHON:-python3}
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

# What is missing is said now, by name, and not by a traceback when the device's time is running: packages (`fewshot.cli` is
# imported for what those that are named need themselves), and a GPU that PyTorch can use.
"$python" - <<'CHECK' || exit 1
import sys
from importlib import metadata

if not (3, 11) <= sys.version_info[:2] < (3, 13):
    sys.exit(f"error: {sys.executable} is Python {sys.version.split()[0]}; set PYTHON to a Python 3.11 or 3.12")
import re
import tomllib

with open("pyproject.toml", "rb") as file:
    wanted = tomllib.load(file)["project"]["dependencies"]
there = {re.sub(r"[-_.]+", "-", one.name).lower() for one in metadata.distributions() if one.name}
missing = [one for one in wanted if re.split(r"[<>=!~ ]", one)[0] not in there]
if not missing:
    try:
        import fewshot.cli
    except ModuleNotFoundError as error:
        missing = [error.name]
if missing:
    sys.exit(f"error: {sys.executable} lacks {', '.join(missing)}; bring the wheels (docs/gpu.md)")
import os

import torch

if os.environ.get("CPU") != "1" and not torch.cuda.is_available():
    sys.exit(f"error: PyTorch {torch.__version__} finds no GPU that it can use; set CPU=1 to do without")
CHECK

mkdir -p data/raw "$out"
shopt -s nullglob
for first in data/parts/*.part-00; do
    archive=data/raw/$(basename "${first%.part-00}")
    # Joined anew when parts came later: the archive is then smaller than they are together.
    if [ "$(wc -c "${first%00}"* | awk 'END {print $1}')" != "$(wc -c 2>/dev/null < "$archive" || echo none)" ]; then
        cat "${first%00}"* > "$archive.joining"
        mv "$archive.joining" "$archive"
    fi
done

status=0
timeout --signal=TERM --kill-after=60 "$seconds" "$python" -m fewshot run "$config" --until evaluate || status=$?
pack() {
    find "$out" -name '*.tar.gz.part-*' -delete
    "$python" -m fewshot pack "$config" --out "$out"
    # Where files may leave, large ones may not: `cat x.tar.gz.part-* > x.tar.gz` joins them again.
    find "$out" -name '*.tar.gz' -size +15M -exec split --bytes 15M --numeric-suffixes {} {}.part- \; -exec rm {} \;
}
case $status in
    0) pack && echo "complete: $out" ;;
    124 | 137 | 143) pack || true; echo "more to do: call again"; exit 75 ;;
    # What was complete before the error leaves the machine too; that nothing was is no second error.
    *) pack 2>/dev/null || true; exit "$status" ;;
esac
