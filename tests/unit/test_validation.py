from fewshot.validation import Validation


def test_validation_sees_only_validation_classes(tiny_store, tiny_plan):
    job = tiny_plan.network("resnet12-dense", 0)
    settings = job.settings.training.validation.model_copy(update={"images_per_class": 8})
    validation = Validation(tiny_store, settings, 0)
    parts = tiny_store.classes["part"].to_numpy()[tiny_store.labels[validation.rows]]
    assert (parts == "val").all()
    assert len(validation.rows) == 8 * (tiny_store.classes["part"] == "val").sum()
