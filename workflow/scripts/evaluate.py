from fewshot import stages
from fewshot.job import job

if __name__ == "__main__":
    with job(snakemake.config, snakemake.log[0]) as plan:
        network = plan.network(snakemake.wildcards.network_name, int(snakemake.wildcards.seed))
        evaluation = plan.evaluation(network, snakemake.wildcards.adaptation)
        stages.evaluate(plan, evaluation, threads=snakemake.threads)
