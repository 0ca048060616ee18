"""A coverage-guided campaign against one reader: `python tests/fuzz/campaign.py archives --seconds 60`. `make fuzz` runs all.

Needs atheris (`uv pip install atheris`). A finding ends it with the input in a file `crash-...` and its traceback.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["fewshot", "tarfile", "zipfile", "gzip", "pickle", "yaml", "csv", "json", "numpy.lib"]
):
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.fuzz.target import check
    from tests.fuzz.targets import TARGETS

parser = argparse.ArgumentParser()
parser.add_argument("target", choices=TARGETS)
parser.add_argument("--seconds", type=int, default=60)
arguments = parser.parse_args()
target = TARGETS[arguments.target]
corpus = Path(tempfile.mkdtemp(prefix="fewshot-corpus-"))
for number, seed in enumerate(target.seeds()):
    (corpus / str(number)).write_bytes(seed)
counts = {"tried": 0, "taken": 0}
started = time.monotonic()


def one(data: bytes) -> None:
    """Try an input; the figures are told when the time is over."""
    counts["tried"] += 1
    counts["taken"] += check(target, data)
    if time.monotonic() - started > arguments.seconds:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        kept = len(list(corpus.iterdir()))
        seconds = time.monotonic() - started
        row = (
            arguments.target,
            f"{counts['tried']:,}",
            f"{counts['taken']:,}",
            f"{kept:,}",
            f"{memory:,.0f}",
            "0",
            f"{seconds:.0f}",
        )
        print(f"| {' | '.join(row)} |", flush=True)
        os._exit(0)


atheris.Setup([sys.argv[0], "-rss_limit_mb=3000", "-timeout=20", "-max_len=20000", "-print_final_stats=0", str(corpus)], one)
atheris.Fuzz()
