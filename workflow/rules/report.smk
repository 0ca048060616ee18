"""Results for people: tables beside the published numbers, figures, and what the HTML report shows of them."""


rule assemble:
    input:
        evaluations=evaluations,
        networks=all_network_files,
        adapted=all_adapted_files,
        store=store_meta,
        published="config/published.csv",
    output:
        summary=report(
            "results/{run}/summary.csv",
            caption="../report/summary.rst",
            category="Tables",
            labels={"table": "all settings, one row each"},
        ),
        paired=report(
            "results/{run}/paired.csv",
            caption="../report/paired.rst",
            category="Tables",
            labels={"table": "paired differences"},
        ),
        seeds=report(
            "results/{run}/seeds.csv",
            caption="../report/seeds.rst",
            category="Tables",
            labels={"table": "means over seeds"},
        ),
        metrics="results/{run}/metrics.json",
        done=touch("results/{run}/assembled"),
        tables=report(
            directory("results/{run}/tables"),
            patterns=["{table}.html"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        "logs/assemble/{run}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        settings=run_settings,
        code=job_code.pages("assembly"),
    script:
        "../scripts/assemble.py"


rule write_report:
    input:
        tables=tables,
        figures=figures,
        evaluations=evaluations,
        networks=all_network_files,
        adapted=all_adapted_files,
        store=store_meta,
        published="config/published.csv",
    output:
        report(
            "results/{run}/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "the whole run"},
        ),
    log:
        "logs/write_report/{run}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        settings=run_settings,
        code=job_code.pages("page"),
    script:
        "../scripts/write_report.py"


rule draw_figures:
    input:
        assembled="results/{run}/assembled",
        evaluations=evaluations,
        networks=all_network_files,
        adapted=all_adapted_files,
        store=store_meta,
        published="config/published.csv",
    output:
        report(
            "results/{run}/figures/training_curves.svg",
            caption="../report/training_curves.rst",
            category="Figures",
            labels={"figure": "training curves"},
        ),
        report(
            "results/{run}/figures/accuracy_by_shot.svg",
            caption="../report/accuracy_by_shot.rst",
            category="Figures",
            labels={"figure": "accuracy by shot"},
        ),
        report(
            "results/{run}/figures/published_vs_measured.svg",
            caption="../report/published_vs_measured.rst",
            category="Figures",
            labels={"figure": "published against measured"},
        ),
        report(
            "results/{run}/figures/paired_gains.svg",
            caption="../report/paired_gains.rst",
            category="Figures",
            labels={"figure": "paired gains"},
        ),
        expand("results/{{run}}/figures/{name}.csv", name=drawings.FIGURES["draw_figures"]),
    log:
        "logs/draw_figures/{run}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        settings=run_settings,
        code=job_code.figures("plots"),
    script:
        "../scripts/draw_figures.py"


rule draw_activation_maps:
    input:
        store=store_files,
        networks=mapped_networks,
    output:
        report(
            "results/{run}/figures/activation_maps.png",
            caption="../report/activation_maps.rst",
            category="Figures",
            labels={"figure": "class activation maps"},
        ),
        "results/{run}/figures/activation_maps.csv",
        report(
            "results/{run}/figures/map_statistics.svg",
            caption="../report/map_statistics.rst",
            category="Figures",
            labels={"figure": "class activation maps in numbers"},
        ),
        "results/{run}/figures/map_statistics.csv",
        done=touch("results/{run}/figures/activation_maps.drawn"),
    log:
        "logs/draw_activation_maps/{run}.log",
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        gpu=gpus,
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        settings=map_settings,
        code=job_code.figures("activation_maps"),
    script:
        "../scripts/draw_activation_maps.py"


rule draw_class_vectors:
    input:
        store=store_files,
        network=vector_network,
    output:
        report(
            "results/{run}/figures/class_vectors.svg",
            caption="../report/class_vectors.rst",
            category="Figures",
            labels={"figure": "classes by activations and by parameters"},
        ),
        "results/{run}/figures/class_vectors.csv",
        done=touch("results/{run}/figures/class_vectors.drawn"),
    log:
        "logs/draw_class_vectors/{run}.log",
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        gpu=gpus,
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        settings=vector_settings,
        code=job_code.figures("class_vectors"),
    script:
        "../scripts/draw_class_vectors.py"


rule draw_distance_figures:
    input:
        assembled="results/{run}/assembled",
        evaluations=evaluations,
        networks=all_network_files,
        store=store_meta,
        published="config/published.csv",
    output:
        report(
            "results/{run}/figures/distance_histograms.svg",
            caption="../report/distance_histograms.rst",
            category="Figures",
            labels={"figure": "gradients and distances in training on tasks"},
        ),
        report(
            "results/{run}/figures/leak_sweep.svg",
            caption="../report/leak_sweep.rst",
            category="Figures",
            labels={"figure": "accuracy by s and r"},
        ),
        expand("results/{{run}}/figures/{name}.csv", name=drawings.FIGURES["draw_distance_figures"]),
    log:
        "logs/draw_distance_figures/{run}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        settings=run_settings,
        code=job_code.figures("distance_figures"),
    script:
        "../scripts/draw_distance_figures.py"


rule draw_low_shot_figures:
    input:
        assembled="results/{run}/assembled",
        evaluations=evaluations,
        networks=all_network_files,
        predictions=all_extended_files,
        episodes=all_episode_files,
        store=store_images,
        published="config/published.csv",
    output:
        report(
            "results/{run}/figures/finetuning_curves.svg",
            caption="../report/finetuning_curves.rst",
            category="Figures",
            labels={"figure": "accuracy by epoch of fine-tuning"},
        ),
        report(
            "results/{run}/figures/low_shot_accuracy.svg",
            caption="../report/low_shot_accuracy.rst",
            category="Figures",
            labels={"figure": "accuracy by exemplars"},
        ),
        report(
            "results/{run}/figures/embedding_size.svg",
            caption="../report/embedding_size.rst",
            category="Figures",
            labels={"figure": "accuracy by width of the embedding"},
        ),
        report(
            "results/{run}/figures/exemplars.png",
            caption="../report/exemplars.rst",
            category="Figures",
            labels={"figure": "exemplars by recall"},
        ),
        expand("results/{{run}}/figures/{name}.csv", name=drawings.FIGURES["draw_low_shot_figures"]),
    log:
        "logs/draw_low_shot_figures/{run}.log",
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        settings=run_settings,
        code=job_code.figures("low_shot_figures"),
    script:
        "../scripts/draw_low_shot_figures.py"
