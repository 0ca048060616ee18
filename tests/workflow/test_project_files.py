"""Files that must say the same thing: settings and schema, requirements and lock and conda environments, configs and README."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal, get_args, get_origin

import jsonschema
import pytest
import yaml

from fewshot.config import RunConfig, Settings, load, read, schema
from fewshot.config.problems import settings_in

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _run_files() -> list[Path]:
    """The project's own: a run file that someone makes beside them is theirs, and need not be explained."""
    listed = subprocess.run(["git", "ls-files", "config/runs"], cwd=ROOT, capture_output=True, text=True, check=False)
    found = [ROOT / name for name in listed.stdout.splitlines()] if listed.returncode == 0 else []
    return found or sorted((ROOT / "config" / "runs").glob("*.yaml"))


RUN_FILES = _run_files()
CONFIGS = [ROOT / "config" / "config.yaml", *RUN_FILES]


def test_the_schema_is_that_of_the_settings():
    written = (ROOT / "workflow" / "schemas" / "config.schema.json").read_text()
    assert written == schema(), "run: fewshot schema > workflow/schemas/config.schema.json"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_agree_with_schema_and_settings(path):
    jsonschema.validate(read(path), json.loads(schema()))
    assert path.stem in (load(path).run, "config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"no such config file; config/runs/ holds the known runs"),
        ("run: [", r".*line 1"),
        ("sedes: 1", r".*sedes: unknown key; .*"),
    ],
)
def test_make_run_says_in_one_line_what_is_wrong_with_the_run_file(tmp_path, text, said):
    file = tmp_path / "run.yaml"
    if text is not None:
        file.write_text(text)
    command = ["make", "--no-print-directory", "--old-file", ".venv/.installed", "run", f"CONFIG={file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    first, last = done.stderr.splitlines()
    assert re.match(f"error: {file}: {said}", first), first
    assert last.startswith("make")  # make[1] in `make test`
    assert not done.stdout


def test_every_line_of_the_default_config_stands_under_a_comment():
    """Every block of keys is explained: no key without a comment above it or above its neighbours, up to a blank line."""
    blocks = (ROOT / "config" / "config.yaml").read_text().split("\n\n")
    assert all("#" in block for block in blocks)
    lines = (ROOT / "config" / "config.yaml").read_text().splitlines()
    top = [number for number, line in enumerate(lines) if re.match(r"[a-z]\w*:", line)]
    lonely = [
        lines[n] for n in top if not lines[n - 1].startswith("#") and not re.match(r"\s+#", lines[min(n + 1, len(lines) - 1)])
    ]
    assert set(lonely) <= {"evaluation:", "stage1:", "dataset:"}


def _sections() -> dict[tuple[str, str], str]:
    """(name, kind) -> text of README.md under "### `dataset`" (no kind), "### `stage2`: imprinting" and their like."""
    _, *parts = (ROOT / "config" / "README.md").read_text().partition("## All keys")[2].split("\n### ")
    found: dict[tuple[str, str], str] = {}
    for part in parts:
        head, _, text = part.partition("\n")
        name = re.match(r"`([\w.]+)`", head)
        kind = re.search(r"(?:: |`name: )(\w+)", head)
        found[name[1] if name else "", kind[1] if kind else ""] = text
    return found


def _unexplained(model: type[Settings], sections: dict[tuple[str, str], str]) -> list[str]:
    """`[section] key` of every key, and `[section] key: choice` of every choice of one, that its own section does not have.

    Settings that are used a second time ("see above") are looked at where they come first.
    """
    names, missing, seen = {name for name, _ in sections}, [], set()

    def look(settings: type[Settings], section: str) -> None:
        if settings in seen:
            return
        seen.add(settings)
        literals = {key: field for key, field in settings.model_fields.items() if get_origin(field.annotation) is Literal}
        kinds = {str(choice) for field in literals.values() for choice in get_args(field.annotation)} & {k for _, k in sections}
        texts = [sections[section, kind] for kind in ("", *kinds) if (section, kind) in sections]
        lines = "\n".join(texts).splitlines()
        where = f"[{section or 'The run'}]"
        for key, field in settings.model_fields.items():
            about = [line for line in lines if f"`{key}`" in line]
            if not about:
                missing.append(f"{where} {key}")
            choices = get_args(field.annotation) if key in literals else ()
            missing.extend(f"{where} {key}: {one}" for one in choices if not any(f"`{one}`" in line for line in about))
            inner = next((name for name in (f"{section}.{key}", key) if name in names), section)
            for deeper in settings_in(field.annotation):
                look(deeper, inner)

    look(model, "")
    return list(dict.fromkeys(missing))


def test_the_readme_of_the_configs_explains_every_key():
    missing = _unexplained(RunConfig, _sections())
    assert not missing, f"add to config/README.md: {'; '.join(missing)}"


def test_what_the_readme_of_the_configs_lacks_is_named_with_its_section():
    sections = _sections()
    lacking = {("dataset", ""): "`omniglot` / ", ("dataset", "cub"): "`partial`", ("stage2", "implanting"): "`lr`"}
    for place, there in lacking.items():
        assert there in sections[place]
        sections[place] = sections[place].replace(there, "")
    del sections["stage2", "imprinting"]
    missing = _unexplained(RunConfig, sections)
    assert missing[:3] == ["[dataset] partial", "[dataset] name: omniglot", "[stage2] lr"]
    assert "[stage2] method: imprinting" in missing
    assert "[stage2] weights" in missing


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-").replace(".", "-")


def test_the_readme_of_the_configs_lists_every_run():
    page = (ROOT / "config" / "README.md").read_text()
    assert not [path.stem for path in RUN_FILES if f"`{path.stem}`" not in page]


def test_the_lock_pins_every_requirement_and_names_no_place():
    text = (ROOT / "requirements.lock").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+(\[[\w,-]+\])?==[\w.+!-]+( ; .+)?", line) for line in lines)
    assert not re.search(r"https?:|file:|--|\.\./|@", text)
    extras = PROJECT["optional-dependencies"]
    wanted = {_name(line) for line in (*PROJECT["dependencies"], *extras["workflow"], *extras["dev"])}
    assert wanted <= {_name(line) for line in lines}


@pytest.mark.parametrize(("name", "more"), [("core", ()), ("tracking", ("mlflow",))])
def test_the_conda_environments_hold_what_pyproject_asks_for(name, more):
    environment = yaml.safe_load((ROOT / "workflow" / "envs" / f"{name}.yaml").read_text())
    *conda, pip = environment["dependencies"]
    workflow = [line for line in PROJECT["optional-dependencies"]["workflow"] if _name(line) in more]
    assert pip == {"pip": sorted([*PROJECT["dependencies"], *workflow])}
    assert conda == ["python =3.11", "pip"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    script = (ROOT / "workflow" / "envs" / f"{name}.post-deploy.sh").read_text()
    assert "pip install --no-deps --editable ." in script


def test_dvc_finds_its_stage():
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["demo"], done.stderr
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["demo"]
    for out in (*stage["outs"], *stage["metrics"]):
        ((path, options),) = out.items()
        assert options == {"persist": True}, f"{path} would be deleted before the stage runs, or missing from DVC's cache"
    assert all((ROOT / path).exists() for path in stage["deps"])


def test_a_cluster_profile_bounds_the_threads_of_its_jobs_by_no_machines_cores():
    """Snakemake lets no job, on a cluster either, ask for more than `--cores`, where it is given."""
    assert "cores" not in yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())["cores"] == "all"
    assert "--cores" not in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["demo"]["cmd"]
    assert "--cores" not in (ROOT / "Makefile").read_text()


def test_whoever_pushes_data_reads_what_may_not_be_passed_on():
    """Every paragraph, of documentation or of comments, that says how to push data names ImageNet."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md", "dvc.yaml", "*.dvc"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = set()
    for name in listed.stdout.splitlines():
        for paragraph in re.split(r"\n#?\s*\n", (ROOT / name).read_text()):
            if "`dvc push`" in paragraph:
                assert "ImageNet" in paragraph, f"{name}: {paragraph[:200]}"
                told.add(name)
    assert {"docs/data.md", "dvc.yaml", "data.dvc"} <= told
    assert "ImageNet may not be passed on" in (ROOT / "docs/reliability.md").read_text()


def test_make_help_lists_the_targets():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"run", "test", "provenance", "format", "lock"} <= set(re.findall(r"make ([\w-]+)", done.stdout))
