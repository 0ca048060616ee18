"""Images in: the store that everything else reads, and the tasks that every compared setting shares."""


rule prepare:
    input:
        raw=raw_files,
        split=split_file,
    output:
        expand("resources/{{store}}/images/{file}", file=STORE),
    log:
        "logs/prepare/{store}.log",
    benchmark:
        "logs/benchmarks/prepare/{store}.tsv"
    conda:
        "../envs/core.yaml"
    threads: 64
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=store_settings,
        raw=raw_state,
        code=job_code.preparation(PLAN.config.dataset),
    script:
        "../scripts/prepare.py"


rule draw_episodes:
    input:
        store_of_episodes,
    output:
        "resources/{store}/episodes/{episodes}.npz",
    log:
        "logs/draw_episodes/{store}/{episodes}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(15),
    params:
        code=job_code.episodes(),
    script:
        "../scripts/draw_episodes.py"
