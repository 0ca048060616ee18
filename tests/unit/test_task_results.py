import json

import numpy as np
import pandas as pd
import pytest
import torch

from fewshot.config import AS_TRAINED, parse
from fewshot.plan import Plan
from fewshot.task_results import is_current


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_config, run_stages):
    """A run whose implants have no channels, evaluated; in a folder of its own."""
    folder = tmp_path_factory.mktemp("run")
    data = tiny_config.as_dict()
    data["stage2"]["implants"]["width"] = 0
    data["stage1"]["networks"]["resnet12-dense"]["classifier"]["scale"] = 60.0
    plan = Plan(parse(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield run_stages(plan)


def test_without_implants_every_task_has_the_accuracy_of_the_network_as_trained(run):
    network = run.network("resnet12-dense", 0)
    as_trained, adapted = (
        pd.read_parquet(run.evaluation_dir(run.evaluation(network, name)) / "2shot-gap-dense.parquet")
        for name in (AS_TRAINED, "implants")
    )
    np.testing.assert_array_equal(adapted["novel"], as_trained["novel"][:10])


def test_results_are_current_only_for_their_settings_network_and_data(run, edit_record):
    job = run.evaluations[0]
    assert is_current(run, job)
    data = run.config.as_dict()
    for change in ({"scale": 3.0}, {"seed": 9}, {"part": "val"}):
        other = Plan(parse(data | {"evaluation": data["evaluation"] | change}))
        assert not is_current(other, other.evaluations[0]), change
    path = run.network_dir(job.network) / "model.json"
    text = path.read_text()
    edit_record(path, sha256="0")
    assert not is_current(run, job)
    path.write_text(text)
    assert is_current(run, job)


def test_results_on_features_that_were_made_anew_are_not_current(run, edit_record):
    job = run.evaluations[0]
    path = run.features_dir(job.network) / "features.json"
    text = path.read_text()
    edit_record(path, code="other")
    assert is_current(run, job), "the same values by other code"
    path.write_text(json.dumps(json.loads(text) | {"files": {"features.npy": "0"}}))
    assert not is_current(run, job)
    path.unlink()  # taken away: that says nothing against the results
    assert is_current(run, job)
    path.write_text(text)
    assert is_current(run, job)
    edit_record(run.evaluation_dir(job) / "settings.json", features=None)  # of an earlier version
    assert is_current(run, job)


def test_results_of_other_code_are_not_current_those_that_do_not_tell_are(run, edit_record):
    job = run.evaluations[0]
    path = run.evaluation_dir(job) / "settings.json"
    text = path.read_text()
    for code, current in (("other", False), (None, True)):
        edit_record(path, code=code)
        assert is_current(run, job) == current
    path.write_text(text)
    assert is_current(run, job)


def test_results_on_an_adaptation_that_was_made_anew_are_not_current(run, edit_record):
    job = next(job for job in run.evaluations if job.adaptation == "implants")
    assert is_current(run, job)
    path = run.adapted_dir(next(one for one in run.adaptations if one.network == job.network)) / "adapt.json"
    text = path.read_text()
    edit_record(path, seconds=0.125)
    assert not is_current(run, job)
    path.unlink()  # taken away: that says nothing against the results
    assert is_current(run, job)
    path.write_text(text)
    assert is_current(run, job)


def test_the_scale_at_testing_is_the_networks_and_recorded(run):
    network = run.network("resnet12-dense", 0)
    for name in (AS_TRAINED, "implants"):
        record = json.loads((run.evaluation_dir(run.evaluation(network, name)) / "settings.json").read_text())
        assert all(abs(setting["scale"] - 60) < 5 for setting in record["settings"])
    assert torch.get_num_threads() == 1
