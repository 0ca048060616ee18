#!/usr/bin/env bash
# One run on a machine that has PyTorch and this checkout, and nothing else: no network, no Snakemake, no MLflow, no DVC.
#
#   scripts/gpu_run.sh CONFIG OUT [SECONDS]
#
# Goes through preparation, stage 1, features, stage 2 and evaluation with the `fewshot` command line alone. Called again it
# goes on where it was; after SECONDS (540 unless told) it stops by itself with its state saved. What is complete then lies in
# OUT/<run>, packed in files of a few MB; at home `fewshot prepare CONFIG`, then `fewshot take OUT/<run>/*.tar.gz`, makes it the
# pipeline's own.
#
# Data comes as the publisher's archive in data/raw/, or in parts of at most 60 MB:
#   mkdir -p data/parts
#   split --bytes 60000000 --numeric-suffixes cifar-100-python.tar.gz data/parts/cifar-100-python.tar.gz.part-
#
# PYTHON: the interpreter (python3). DONE: 0 when the run is complete, 75 when there is more to do, else the error's status.
set -euo pipefail
cd "$(dirname "$0")/.."

config=${1:?usage: scripts/gpu_run.sh CONFIG OUT [SECONDS]}
out=${2:?usage: scripts/gpu_run.sh CONFIG OUT [SECONDS]}
seconds=${3:-540}
python=${PYTHON:-python3}
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

# What is missing is said now, by name, and not by a traceback when the device's time is running. (`fewshot.cli` is imported for
# what the packages themselves need; PyTorch, which takes seconds, is not.)
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
timeout --signal=TERM --kill-after=60 "$seconds" "$python" -m fewshot run "$config" || status=$?
pack() { "$python" -m fewshot pack "$config" --out "$out"; }
case $status in
    0) pack && echo "complete: $out" ;;
    124 | 137 | 143) pack || true; echo "more to do: call again"; exit 75 ;;
    # What was complete before the error leaves the machine too; that nothing was is no second error.
    *) pack 2>/dev/null || true; exit "$status" ;;
esac
