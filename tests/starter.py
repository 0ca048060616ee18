"""Starts programs as children of a process that has imported them: a start costs milliseconds, not seconds.

Reads requests as JSON lines (program, folder, arguments, out, err, environment) from stdin; answers each with a line that holds
the child's number and, once that has ended, one with its exit status (negative: the signal that killed it). Programs:
`fewshot`, `snakemake`, and `track`, which mirrors a run into MLflow. The modules to import beforehand are this one's arguments.
"""

import importlib
import json
import os
import sys


def fewshot(arguments: list[str]) -> None:
    from fewshot.cli import app

    app(arguments)


def snakemake(arguments: list[str]) -> None:
    from snakemake import cli

    sys.argv[:] = ["snakemake", *arguments]
    cli.main()


def track(arguments: list[str]) -> None:
    from pathlib import Path

    from fewshot import tracking
    from fewshot.config import load
    from fewshot.job import user_errors
    from fewshot.plan import Plan

    with user_errors():
        plan = Plan(load(Path(arguments[0])))
        tracking.init(plan)
        for network in plan.networks:
            tracking.track(plan, network)


PROGRAMS = {"fewshot": fewshot, "snakemake": snakemake, "track": track}


def run(program: str, folder: str, arguments: list[str], out: str, err: str, environment: dict[str, str] | None) -> int:
    """In the child: one program; its exit status."""
    os.setsid()
    os.chdir(folder)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    for number, name, mode in ((0, os.devnull, "rb"), (1, out, "ab"), (2, err, "ab")):
        with open(name, mode) as file:  # noqa: PTH123
            os.dup2(file.fileno(), number)
    try:
        PROGRAMS[program](arguments)
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
