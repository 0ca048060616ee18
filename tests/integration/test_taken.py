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


def packed(project) -> list[str]:
    """The archives of the run, packed now."""
    project.call("fewshot", "pack", "config/config.yaml", "--out", "packed")
    return [str(path) for path in sorted((project.folder / "packed/demo").iterdir())]


def test_adapters_that_were_checked_out_anew_make_nothing_again(project):
    for path in (project.folder / "workflow/scripts").iterdir():
        path.touch()
    assert project.planned("results_only") == {}


def test_networks_carried_over_those_of_other_code_are_not_trained_again(project):
    """Snakemake's notes are of the networks that were here before; those of the archives are of the present code, say."""
    archives = packed(project)
    with project.edited("src/fewshot/base_training.py", lambda text: text + "\nCHANGED = 1\n"):
        assert project.planned("results_only")["train"] == 2
        project.call("fewshot", "take", *archives)
        assert "train" not in project.planned("results_only")
        said = project.call("snakemake", "--cores", "1", "--forcerun", "train", "--", "results_only", ok=False)
    assert "results carried here, of network gap, which is to be trained again; delete that folder" in said
    assert not [line for line in said.splitlines() if line.startswith(("rule ", "Traceback"))], "nothing was begun"


def test_results_carried_over_a_finished_run_are_not_made_again(project):
    project.call("fewshot", "take", *packed(project))
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


def test_a_student_and_its_teacher_that_were_carried_here_are_not_trained_again(copy_project, tiny, tmp_path):
    """Also where the teacher comes last, as in the order of the alphabet."""
    networks = tiny["stage1"]["networks"]
    dense = networks["dense"] | {"training": {"objective": {"distillation": {"teacher": "gap"}}}}
    settings = {"stage1": tiny["stage1"] | {"networks": {"gap": networks["gap"], "dense": dense}}}
    away = copy_project(tmp_path / "away", **settings)
    away.call(*RUN, "--until", "train")
    archives = packed(away)
    assert "network-dense" in archives[0]
    home = copy_project(tmp_path / "home", **settings)
    home.call("fewshot", "prepare", "config/config.yaml")
    assert home.planned("results_only")["train"] == 2
    home.call("fewshot", "take", *archives)
    assert "train" not in home.planned("results_only")
    home.call("fewshot", "take", archives[1])
    assert "train" not in home.planned("results_only")
