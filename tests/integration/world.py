"""Folders as they are before and after every stage of an undisturbed run, for tests that disturb one."""

import shutil
from pathlib import Path

import yaml

from fewshot.config import parse
from fewshot.plan import Plan

STAGES = ("prepare", "episodes", "train", "extract", "adapt", "evaluate", "assemble")


def small_plan(tiny: dict) -> Plan:
    """The run of seconds; its training saves its state at every iteration and goes on for some."""
    data = yaml.safe_load(yaml.safe_dump(tiny))
    data["stage1"]["training"] |= {"iterations": 30, "save_every": 0.001, "log_every": 5}
    data["stage1"]["training"]["validation"]["every"] = 10
    data["stage1"]["networks"].pop("gap")
    data["evaluation"]["tests"] = [
        test | {"populations": ["novel", "base", "both"]} for test in data["evaluation"]["tests"][1:]
    ]
    data["evaluation"]["tests"][1].pop("populations")
    data["evaluation"]["tests"][1]["tasks"] = 10
    data.pop("activation_maps")
    return Plan(parse(data))


def contents(folder: Path) -> dict[str, bytes]:
    """What a run made and left: every file with numbers, without those that tell times."""
    told = {"model.json", "adapt.json", "settings.json", "metrics.jsonl", "meta.json", "report.html"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in told
        and path.suffix != ".svg"
        and path.stem not in ("networks", "index")  # seconds of a training, in the tables
    }


class World:
    """Folders as they are before and after every stage of an undisturbed run."""

    def __init__(self, starter, plan, folder: Path) -> None:
        self.starter, self.plan, self.folder = starter, plan, folder
        self.seconds: dict[str, float] = {}
        current = folder / "current"
        (current / "config").mkdir(parents=True)
        shutil.copy(Path(__file__).parents[2] / "config/published.csv", current / "config")
        (current / "run.yaml").write_text(yaml.safe_dump(plan.config.as_dict()))
        for stage in STAGES:
            shutil.copytree(current, folder / f"before-{stage}")
            done = starter.run(current, *self.command(stage))
            assert done.status == 0, done.said
            self.seconds[stage] = done.seconds
            print(stage, done.seconds)
            shutil.copytree(current, folder / f"after-{stage}")
        current.rename(folder / "whole")

    def command(self, stage: str) -> list[str]:
        return [
            stage,
            "run.yaml",
            *{"prepare": ["--workers", "2"], "episodes": [], "assemble": []}.get(stage, ["--threads", "1"]),
        ]

    def fresh(self, stage: str, place: Path) -> Path:
        """A folder as it is before a stage."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / f"before-{stage}", place)
        return place

    def finish(self, stage: str, folder: Path) -> None:
        """The same command once more must make what the undisturbed one made, and leave nothing else."""
        done = self.starter.run(folder, *self.command(stage))
        assert done.status == 0, done.said
        found, wanted = contents(folder), contents(self.folder / f"after-{stage}")
        assert set(found) == set(wanted)
        assert [name for name in wanted if found[name] != wanted[name]] == []


def one_line(command) -> str:
    """The one line of a command that failed for a reason that a user can mend."""
    assert command.status == 1, command.said
    assert "Traceback" not in command.said, command.said
    (line,) = [line for line in command.said.splitlines() if line.startswith("error: ")]
    return line
