"""Plans with Snakemake as a child of a process that has imported it: a plan costs a second or two, not five.

Reads requests as JSON lines (folder, arguments, environment, out, err) from stdin; each is `snakemake <arguments>` in that
folder, answered with its exit status. The package under test is not imported here: each plan reads it anew, from `PYTHONPATH`
first.
"""

import json
import os
import sys
from collections.abc import Sequence

import numpy  # noqa: F401  what the rules import, and what they import that
import pydantic  # noqa: F401
import yaml  # noqa: F401
from snakemake import cli


def plan(folder: str, arguments: Sequence[str], environment: dict[str, str], out: str, err: str) -> int:
    """In the child: one plan; its exit status."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    for number, name, mode in ((0, os.devnull, "rb"), (1, out, "wb"), (2, err, "wb")):
        with open(name, mode) as file:  # noqa: PTH123
            os.dup2(file.fileno(), number)
    sys.argv[1:] = arguments
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


sys.argv[0] = "snakemake"
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = plan(**json.loads(line))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
