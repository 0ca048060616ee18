"""Evaluation: the accuracy of every task, for every setting of one network."""


rule evaluate:
    input:
        store=store_files,
        network=network_files,
        features=feature_files,
        episodes=episode_files,
        adapted=adapted_files,
    output:
        directory("results/{run}/evaluations/{network_name}/{adaptation}/seed{seed}-{settings}"),
    log:
        "logs/evaluate/{run}/{network_name}/{adaptation}/seed{seed}-{settings}.log",
    benchmark:
        "logs/benchmarks/evaluate/{run}/{network_name}/{adaptation}/seed{seed}-{settings}.tsv"
    conda:
        "../envs/core.yaml"
    threads: 1
    resources:
        gpu=gpus,
        mem_mb=growing(8000, of_input=1),
        runtime=growing(60),
    params:
        code=job_code.evaluation(),
    script:
        "../scripts/evaluate.py"
