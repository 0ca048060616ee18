"""`python -m benchmarks [PART ...]`: measure, and write the report; without parts, all of them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Growth, Options, Row, machine, save
from fewshot.device import select_device
from fewshot.errors import FewshotError

PARTS = {
    "device": "device", "stage1": "stage1", "memory": "memory", "stage2": "stage2", "evaluation": "evaluation",
    "easyfsl": "against_easyfsl", "classify": "classify",
}  # fmt: skip
"""Parts and their modules."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement, about")
    parser.add_argument("--tasks", type=int, default=2000, help="evaluated in one call; the paper: 10000")
    parser.add_argument("--images", type=int, default=2400, help="of the test classes; miniImageNet and FC100: 12000")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "report")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    logging.basicConfig(level=logging.WARNING)
    try:
        for part in chosen.parts or PARTS:
            _measure(part, chosen)
    except FewshotError as error:
        parser.exit(1, f"error: {error}\n")


def _measure(part: str, chosen: argparse.Namespace) -> None:
    # As the commands of the pipeline do it: TF32 convolutions in stage 1 alone.
    device = select_device(chosen.device, chosen.threads, tensor_float_32=part == "stage1")
    options = Options(device, chosen.seconds, chosen.tasks, chosen.images, chosen.out)
    about = machine(device)
    run: Callable[[Options], tuple[list[Row], list[Growth]]] = import_module(f"benchmarks.{PARTS[part]}").run
    rows, growth = run(options)
    save(options.out, part, rows, growth, about)
    for row in rows:
        rate = "" if row.rate is None else f"{row.rate:12,.1f} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:8.1f} x plain"
        processor = "" if row.processor_ratio is None else f" ({row.processor_ratio:.1f} in processor time)"
        print(f"{row.part}: {row.setting}{rate}{ratio}{processor}", flush=True)  # noqa: T201  a command's output
    print(f"report: {report.write(options.out)}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
