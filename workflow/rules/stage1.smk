"""Stage 1: train a network on the base classes, and compute the features of the images it is tested on."""


rule train:
    input:
        store=store_files,
        teacher=teacher_files,
        weights=weights_file,
    output:
        expand("resources/{{store}}/networks/{{network}}/seed{{seed}}/{file}", file=NETWORK),
    log:
        "logs/train/{store}/{network}/seed{seed}.log",
    benchmark:
        "logs/benchmarks/train/{store}/{network}/seed{seed}.tsv"
    conda:
        "../envs/core.yaml"
    threads: share_of_cores(len(PLAN.networks))
    resources:
        gpu=gpus,
        mem_mb=growing(12000, of_input=1),
        runtime=1440,
    params:
        settings=network_settings,
        weights=weights_hash,
        code=training_code,
    script:
        "../scripts/train.py"


rule extract:
    input:
        store=store_files,
        network=network_files,
    output:
        expand(
            "resources/{{store}}/networks/{{network}}/seed{{seed}}/features-{{part}}/{file}",
            file=FEATURES,
        ),
    log:
        "logs/extract/{store}/{network}/seed{seed}/{part}.log",
    benchmark:
        "logs/benchmarks/extract/{store}/{network}/seed{seed}/{part}.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        gpu=gpus,
        # The features of 12,000 images of 84 px, which are held whole, take 13,500 MB of WRN-28-10.
        mem_mb=growing(16000, of_input=2),
        runtime=growing(60),
    params:
        code=extraction_code,
    script:
        "../scripts/extract.py"
