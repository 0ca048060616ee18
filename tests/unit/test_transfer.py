import copy
import io
import json
import tarfile

import pytest
from typer.testing import CliRunner

from fewshot import stages
from fewshot.cli import app
from fewshot.config import parse
from fewshot.errors import ConfigError, DataError
from fewshot.files import read_json, write_json
from fewshot.plan import Plan
from fewshot.taken import adaptation_folder, evaluation_folder, is_taken, require_kept
from fewshot.transfer import pack, take


@pytest.fixture(scope="module")
def packed(tmp_path_factory, tiny_config, run_stages):
    """A whole tiny run made in one folder, and its archives."""
    folder = tmp_path_factory.mktemp("away")
    plan = Plan(tiny_config)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(DataError, match="nothing is complete yet"):
            pack(plan, folder / "early")
        run_stages(plan)
        archives = pack(plan, folder / "out")
    return plan, folder, archives


@pytest.fixture
def home(tmp_path, packed, monkeypatch):
    """The project's folder at home, with the store prepared there."""
    monkeypatch.chdir(tmp_path)
    stages.prepare(packed[0], workers=1)
    return tmp_path


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_taken_before_the_store_is_there(packed, tmp_path, monkeypatch):
    """Made later, it would be newer than the networks, and Snakemake would train those again."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no image store here yet; `fewshot prepare` first, then take \(nothing was taken\)"):
        take(packed[2])
    assert files(tmp_path) == set()


def test_what_was_packed_is_taken_up_in_its_place(packed, home):
    plan, away, archives = packed
    assert [path.name for path in archives] == [
        "network-c128f-gap-seed0.tar.gz", "network-resnet12-dense-seed0.tar.gz", "results.tar.gz",
    ]  # fmt: skip
    before = files(home)
    taken, placed = take(archives)
    assert taken.config == plan.config
    assert {str(path) for path in placed} == files(home) - before
    for job in plan.networks:
        for name in ("model.safetensors", "model.json", "metrics.jsonl"):
            assert (home / plan.network_dir(job) / name).read_bytes() == (away / plan.network_dir(job) / name).read_bytes()
    for evaluation in plan.evaluations:
        assert is_taken(plan, evaluation)
        assert stages.evaluated(plan, evaluation)
        assert not (home / plan.evaluation_dir(evaluation)).exists(), "the place of what is made here"
        assert files(home / evaluation_folder(plan, evaluation)) == files(away / plan.evaluation_dir(evaluation))
    (adaptation,) = plan.adaptations
    assert files(home / adaptation_folder(plan, adaptation)) == {"adapt.json", "metrics.jsonl"}
    again = {path.name: path for path in pack(plan, home / "again")}
    assert contents(again["results.tar.gz"]) == contents(archives[-1])


def contents(archive):
    with tarfile.open(archive) as packed:
        return {member.name: packed.extractfile(member).read() for member in packed}


def test_what_is_made_here_later_takes_the_place_of_what_was_taken(packed, home):
    plan, _, archives = packed
    take(archives)
    job = plan.evaluations[0]
    for shot in plan.config.evaluation.shots:
        stages.draw_episodes(plan, plan.episodes(shot))
    stages.extract(plan, job.network, plan.evaluated_part)
    stages.evaluate(plan, job)
    assert evaluation_folder(plan, job) == plan.evaluation_dir(job)
    assert [path.name for path in plan.evaluation_dir(job).parent.iterdir() if path.is_dir()] == [plan.evaluation_dir(job).name]


def test_results_of_another_network_than_the_one_here_do_not_count(packed, home):
    plan, _, archives = packed
    take(archives)
    job = plan.evaluations[0]
    path = plan.network_dir(job.network) / "model.json"
    write_json(path, read_json(path) | {"sha256": "0" * 64})
    assert not is_taken(plan, job)
    assert evaluation_folder(plan, job) == plan.evaluation_dir(job)


def test_the_command_says_every_archive_once(packed, monkeypatch):
    plan, away, archives = packed
    monkeypatch.chdir(away)
    (away / "run.yaml").write_text(json.dumps(plan.config.as_dict()))
    done = CliRunner().invoke(app, ["pack", "run.yaml", "--out", "again"], catch_exceptions=False)
    assert done.exit_code == 0
    lines = [line for line in done.output.splitlines() if "again/" in line]
    assert [line.partition(":")[0] for line in lines] == [f"again/tiny/{path.name}" for path in archives]


def test_two_runs_in_one_folder_do_not_take_each_others_place(packed, monkeypatch):
    plan, away, archives = packed
    monkeypatch.chdir(away)
    data = plan.config.as_dict() | {"run": "other"}
    kept = [path.read_bytes() for path in archives]
    other = pack(Plan(parse(data)), away / "out")  # its networks are those of the first; no results of its own
    assert {path.parent for path in other} == {away / "out" / "other"}
    assert [path.read_bytes() for path in archives] == kept


def test_results_of_other_settings_are_not_the_ones_taken(packed, home):
    plan, _, archives = packed
    take(archives)
    data = plan.config.as_dict()
    data["evaluation"]["tasks"] = 20
    other = Plan(parse(data))
    assert not is_taken(other, other.evaluations[0])


def test_archives_may_come_one_by_one_but_results_not_before_their_network(packed, home):
    plan, _, archives = packed
    before = files(home)
    with pytest.raises(DataError, match=r"results of c128f-gap: of a network that is not here"):
        take(archives[-1:])
    assert files(home) == before
    for path in archives:
        take([path])
    assert is_taken(plan, plan.evaluations[0])


def changed(archive, out, change):
    with tarfile.open(archive, "r:gz") as source, tarfile.open(out, "w:gz") as target:
        for member in source.getmembers():
            content = change(member, source.extractfile(member).read())
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return out


def test_a_changed_network_is_refused_and_nothing_is_written(packed, home):
    _, _, archives = packed
    before = files(home)

    def flip(member, content):
        return content[:-1] + bytes([content[-1] ^ 1]) if member.name.endswith(".safetensors") else content

    with pytest.raises(DataError, match=r"model\.safetensors: damaged .*nothing was taken"):
        take([changed(archives[0], home / "x.tar.gz", flip)])
    (home / "x.tar.gz").unlink()
    assert files(home) == before


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "resources/evil", "src/fewshot/plan/plan.py"])
def test_a_file_that_the_run_does_not_make_is_refused(packed, home, name):
    _, _, archives = packed
    before = files(home)

    def rename(member, content):
        if member.name.endswith("metrics.jsonl"):
            member.name = name
        return content

    path = changed(archives[0], home / "x.tar.gz", rename)
    with pytest.raises(DataError, match=r"is not of run tiny; nothing was taken|path; refused, get the archive"):
        take([path])
    path.unlink()
    assert files(home) == before


def test_a_link_is_refused(packed, home):
    _, _, archives = packed
    with tarfile.open(archives[0], "r:gz") as source, tarfile.open(home / "x.tar.gz", "w:gz") as target:
        for member in source.getmembers():
            if member.name.endswith("metrics.jsonl"):
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
    with pytest.raises(DataError, match=r"x\.tar\.gz: member .* is a link; refused"):
        take([home / "x.tar.gz"])


def test_a_cut_archive_none_and_those_of_other_images_or_runs_are_refused(packed, home):
    plan, _, archives = packed
    (home / "cut.tar.gz").write_bytes(archives[0].read_bytes()[:1000])
    with pytest.raises(DataError, match=r"cut\.tar\.gz: not a whole archive"):
        take([home / "cut.tar.gz"])
    with pytest.raises(DataError, match=r"no\.tar\.gz: no such archive"):
        take([home / "no.tar.gz"])
    with pytest.raises(ConfigError, match="no archives to take"):
        take([])

    def other_run(member, content):
        return json.dumps(json.loads(content) | {"run": "other"}).encode() if member.name == "run.json" else content

    with pytest.raises(ConfigError, match="several runs: other, tiny"):
        take([archives[0], changed(archives[0], home / "other.tar.gz", other_run)])

    def other_settings(member, content):
        data = json.loads(content) if member.name == "run.json" else None
        return content if data is None else json.dumps(data | {"title": "Edited"}).encode()

    with pytest.raises(ConfigError, match="several settings of run tiny; take those of one `fewshot pack`"):
        take([archives[0], changed(archives[0], home / "edited.tar.gz", other_settings)])
    meta = home / plan.store_dir / "meta.json"
    write_json(meta, read_json(meta) | {"data_hash": "0" * 64})
    with pytest.raises(DataError, match="of other images than those of"):
        take(archives)


def test_records_are_taken_after_the_files_that_they_vouch_for(packed, home):
    """Cut off in between, a folder has no record and is made again."""
    _, placed = take(packed[2])
    names = {folder: [path.name for path in placed if path.parent == folder] for folder in {path.parent for path in placed}}
    last = sorted(found[-1] for found in names.values())
    assert last == ["adapt.json", "model.json", "model.json", "settings.json", "settings.json", "settings.json"]
    assert all(len(found) > 1 for found in names.values())


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, tiny_config, run_stages):
    """A student whose folder and archive stand before its teacher's in the alphabet: the run, and the archives of both."""
    data = tiny_config.as_dict()
    networks = data["stage1"]["networks"]
    networks["apprentice"] = copy.deepcopy(networks["c128f-gap"])
    networks["apprentice"]["training"]["objective"]["distillation"] = {"teacher": "c128f-gap"}
    networks.pop("resnet12-dense")
    data |= {"stage2": {}, "evaluation": data["evaluation"] | {"tests": [{"networks": ["apprentice", "c128f-gap"]}]}}
    plan = Plan(parse(data))
    folder = tmp_path_factory.mktemp("distilled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stages(plan, last="train")
        return plan, sorted(pack(plan, folder / "out"))


def times(plan, name):
    """Of the oldest and the newest file of a network that is here, nanoseconds."""
    folder = plan.network_dir(plan.network(name, 0))
    found = [path.stat().st_mtime_ns for path in folder.iterdir()]
    return min(found), max(found)


@pytest.mark.parametrize("together", [True, False])
def test_a_student_is_not_older_than_the_teacher_taken_with_it_or_after_it(distilled, home, together):
    """It would be trained again, for its teacher's files are among what it is made of."""
    plan, archives = distilled
    assert [path.name for path in archives] == ["network-apprentice-seed0.tar.gz", "network-c128f-gap-seed0.tar.gz"]
    for some in [archives] if together else [[path] for path in archives]:
        take(some)
    assert times(plan, "apprentice")[0] >= times(plan, "c128f-gap")[1]


def test_a_student_of_another_teacher_than_the_one_taken_is_left_to_be_trained_again(distilled, home, edit_record):
    plan, archives = distilled
    take(archives[:1])
    edit_record(plan.network_dir(plan.network("apprentice", 0)) / "model.json", teacher={"name": "c128f-gap", "sha256": "0"})
    take(archives[1:])
    assert times(plan, "apprentice")[1] < times(plan, "c128f-gap")[0]


def test_only_networks_with_results_carried_here_may_not_be_trained_again(packed, home):
    plan, _, archives = packed
    take(archives)
    require_kept(plan, [])
    with pytest.raises(DataError, match=r"results carried here, of network c128f-gap, which is to be trained again"):
        require_kept(plan, plan.networks[:1])
