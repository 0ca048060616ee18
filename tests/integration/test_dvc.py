"""Raw archives and results under DVC: a remote that is a folder, a clone that pulls, a change that is shown."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from fewshot.files import file_hash

pytestmark = pytest.mark.slow


def settings(tiny: dict) -> dict:
    """One network on a folder of images, as trained, tested at one shot."""
    data = yaml.safe_load(yaml.safe_dump(tiny))
    for name in ("stage2", "activation_maps"):
        data.pop(name)
    data["stage1"]["networks"].pop("dense")
    data["evaluation"]["tests"] = data["evaluation"]["tests"][:1]
    data["evaluation"]["shots"] = [2]
    return data | {"run": "demo", "dataset": {"name": "folder", "folder": "data/raw", "image_size": 32, "held_out": 0.25}}


@pytest.fixture(scope="module")
def project(copy_project, tiny, tmp_path_factory):
    """With archives in data/, a stage that depends on them as dvc.yaml tells, without MLflow, and a folder for a remote."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    (project.folder / "config/config.yaml").write_text(yaml.safe_dump(settings(tiny), sort_keys=False))
    stages = yaml.safe_load(project.read("dvc.yaml"))
    stages["stages"]["demo"]["deps"].append("data")
    stages["stages"]["demo"]["cmd"] += " -- results_only"
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    rng = np.random.default_rng(0)
    for name in map(str, range(12)):
        folder = project.folder / "data/raw" / name
        folder.mkdir(parents=True)
        for number in range(10):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    project.call("git", "init", "--quiet")
    project.call("dvc", "remote", "add", "--default", "store", str(tmp_path_factory.mktemp("remote")))
    return project


@pytest.fixture(scope="module")
def archives(project):
    """The archives as they were, after they were added, pushed, deleted and pulled."""
    before = files(project.folder / "data")
    project.call("dvc", "add", "data")
    project.call("dvc", "push", "data.dvc")
    shutil.rmtree(project.folder / "data")
    shutil.rmtree(project.folder / ".dvc/cache")
    assert "not in cache" in project.call("dvc", "status", "data.dvc")
    project.call("dvc", "pull", "data.dvc")
    assert files(project.folder / "data") == before
    return before


@pytest.fixture(scope="module")
def reproduced(project, archives):
    """A run on the archives that were pulled, its results pushed and committed."""
    project.call("dvc", "repro")
    project.call("dvc", "push")
    project.commit()
    return project


def files(folder):
    return {str(path.relative_to(folder)): file_hash(path) for path in folder.rglob("*") if path.is_file()}


def changed(project):
    """Stage -> what DVC says is changed, over all of the project."""
    return json.loads(project.call("dvc", "status", "--json").splitlines()[0])


def test_where_nothing_ran_the_stage_is_listed_and_nothing_else(copy_project, tmp_path):
    """A bare clone: nothing records a run yet, and the room of the archives is clean."""
    bare = copy_project(tmp_path / "bare")
    bare.commit()
    ((stage, (dependencies, made)),) = changed(bare).items()
    assert stage == "demo"
    assert set(dependencies["changed deps"].values()) == {"modified"}
    assert set(made["changed outs"].values()) == {"deleted"}
    assert "up to date" in bare.call("dvc", "status", "data.dvc")


def test_a_finished_run_is_clean_and_runs_nothing(reproduced):
    assert "up to date" in reproduced.call("dvc", "status")
    assert "Stage 'demo' didn't change, skipping" in reproduced.call("dvc", "repro")
    tracked = reproduced.call("git", "ls-files").splitlines()
    assert {"data.dvc", "dvc.lock"} <= set(tracked)
    assert not [name for name in tracked if name.startswith(("data/", "results/"))]


def test_a_run_without_dvc_is_recorded_by_a_repro_that_makes_nothing(reproduced):
    """As after `make run`: the results are there, and DVC has not heard of them."""
    lock = reproduced.folder / "dvc.lock"
    recorded = lock.read_text()
    lock.unlink()
    assert list(changed(reproduced)) == ["demo"]
    assert reproduced.told(reproduced.call("dvc", "repro")) == {}
    assert changed(reproduced) == {}
    assert yaml.safe_load(lock.read_text()) == yaml.safe_load(recorded)


def test_a_clone_that_pulls_has_all_and_runs_nothing(reproduced, archives, tmp_path):
    clone = reproduced.at(tmp_path / "clone")
    reproduced.call("git", "clone", "--quiet", str(reproduced.folder), str(clone.folder))
    assert "not in cache" in clone.call("dvc", "status")
    clone.call("dvc", "pull")
    assert "up to date" in clone.call("dvc", "status")
    assert "Stage 'demo' didn't change, skipping" in clone.call("dvc", "repro")
    assert files(clone.folder / "data") == archives
    assert files(clone.folder / "results/demo") == {
        name: value for name, value in files(reproduced.folder / "results/demo").items() if not name.startswith("evaluations/")
    }


FIGURE = "results/demo/figures/accuracy_by_shot.svg"


def drawn(project, revision):
    """The figure on the page of `dvc plots`."""
    return project.read(f"dvc_plots/static/{revision}_{FIGURE.replace('/', '_')}")


def measured(project):
    return json.loads(project.read("results/demo/metrics.json"))["gap"]["as-trained"]


def test_a_changed_setting_runs_what_depends_on_it_and_the_difference_is_shown(reproduced):
    before, figure = measured(reproduced), reproduced.read(FIGURE)
    with reproduced.edited("config/config.yaml", lambda text: text.replace("  tasks: 10\n  tests", "  tasks: 60\n  tests")):
        assert "config/config.yaml" in reproduced.call("dvc", "status")
        ran = reproduced.told(reproduced.call("dvc", "repro"))
        assert ran == {"draw_episodes": 1, "evaluate": 1, "assemble": 1, "draw_figures": 1, "write_report": 1}
        assert "up to date" in reproduced.call("dvc", "status")
        after = measured(reproduced)
        (shown,) = json.loads(reproduced.call("dvc", "metrics", "diff", "--json").splitlines()[0]).values()
        changes = {name.removeprefix("gap.as-trained."): (change["old"], change["new"]) for name, change in shown.items()}
        assert changes == {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        reproduced.call("dvc", "plots", "diff")
        page = reproduced.read("dvc_plots/index.html")
        assert "http" not in page, "the figures are seen without network"
        for name in ("training_curves", "accuracy_by_shot", "paired_gains"):
            for revision in ("HEAD", "workspace"):
                assert f'src="static/{revision}_results_demo_figures_{name}.svg"' in page
        assert drawn(reproduced, "HEAD") == figure
        assert drawn(reproduced, "workspace") == reproduced.read(FIGURE) != figure


def test_a_changed_archive_makes_the_store_again(reproduced):
    picture = reproduced.folder / "data/raw/0/0.png"
    old = picture.read_bytes()
    picture.unlink()  # it may be a link into DVC's cache
    picture.write_bytes((reproduced.folder / "data/raw/1/1.png").read_bytes())
    assert "modified" in reproduced.call("dvc", "status", "data.dvc")
    assert {"prepare", "train", "evaluate"} <= set(reproduced.planned("results_only"))
    picture.write_bytes(old)
