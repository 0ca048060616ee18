import copy

import pytest

from fewshot.config import AS_TRAINED, ActivationMapSettings, ClassVectorSettings, NetworkSettings, parse
from fewshot.config.extension import Extension
from fewshot.errors import ConfigError
from fewshot.plan import FeaturePart, Plan

TEST, TRAINED = FeaturePart("test"), FeaturePart("trained")


def test_jobs_of_the_tiny_run(tiny_plan):
    assert [job.name for job in tiny_plan.networks] == ["c128f-gap", "resnet12-dense"]
    assert [(job.network.name, job.adaptation) for job in tiny_plan.evaluations] == [
        ("c128f-gap", AS_TRAINED), ("resnet12-dense", AS_TRAINED), ("resnet12-dense", "implants"),
    ]  # fmt: skip
    (adaptation,) = tiny_plan.adaptations
    assert (adaptation.tasks, adaptation.episodes.shot, adaptation.episodes.tasks) == (10, 2, 30)


def test_a_setting_named_twice_is_evaluated_once_for_all_its_populations(tiny_config):
    blocks = tiny_config.evaluation.tests
    again = blocks[0].model_copy(update={"populations": ("novel",), "shots": (2,)})
    evaluation = tiny_config.evaluation.model_copy(update={"tests": (again, *blocks)})
    plan = Plan(tiny_config.model_copy(update={"evaluation": evaluation}))
    keys = [setting.key for setting in plan.evaluations[0].settings]
    assert keys == ["2shot-gap-gap", "1shot-gap-gap"]
    assert plan.evaluations[0].settings[0].populations == ("novel", "base", "both")


def test_a_test_has_at_most_the_tasks_that_are_drawn(tiny_config):
    few = tiny_config.model_copy(update={"evaluation": tiny_config.evaluation.model_copy(update={"tasks": 7})})
    plan = Plan(few)
    assert {setting.tasks for job in plan.evaluations for setting in job.settings} == {7}
    assert plan.adaptations[0].tasks == 7


def test_every_seed_is_a_job_of_its_own(tiny_config):
    plan = Plan(tiny_config.model_copy(update={"seeds": (0, 5)}))
    assert len(plan.networks) == 4
    assert len({plan.network_dir(job) for job in plan.networks}) == 4
    assert len({plan.evaluation_dir(job) for job in plan.evaluations}) == 6


def test_a_network_that_nothing_names_is_not_trained(tiny_config):
    tests = tiny_config.evaluation.tests[:1]
    alone = tiny_config.model_copy(update={"evaluation": tiny_config.evaluation.model_copy(update={"tests": tests})})
    assert [job.name for job in Plan(alone).networks] == ["c128f-gap"]
    maps = ActivationMapSettings(networks=("c128f-gap", "resnet12-dense"))
    mapped = alone.model_copy(update={"activation_maps": maps})
    assert [job.name for job in Plan(mapped).networks] == ["c128f-gap", "resnet12-dense"]
    vectors = alone.model_copy(update={"class_vectors": ClassVectorSettings(network="resnet12-dense")})
    assert [job.name for job in Plan(vectors).networks] == ["c128f-gap", "resnet12-dense"]


def test_paths_of_different_settings_differ_and_those_of_equal_ones_are_shared_by_runs(tiny_config):
    plan = Plan(tiny_config)
    renamed = Plan(tiny_config.model_copy(update={"run": "other"}))
    assert plan.network_dir(plan.networks[0]) == renamed.network_dir(renamed.networks[0])
    assert plan.results != renamed.results
    larger = Plan(tiny_config.model_copy(update={"dataset": tiny_config.dataset.model_copy(update={"seed": 1})}))
    assert larger.store != plan.store


def test_names_that_no_run_defines_are_refused_with_those_that_exist(tiny_plan):
    network = tiny_plan.networks[1]
    for look_up, known in [
        (lambda: tiny_plan.network("vgg", 0), "c128f-gap-"),
        (lambda: tiny_plan.network("c128f-gap", 3), "seed 0"),
        (lambda: tiny_plan.select("vgg"), "c128f-gap, resnet12-dense"),
        (lambda: tiny_plan.adaptation(network, "x", "y"), "implants-"),
        (lambda: tiny_plan.evaluation(network, "x"), "resnet12-dense/implants"),
        (lambda: tiny_plan.episode_file("x"), "test-3way-1shot"),
        (lambda: tiny_plan.check(store="x"), "glyphs-16px-"),
        (lambda: tiny_plan.check(run="x"), "tiny"),
    ]:
        with pytest.raises(ConfigError, match=known):
            look_up()


def test_look_ups_find_what_they_name(tiny_plan):
    for job in tiny_plan.networks:
        assert tiny_plan.network(job.key, job.seed) is job
        assert tiny_plan.network(job.name, job.seed) is job
    for adaptation in tiny_plan.adaptations:
        assert tiny_plan.adaptation(adaptation.network, adaptation.key, adaptation.episodes.key) is adaptation


def test_only_a_method_that_learns_from_trained_images_takes_their_features(tiny_config):
    """And what another method takes does not change when such a one stands beside it."""
    config = tiny_config.as_dict()
    config["stage2"] = {"imprinted": {"method": "imprinting"}, "mapped": {"method": "activation_to_parameter"}}
    config["evaluation"]["tests"] = [{"networks": ["c128f-gap"], "adaptation": "imprinted"}]
    alone = Plan(parse(config))
    config["evaluation"]["tests"].append({"networks": ["c128f-gap"], "adaptation": "mapped"})
    both = Plan(parse(config))
    assert [alone.parts_read(job) for job in alone.adaptations] == [(TEST,)] * len(alone.adaptations)
    assert {(job.name, both.parts_read(job)) for job in both.adaptations} == {
        ("imprinted", (TEST,)),
        ("mapped", (TEST, TRAINED)),
    }
    assert alone.feature_parts(alone.networks[0]) == (TEST,)
    assert both.feature_parts(both.networks[0]) == (TEST, TRAINED)


def test_features_of_views_are_a_part_of_their_own_for_all_shots(tiny_config):
    config = tiny_config.as_dict()
    method = {"method": "activation_to_parameter"}
    config["stage2"] = {"mapped": method, "views": {**method, "views": 3}, "slow": {**method, "views": 3, "lr": 1e-4}}
    config["evaluation"]["tests"] = [{"networks": ["c128f-gap"], "adaptation": name} for name in config["stage2"]]
    plan = Plan(parse(config))
    (network, *_) = plan.networks
    views = FeaturePart("test", 3)
    assert len(plan.adaptations) > len(config["stage2"]), "of several shots"
    assert plan.feature_parts(network) == (TEST, TRAINED, views)
    assert {plan.parts_read(job) for job in plan.adaptations if job.name != "mapped"} == {(views, TRAINED)}
    assert [plan.features_dir(network, part).name for part in plan.feature_parts(network)] == [
        "features-test", "features-trained", "features-test-views3"
    ]  # fmt: skip
    assert FeaturePart("val", "ten_crops").name == "val-ten_crops"
    assert plan.feature_part(network, "test-views3") == views
    with pytest.raises(ConfigError, match=r"no features of part 'test-views4' of c128f-gap.*test, trained, test-views3"):
        plan.feature_part(network, "test-views4")


@pytest.mark.parametrize(
    ("method", "pooling", "pair"),
    [
        ({"method": "imprinting"}, "gap", "gap/gap"),
        ({"method": "imprinting"}, "gmp", "gmp/gmp"),
        ({"method": "activation_to_parameter"}, "gmp", "gmp/gmp"),
        ({"method": "joint_training"}, "gmp", "gap/gap"),  # takes the backbone alone
        ({"method": "joint_training"}, "dense", "gap/gap"),
        ({"method": "joint_training", "classifier": {"pooling": "gmp"}}, "gap", "gmp/gmp"),
    ],
)
def test_a_row_of_an_extended_classifier_bears_the_poolings_that_it_uses(tiny_config, method, pooling, pair):
    config = tiny_config.as_dict()
    config["stage1"]["networks"]["c128f-gap"]["classifier"]["pooling"] = pooling
    config["stage2"] = {"extended": method}
    config["evaluation"]["tests"] = [{"networks": ["c128f-gap"], "adaptation": "extended"}]
    (job,) = Plan(parse(config)).evaluations
    assert {f"{one.support_pooling}/{one.query_pooling}" for one in job.settings} == {pair}


@pytest.mark.parametrize(("pooling", "own"), [("gap", "gap"), ("gmp", "gmp"), ("flatten", "flatten"), ("dense", "gap")])
def test_a_method_of_ones_own_pools_as_the_networks_classifier(pooling, own):
    network = NetworkSettings.model_validate({"backbone": {"name": "c128f"}, "classifier": {"pooling": pooling}})
    assert Extension(method="mine").pooling(network) == own


def test_the_identity_of_a_row_changes_with_what_determines_it(tiny_plan):
    first, second = tiny_plan.evaluations[1:]
    assert tiny_plan.identity(first, first.settings[1]) != tiny_plan.identity(second, second.settings[0])
    assert tiny_plan.identity(first, first.settings[0]) != tiny_plan.identity(first, first.settings[1])


def distilled(tiny_config, **teacher_training):
    data = tiny_config.as_dict()
    networks = data["stage1"]["networks"]
    networks["resnet12-dense"]["training"].update(teacher_training)
    student = copy.deepcopy(networks["resnet12-dense"])
    student["training"]["objective"] = {"distillation": {"teacher": "resnet12-dense"}}
    networks["student"] = student
    data["evaluation"]["tests"].append({"networks": ["student"]})
    return Plan(parse(data | {"seeds": [0, 1]}))


def test_a_student_learns_from_the_teacher_of_its_seed_and_is_another_when_that_is(tiny_config):
    plan = distilled(tiny_config)
    student = plan.network("student", 1)
    assert student.teacher == plan.network("resnet12-dense", 1)
    assert student.key != distilled(tiny_config, batch_size=9).network("student", 1).key
    assert plan.network("resnet12-dense", 0).teacher is None


def test_a_teacher_that_no_test_names_is_trained_for_its_students(tiny_config):
    config = distilled(tiny_config).config
    evaluation = config.evaluation.model_copy(update={"tests": config.evaluation.tests[-1:]})
    plan = Plan(config.model_copy(update={"evaluation": evaluation}))
    assert list(dict.fromkeys(job.name for job in plan.networks)) == ["resnet12-dense", "student"]
