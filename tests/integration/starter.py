"""Starts `fewshot` commands as children of a process that has imported everything: a start costs milliseconds, not seconds.

Reads requests as JSON lines (folder, arguments, log) from stdin; answers each with a line that holds the child's number and,
once that has ended, one with its exit status (negative: the signal that killed it). `track` in place of a command mirrors a run
into MLflow.
"""

import importlib
import json
import os
import sys

from fewshot.cli import app


def run(folder: str, arguments: list[str], log: str) -> int:
    """In the child: one command; its exit status."""
    os.setsid()
    os.chdir(folder)
    with open(log, "ab") as file, open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        if arguments[0] == "track":
            from pathlib import Path

            from fewshot import tracking
            from fewshot.config import load
            from fewshot.job import user_errors
            from fewshot.plan import Plan

            with user_errors():
                plan = Plan(load(Path(arguments[1])))
                tracking.init(plan)
                for network in plan.networks:
                    tracking.track(plan, network)
        else:
            app(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


for name in sys.argv[1:]:
    importlib.import_module(name)
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = run(**request)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
