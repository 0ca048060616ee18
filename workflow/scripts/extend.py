from fewshot import stages
from fewshot.job import job

if __name__ == "__main__":
    with job(snakemake.config, snakemake.log[0]) as plan:
        network = plan.network(snakemake.wildcards.network, int(snakemake.wildcards.seed))
        adaptation = plan.adaptation(network, snakemake.wildcards.adaptation, snakemake.wildcards.episodes)
        stages.extend(plan, adaptation, threads=snakemake.threads)
