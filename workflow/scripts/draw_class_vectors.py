from fewshot import stages
from fewshot.job import job

if __name__ == "__main__":
    with job(snakemake.config, snakemake.log[0]) as plan:
        stages.draw_class_vectors(plan)
