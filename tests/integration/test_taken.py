"""What `fewshot` made or carried here, as Snakemake sees it: nothing is made twice, and nothing of other settings is taken."""

import pytest
import yaml

pytestmark = pytest.mark.slow
RUN = ("fewshot", "run", "config/config.yaml", "--threads", "1")
TABLES = {"assemble", "draw_figures", "write_report"}


@pytest.fixture(scope="module")
def project(copy_project, tmp_path_factory):
    """A finished run that Snakemake holds to be its own."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    project.call(*RUN)
    (project.folder / "results/demo/assembled").touch()
    (project.folder / "results/demo/figures/activation_maps.drawn").touch()
    project.call("snakemake", "--cores", "1", "--touch", "--forceall", "results_only")
    assert project.planned("results_only") == {}
    return project


def test_results_carried_over_a_finished_run_are_not_made_again(project):
    project.call("fewshot", "pack", "config/config.yaml", "--out", "packed")
    project.call("fewshot", "take", *(f"packed/{path.name}" for path in (project.folder / "packed").iterdir()))
    planned = project.planned("results_only")
    assert set(planned) >= TABLES
    assert not {"prepare", "draw_episodes", "train", "extract", "adapt", "evaluate"} & set(planned)
    before = project.read("results/demo/summary.csv")
    project.call("snakemake", "--cores", "1", "--until", "assemble")
    assert project.read("results/demo/summary.csv") == before
    assert "assemble" not in project.planned("results_only")


def test_results_that_the_command_line_made_of_other_settings_are_not_taken(copy_project, tmp_path):
    """Without Snakemake's own notes on what they were made from."""
    project = copy_project(tmp_path)
    project.call(*RUN)
    own = TABLES | {"draw_activation_maps"}
    assert set(project.planned("results_only")) == own, "Snakemake knows of no other tables and maps than its own"
    settings = yaml.safe_load(project.read("config/config.yaml"))
    settings["evaluation"]["scale"] = 20
    with project.edited("config/config.yaml", lambda _: yaml.safe_dump(settings)):
        planned = project.planned("results_only")
        assert planned["evaluate"] == 3
        assert set(planned) == own | {"evaluate"}
        project.call(*RUN)
    # And back again: what was made last is of other settings.
    assert project.planned("results_only")["evaluate"] == 3
