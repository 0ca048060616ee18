"""Stage 2: adapt a network to each task, and keep what it then makes of the task's images."""


rule adapt:
    input:
        store=store_files,
        network=network_files,
        episodes=tested_episodes,
    output:
        expand(
            "resources/{{store}}/networks/{{network}}/seed{{seed}}/adapted/{{adaptation}}/{{episodes}}-first{{tasks}}/{file}",
            file=ADAPTED,
        ),
    log:
        "logs/adapt/{store}/{network}/seed{seed}/{adaptation}/{episodes}-first{tasks}.log",
    benchmark:
        "logs/benchmarks/adapt/{store}/{network}/seed{seed}/{adaptation}/{episodes}-first{tasks}.tsv"
    conda:
        "../envs/core.yaml"
    threads: share_of_cores(len(PLAN.adaptations))
    resources:
        gpu=gpus,
        mem_mb=growing(16000),
        runtime=720,
    params:
        settings=adaptation_settings,
        code=adaptation_code,
    script:
        "../scripts/adapt.py"


rule extend:
    input:
        store=store_files,
        network=network_files,
        features=read_feature_files,
        episodes=tested_episodes,
    output:
        expand(
            "resources/{{store}}/networks/{{network}}/seed{{seed}}/extended/{{adaptation}}/{{episodes}}-first{{tasks}}/{file}",
            file=EXTENDED,
        ),
    log:
        "logs/extend/{store}/{network}/seed{seed}/{adaptation}/{episodes}-first{tasks}.log",
    benchmark:
        "logs/benchmarks/extend/{store}/{network}/seed{seed}/{adaptation}/{episodes}-first{tasks}.tsv"
    conda:
        "../envs/core.yaml"
    threads: share_of_cores(len(PLAN.adaptations))
    resources:
        gpu=gpus,
        mem_mb=growing(16000, of_input=1),
        runtime=720,
    params:
        settings=adaptation_settings,
        code=extension_code,
    script:
        "../scripts/extend.py"
