"""Typed settings of a run: the only home of defaults. Unknown keys are refused.

`workflow/schemas/config.schema.json` is generated from here (`fewshot schema`). A key is described where it is defined; a
test holds `config/README.md` against it.
"""

from fewshot.config.base import GlobalPooling, Name, Pooling, Population, Settings, Share, content_hash, merge
from fewshot.config.datasets import (
    CifarFsSettings,
    CubSettings,
    DatasetSettings,
    Fc100Settings,
    FolderSettings,
    GlyphsSettings,
    MiniImageNetSettings,
    OmniglotSettings,
)
from fewshot.config.evaluation import (
    ActivationMapSettings,
    AdaptationSettings,
    EvaluatedSettings,
    EvaluationSettings,
    ImplantingSettings,
)
from fewshot.config.networks import (
    Area,
    AugmentationSettings,
    BackboneSettings,
    C128FSettings,
    ClassifierSettings,
    Conv64Settings,
    NetworkSettings,
    OptimizerSettings,
    ResNet12Settings,
    ScheduleSettings,
    Stage1Settings,
    TrainingSettings,
    ValidationSettings,
    Widths,
)
from fewshot.config.run import RunConfig, load, parse, schema

__all__ = [
    "ActivationMapSettings",
    "AdaptationSettings",
    "Area",
    "AugmentationSettings",
    "BackboneSettings",
    "C128FSettings",
    "CifarFsSettings",
    "ClassifierSettings",
    "Conv64Settings",
    "CubSettings",
    "DatasetSettings",
    "EvaluatedSettings",
    "EvaluationSettings",
    "Fc100Settings",
    "FolderSettings",
    "GlobalPooling",
    "GlyphsSettings",
    "ImplantingSettings",
    "MiniImageNetSettings",
    "Name",
    "NetworkSettings",
    "OmniglotSettings",
    "OptimizerSettings",
    "Pooling",
    "Population",
    "ResNet12Settings",
    "RunConfig",
    "ScheduleSettings",
    "Settings",
    "Share",
    "Stage1Settings",
    "TrainingSettings",
    "ValidationSettings",
    "Widths",
    "content_hash",
    "load",
    "merge",
    "parse",
    "schema",
]
