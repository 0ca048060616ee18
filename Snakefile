"""The pipeline, from image archives to few-shot tables, figures and a report.

`snakemake --cores all` makes the embedded demonstration run of config/config.yaml. Another run takes its place, whole:
`snakemake --cores all --configfile config/runs/fc100.yaml`. Single keys are laid over either: `--config device=cpu`.
"""

from snakemake.utils import min_version

min_version("9.10")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/files.smk"
include: "workflow/rules/parameters.smk"


report: "workflow/report/workflow.rst"


# Compute nodes need not reach MLflow's server.
localrules:
    init_tracking,
    track,


onstart:
    require_before_start()


rule all:
    default_target: True
    input:
        everything,


rule results_only:
    input:
        results,


rule track_all:
    input:
        tracked,


include: "workflow/rules/data.smk"
include: "workflow/rules/stage1.smk"
include: "workflow/rules/stage2.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/tracking.smk"
