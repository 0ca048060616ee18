from fewshot import stages
from fewshot.job import job

if __name__ == "__main__":
    with job(snakemake.config, snakemake.log[0]) as plan:
        network = plan.network(snakemake.wildcards.network, int(snakemake.wildcards.seed))
        stages.extract(plan, network, plan.feature_part(network, snakemake.wildcards.part), threads=snakemake.threads)
