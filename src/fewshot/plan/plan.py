"""From a run's settings to its jobs and their paths: the only home of the folder layout.

What runs may share lies under `resources/<store>/`, keyed by the hash of the settings that made it: the image store, the
episodes, the trained networks, their features, the adapted features. What belongs to one run lies under `results/<run>/`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from fewshot.config import (
    AS_TRAINED,
    EvaluatedSettings,
    EvaluationSettings,
    QueryPooling,
    RunConfig,
    SupportPooling,
    content_hash,
)
from fewshot.config.extension import Extension
from fewshot.errors import ConfigError
from fewshot.plan.jobs import AdaptationJob, EpisodeJob, EvaluatedSetting, EvaluationJob, FeaturePart, NetworkJob


class Plan:
    """The jobs of a run. Look-ups by wildcard raise ConfigError with the names that exist."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        dataset = config.dataset
        size = f"{dataset.image_size}px" if dataset.image_size else "own-size"
        self.store = f"{dataset.name}-{size}-{dataset.key()}"
        self.networks = self._networks()
        self.evaluations = self._evaluations()
        self.adaptations = self._adaptations()

    # --- jobs -----------------------------------------------------------------------------------------------------

    def episodes(self, shot: int) -> EpisodeJob:
        """The episode file of a number of shots."""
        settings: EvaluationSettings = self.config.evaluation
        return EpisodeJob(settings.way, shot, settings.queries, settings.tasks, settings.part, settings.seed)

    def _networks(self) -> tuple[NetworkJob, ...]:
        """The networks that a test or a figure of networks names, and their teachers; no others are trained."""
        found: dict[tuple[str, int], NetworkJob] = {}
        for name, settings in self.config.stage1.networks.items():
            for seed in self.config.seeds:
                distillation = settings.training.distillation
                teacher = found[distillation.teacher, seed] if distillation else None
                # A student is another one when its teacher is.
                key = content_hash([settings.identity(), teacher.key])[:10] if teacher else settings.key()
                found[name, seed] = NetworkJob(name, f"{name}-{key}", seed, settings, teacher)
        maps, vectors = self.config.activation_maps, self.config.class_vectors
        used = {name for test in self.config.evaluation.tests for name in test.networks}
        used |= {*(maps.networks if maps else ()), *([vectors.network] if vectors else ())}
        for job in reversed(found.values()):  # a teacher stands before its students
            if job.name in used and job.teacher is not None:
                used.add(job.teacher.name)
        return tuple(job for job in found.values() if job.name in used)

    def _evaluations(self) -> tuple[EvaluationJob, ...]:
        evaluation = self.config.evaluation
        found: dict[tuple[str, str], dict[str, EvaluatedSetting]] = {}
        for test in evaluation.tests:
            for network in test.networks:
                rows = found.setdefault((network, test.adaptation or AS_TRAINED), {})
                for shot in test.shots or evaluation.shots:
                    for pair in self._poolings(test, network):
                        support, query = cast(tuple[SupportPooling, QueryPooling], tuple(pair.split("/")))
                        tasks = min(test.tasks or evaluation.tasks, evaluation.tasks)
                        setting = EvaluatedSetting(shot, tasks, support, query, test.populations)
                        known = rows.get(setting.key)
                        if known is not None:  # two blocks name the same setting: one row with all their populations
                            populations = tuple(dict.fromkeys(known.populations + test.populations))
                            setting = EvaluatedSetting(shot, max(known.tasks, setting.tasks), support, query, populations)
                        rows[setting.key] = setting
        return tuple(
            EvaluationJob(job, adaptation, tuple(rows.values()))
            for (network, adaptation), rows in found.items()
            for job in self.networks
            if job.name == network
        )

    def _poolings(self, test: EvaluatedSettings, network: str) -> tuple[str, ...]:
        """Those of a test; of a method that extends the classifier its own on both sides, which no test chooses."""
        settings = self.config.stage2[test.adaptation] if test.adaptation is not None else None
        if not isinstance(settings, Extension):
            return test.poolings
        pooling = settings.pooling(self.config.stage1.networks[network])
        return (f"{pooling}/{pooling}",)

    def _adaptations(self) -> tuple[AdaptationJob, ...]:
        jobs = []
        for evaluation in self.evaluations:
            if evaluation.adaptation == AS_TRAINED:
                continue
            settings = self.config.stage2[evaluation.adaptation]
            key = f"{evaluation.adaptation}-{settings.key()}"
            for shot in evaluation.shots:
                tasks = max(setting.tasks for setting in evaluation.settings if setting.shot == shot)
                jobs.append(AdaptationJob(evaluation.network, evaluation.adaptation, key, self.episodes(shot), tasks, settings))
        return tuple(jobs)

    @property
    def evaluated_part(self) -> FeaturePart:
        """The features of the images that tasks name, each as it is."""
        return FeaturePart(self.config.evaluation.part)

    def feature_parts(self, job: NetworkJob) -> tuple[FeaturePart, ...]:
        """What a network's features are computed of: the evaluated part, and what its adaptations read beside it."""
        evaluated = (self.evaluated_part,) if any(one.network == job for one in self.evaluations) else ()
        learnt = (part for made in self.adaptations if made.network == job for part in self.parts_read(made))
        return tuple(dict.fromkeys((*evaluated, *learnt)))

    def parts_read(self, job: AdaptationJob) -> tuple[FeaturePart, ...]:
        """What an extension of the classifier reads of its network's features: of what it tests, and of what it learns from."""
        tested = replace(self.evaluated_part, views=job.settings.views_of_tested)
        return (tested, *((FeaturePart("trained"),) if job.settings.learns_from_trained else ()))

    # --- look-ups by wildcard -------------------------------------------------------------------------------------

    def check(self, *, store: str | None = None, run: str | None = None) -> None:
        """Refuse a store or a run that this config does not define.

        Raises:
            ConfigError: names the one that it defines.
        """
        if store is not None and store != self.store:
            raise ConfigError(f"no store {store!r} in this run; its store is {self.store}")
        if run is not None and run != self.config.run:
            raise ConfigError(
                f"no run {run!r} in this config; its run is {self.config.run} (other runs: --configfile config/runs/<run>.yaml)"
            )

    def select(self, name: str | None = None, seed: int | None = None) -> tuple[NetworkJob, ...]:
        """The training jobs of a network's name (None: of all) and a seed (None: all).

        Raises:
            ConfigError: there is none.
        """
        found = tuple(job for job in self.networks if name in (None, job.name) and seed in (None, job.seed))
        if not found:
            names = ", ".join(dict.fromkeys(job.name for job in self.networks))
            which = f"{name or 'at all'}" + ("" if seed is None else f" with seed {seed}")
            seeds = ", ".join(map(str, self.config.seeds))
            raise ConfigError(f"no network {which} in run {self.config.run}; it has the networks {names} and the seeds {seeds}")
        return found

    def network(self, key: str, seed: int) -> NetworkJob:
        """The training job with this key (`<name>-<hash>`) or this name, and this seed.

        Raises:
            ConfigError: there is none; names those that there are.
        """
        for job in self.networks:
            if key in (job.key, job.name) and job.seed == seed:
                return job
        known = ", ".join(f"{job.key} (seed {job.seed})" for job in self.networks)
        raise ConfigError(f"no network {key!r} with seed {seed} in run {self.config.run}; it has {known}")

    def feature_part(self, job: NetworkJob, name: str) -> FeaturePart:
        """The part of a network's features with this name.

        Raises:
            ConfigError: there is none; names those that there are.
        """
        parts = {part.name: part for part in self.feature_parts(job)}
        if name not in parts:
            known = ", ".join(parts) or "none"
            raise ConfigError(f"no features of part {name!r} of {job.name} in run {self.config.run}; it has {known}")
        return parts[name]

    def adaptation(self, network: NetworkJob, key: str, episodes: str) -> AdaptationJob:
        """The adaptation job with this key (`<name>-<hash>`) or name on this network and episode file.

        Raises:
            ConfigError: there is none; names those that there are.
        """
        for job in self.adaptations:
            if job.network == network and key in (job.key, job.name) and job.episodes.key == episodes:
                return job
        known = ", ".join(f"{job.key} on {job.network.key}, {job.episodes.key}" for job in self.adaptations) or "none"
        raise ConfigError(f"no adaptation {key!r} of {network.key} on {episodes} in run {self.config.run}; it has {known}")

    def evaluation(self, network: NetworkJob, adaptation: str) -> EvaluationJob:
        """The evaluation job of this network, as trained or adapted.

        Raises:
            ConfigError: there is none; names those that there are.
        """
        for job in self.evaluations:
            if job.network == network and job.adaptation == adaptation:
                return job
        known = ", ".join(f"{job.network.name}/{job.adaptation}" for job in self.evaluations)
        raise ConfigError(f"run {self.config.run} does not evaluate {network.name}/{adaptation}; it has {known}")

    def episode_file(self, key: str) -> EpisodeJob:
        """The episode job with this key.

        Raises:
            ConfigError: there is none; names those that there are.
        """
        for shot in self.config.evaluation.shots:
            if self.episodes(shot).key == key:
                return self.episodes(shot)
        known = ", ".join(self.episodes(shot).key for shot in self.config.evaluation.shots)
        raise ConfigError(f"no episodes {key!r} in run {self.config.run}; it has {known}")

    def identity(self, job: EvaluationJob, setting: EvaluatedSetting) -> dict[str, Any]:
        """Everything that determines a row of summary.csv, less the data: what its run_key is made of."""
        adaptation = self.config.stage2[job.adaptation].identity() if job.adaptation != AS_TRAINED else None
        return {
            "run": self.config.run, "network": job.network.settings.identity(), "seed": job.network.seed,
            **({"teacher": job.network.teacher.key} if job.network.teacher else {}),
            "adaptation": adaptation, "setting": asdict(setting), "episodes": asdict(self.episodes(setting.shot)),
            "scale": self.config.evaluation.scale,
        }  # fmt: skip

    def settings_key(self, job: EvaluationJob) -> str:
        """Hash of everything that determines the rows of a job, less the images themselves."""
        return content_hash([self.store, *(self.identity(job, setting) for setting in job.settings)])[:10]

    # --- paths, relative to the project's root ----------------------------------------------------------------------

    @property
    def resources(self) -> Path:
        """Folder of what runs share."""
        return Path("resources") / self.store

    @property
    def results(self) -> Path:
        """Folder of the run."""
        return Path("results") / self.config.run

    @property
    def assembled_path(self) -> Path:
        """Snakemake's mark that the tables are its own."""
        return self.results / "assembled"

    def drawn_path(self, figure: str) -> Path:
        """Snakemake's mark that a figure which it draws from networks, not from the tables, is its own."""
        return self.results / "figures" / f"{figure}.drawn"

    @property
    def store_dir(self) -> Path:
        """Folder of the image store."""
        return self.resources / "images"

    def episodes_path(self, job: EpisodeJob) -> Path:
        """Episode file."""
        return self.resources / "episodes" / f"{job.key}.npz"

    def network_dir(self, job: NetworkJob) -> Path:
        """Folder of model.safetensors, model.json and metrics.jsonl."""
        return self.resources / "networks" / job.key / f"seed{job.seed}"

    def features_dir(self, job: NetworkJob, part: FeaturePart | None = None) -> Path:
        """Folder of a network's features, of the evaluated part or of another of `feature_parts`."""
        return self.network_dir(job) / f"features-{(part or self.evaluated_part).name}"

    def adapted_dir(self, job: AdaptationJob) -> Path:
        """Folder of adapted features, or of what an extended classifier predicts."""
        kind = "adapted" if job.settings.gives == "features" else "extended"
        return self.network_dir(job.network) / kind / job.key / f"{job.episodes.key}-first{job.tasks}"

    def evaluation_dir(self, job: EvaluationJob) -> Path:
        """Folder of one parquet file a setting (`<setting key>.parquet`) and settings.json; other settings, another folder."""
        name = f"seed{job.network.seed}-{self.settings_key(job)}"
        return self.results / "evaluations" / job.network.name / job.adaptation / name

    def benchmark_path(self, rule: str, *names: str) -> Path:
        """What Snakemake measures of a job (seconds, memory); not there when it was made without Snakemake."""
        return Path("logs", "benchmarks", rule, *names[:-1], f"{names[-1]}.tsv")
