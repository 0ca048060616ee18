"""MLflow mirrors what the files say: written after them, one writer at a time, read by nobody here."""


rule init_tracking:
    output:
        "results/{run}/tracking/initialised.json",
    log:
        "logs/init_tracking/{run}.log",
    conda:
        "../envs/tracking.yaml"
    resources:
        mlflow=1,
    params:
        uri=public_uri(),
        experiment=experiment_name(),
        settings=run_settings,
        code=job_code.tracking(),
    script:
        "../scripts/init_tracking.py"


rule track:
    input:
        ready="results/{run}/tracking/initialised.json",
        network=network_files,
        adapted=tracked_adaptations,
        evaluations=tracked_evaluations,
    output:
        "results/{run}/tracking/{network_name}/seed{seed}.json",
    log:
        "logs/track/{run}/{network_name}/seed{seed}.log",
    conda:
        "../envs/tracking.yaml"
    resources:
        mlflow=1,
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=job_code.tracking(),
    script:
        "../scripts/track.py"
