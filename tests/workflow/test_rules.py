"""Rules, adapters and paths: every rule complete, every adapter thin, every pattern where the plan puts the file."""

import ast
import re
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

from fewshot.config import CifarFsSettings, CubSettings, Fc100Settings, MiniImageNetSettings, OmniglotSettings, load
from fewshot.data.sources import cifar100, cub, miniimagenet, omniglot
from fewshot.plan import Plan
from fewshot.tracking import flag_path, tracked_path

ROOT = Path(__file__).parents[2]
ADAPTERS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))


def _rules() -> dict[str, str]:
    """Text of every rule that lies in workflow/rules, by name."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    parts = re.split(r"^rule (\w+):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


RULES = _rules()
FUNCTIONS = {name: (ROOT / "workflow" / "rules" / f"{name}.smk").read_text() for name in ("common", "files", "parameters")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_the_rules_share_holds_functions_only(name):
    assert not re.search(r"^(rule|checkpoint) ", FUNCTIONS[name], re.MULTILINE)
    assert "lambda" not in "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))


def test_one_adapter_a_rule():
    assert {path.stem for path in ADAPTERS} == set(RULES)
    assert len(ADAPTERS) == len(RULES)


def test_the_archives_of_the_settings_are_those_of_the_sources():
    assert Fc100Settings.archives == CifarFsSettings.archives == (cifar100.ARCHIVE.file,)
    assert CubSettings.archives == (cub.ARCHIVE.file,)
    assert OmniglotSettings.archives == tuple(known.file for known in omniglot.ARCHIVES)
    assert MiniImageNetSettings.archives == (miniimagenet.ARCHIVE.file,)
    assert MiniImageNetSettings.caches == tuple(known.file for known in miniimagenet.CACHES.values())


GPU_RULES = {"train", "extract", "adapt", "extend", "evaluate", "draw_activation_maps", "draw_class_vectors"}


@pytest.mark.parametrize("name", sorted(GPU_RULES))
def test_a_rule_that_computes_with_a_network_is_a_gpu_job(name):
    assert "        gpu=gpus,\n" in RULES[name]
    assert re.search(r"^    threads: ", RULES[name], re.MULTILINE)


@pytest.mark.parametrize(
    ("stage", "function"),
    [
        ("train", "training"),
        ("extract", "extraction"),
        ("adapt", "adaptation"),
        ("extend", "extension"),
        ("evaluate", "evaluation"),
    ],
)
def test_the_code_of_a_rule_is_what_its_stage_imports(stage, function):
    tree = ast.parse((ROOT / "src" / "fewshot" / "stages.py").read_text())
    (body,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == stage)
    imports = [node for node in body.body if isinstance(node, ast.ImportFrom)]
    modules = {name.name for node in imports if node.module == "fewshot" for name in node.names}
    modules |= {node.module.removeprefix("fewshot.") for node in imports if node.module != "fewshot"}
    code = ast.parse((ROOT / "src" / "fewshot" / "job_code.py").read_text())
    (body,) = (node for node in code.body if isinstance(node, ast.FunctionDef) and node.name == function)
    named = {node.value for node in ast.walk(body) if isinstance(node, ast.Constant)}
    assert re.search(rf"code=(job_code\.{function}\(\)|{function}_code),", RULES[stage])
    # The store is imported by all of these; the frame of a job changes no result, nor does the question whether there will be
    # images enough for the tasks.
    harmless = {"data.store", "job", "requirements"}
    assert {"device"} <= modules - harmless <= named


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_runs_code_says_where_it_logs_what_it_needs_and_whose_code_it_is(name):
    text = RULES[name]
    for directive in ("output", "log", "conda", "params", "resources"):
        assert re.search(rf"^    {directive}:$", text, re.MULTILINE), f"{name} has no {directive}"
    assert re.search(r"^        code=", text, re.MULTILINE)
    assert f'"../scripts/{name}.py"' in text
    if name in {"prepare", "train", "extract", "adapt", "extend", "evaluate"}:
        assert "    benchmark:" in text
    for caption in re.findall(r'caption="\.\./report/(\w+\.rst)"', text):
        assert (ROOT / "workflow" / "report" / caption).is_file()


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.stem)
def test_an_adapter_has_no_logic(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    *imports, guard = ast.parse(text).body
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    # Without the guard, workers that are spawned import the adapter and die for want of the name `snakemake`.
    assert ast.unparse(guard).startswith("if __name__ == '__main__':\n    with job(snakemake.config, snakemake.log[0]")
    allowed = (ast.If, ast.With, ast.Assign, ast.Expr)
    assert all(isinstance(node, allowed) for node in ast.walk(guard) if isinstance(node, ast.stmt))
    assert sum(isinstance(node, ast.If) for node in ast.walk(guard)) == 1


def _pattern(text: str) -> re.Pattern[str]:
    """A rule's path pattern as a regular expression, one group a wildcard."""
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{'[0-9]+' if name in {'seed', 'tasks'} else '[^/]+'})"

    return re.compile(re.sub(r"\\{(\w+)\\}", group, re.escape(text)))


def _patterns(name: str) -> list[re.Pattern[str]]:
    output = RULES[name].split("    output:\n")[1].split("    log:\n")[0]
    quoted = re.findall(r'"((?:resources|results)/[^"]+)"', output)
    return [_pattern(text.replace("{{", "{").replace("}}", "}")) for text in quoted]


@pytest.mark.parametrize("run", ["config.yaml", "runs/fc100.yaml", "runs/miniimagenet.yaml"])
def test_the_rules_write_where_the_plan_looks(run):
    plan = Plan(load(ROOT / "config" / run))
    network, adaptation, evaluation = plan.networks[0], plan.adaptations[0], plan.evaluations[0]
    for name, path in {
        "prepare": plan.store_dir / "images.npy",
        "draw_episodes": plan.episodes_path(plan.episodes(5)),
        "train": plan.network_dir(network) / "model.json",
        "extract": plan.features_dir(network) / "features.npy",
        "adapt": plan.adapted_dir(adaptation) / "adapt.json",
        "evaluate": plan.evaluation_dir(evaluation),
        "assemble": plan.results / "summary.csv",
        "draw_figures": plan.results / "figures" / "paired_gains.svg",
        "write_report": plan.results / "report.html",
        "draw_activation_maps": plan.results / "figures" / "activation_maps.png",
        "init_tracking": flag_path(plan),
        "track": tracked_path(plan, network),
    }.items():
        matching = [found for pattern in _patterns(name) if (found := pattern.fullmatch(path.as_posix()))]
        assert matching, f"{name} does not write {path}"
        known = {
            "store": plan.store, "run": plan.config.run, "network": network.key, "network_name": network.name, "seed": "0",
            "episodes": {"adapt": adaptation.episodes.key}.get(name, plan.episodes(5).key), "tasks": str(adaptation.tasks),
            "adaptation": {"adapt": adaptation.key}.get(name, evaluation.adaptation), "part": "test",
        }  # fmt: skip
        if name == "adapt":
            known["network"] = adaptation.network.key
        for wildcard, value in matching[0].groupdict().items():
            assert value == known.get(wildcard, value), f"{name}: {wildcard}"


def test_the_cluster_stands_in_its_profile_and_nowhere_else():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert set(profile["groups"]) | set(profile["set-threads"]) <= set(RULES)
    shared = {name for name, text in RULES.items() if "    threads: share_of_cores(" in text}
    assert {"train", "adapt", "extend"} <= shared <= set(profile["set-threads"])
    short = {name for name, text in RULES.items() if "gpu=gpus" not in text and "benchmark:" not in text}
    assert set(profile["groups"]) <= short, "grouped jobs are short ones"
    assert profile["retries"] <= 1
    assert profile["default-resources"].keys() >= {"runtime", "mem_mb"}
    words = re.compile(r"slurm_(account|partition|extra)|sbatch|\bqos\b")
    places = [ROOT / "Snakefile", *(path for name in ("workflow", "config", "src") for path in (ROOT / name).rglob("*"))]
    named = [path.name for path in places if path.is_file() and path.suffix != ".pyc" and words.search(path.read_text())]
    assert named == []


def test_every_gpu_rule_stands_in_the_clusters_template():
    """What a user of Slurm takes the comment signs off: a GPU job of the default partition would wait for ever or fail."""
    lines = (ROOT / "profiles/slurm/config.yaml").read_text().splitlines()
    start = lines.index("# set-resources:")
    template = takewhile(lambda line: line.startswith("# "), lines[start:])
    (rules,) = yaml.safe_load("\n".join(line.removeprefix("# ") for line in template)).values()
    assert set(rules) == {name for name, text in RULES.items() if "        gpu=gpus,\n" in text} == GPU_RULES
    assert all(resources == {"slurm_partition": "gpu"} for resources in rules.values())


RESUMED = {"train", "adapt", "extend"}


@pytest.mark.parametrize("name", sorted(GPU_RULES))
def test_a_retry_gets_more_memory_and_more_time_only_where_it_begins_anew(name):
    assert "        mem_mb=growing(" in RULES[name]
    assert re.search(r"^        runtime=(.*),$", RULES[name], re.MULTILINE)[1].startswith("growing(") == (name not in RESUMED)


@pytest.mark.parametrize("name", ["train", "extract", "extend", "evaluate"])
def test_a_job_that_holds_its_input_in_memory_asks_for_more_where_that_is_larger(name):
    assert re.search(r"^        mem_mb=growing\(\d+, of_input=[12]", RULES[name], re.MULTILINE)


def test_extraction_asks_for_the_features_of_the_largest_maps():
    """Its output is not there to be measured beforehand; WRN-28-10 at 84 px, for the images of miniImageNet's test."""
    asked = int(re.search(r"^        mem_mb=growing\((\d+),", RULES["extract"], re.MULTILINE)[1])
    assert asked > 640 * 21 * 21 * 4 * 12000 / 1e6


def test_mlflow_is_written_where_snakemake_runs():
    """Compute nodes need not reach its server."""
    named = (ROOT / "Snakefile").read_text().split("\nlocalrules:\n")[1].split("\n\n")[0]
    assert {line.strip(" ,") for line in named.splitlines()} == {"init_tracking", "track"}


def test_one_job_at_a_time_writes_into_mlflow():
    """What jobs that finish together do to an SQLite file is then nothing that anybody has to think of."""
    for name in ("init_tracking", "track"):
        assert "        mlflow=1,\n" in RULES[name]
    for name in ("default", "slurm"):
        profile = yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
        assert profile["resources"]["mlflow"] == 1
