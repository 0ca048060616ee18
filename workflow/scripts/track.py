from fewshot import tracking
from fewshot.job import job

if __name__ == "__main__":
    with job(snakemake.config, snakemake.log[0]) as plan:
        tracking.track(plan, plan.network(snakemake.wildcards.network_name, int(snakemake.wildcards.seed)))
