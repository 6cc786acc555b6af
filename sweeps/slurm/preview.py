"""`ablate plan STUDY cluster=slurm --script`: what a submission would hand to `sbatch`, without handing it over."""

from __future__ import annotations

from collections.abc import Iterator

from ablative.study.core.errors import ConfigError
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import job_code
from ablative.sweeps.slurm import cluster, executor, layout, script
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import choose, new_stamp, prefix


def scripts(plan: Plan) -> Iterator[str]:
    """One text for each call, with the script below it. On a cluster, what it would refuse is refused here too."""
    if plan.cluster.kind != "slurm":
        raise ConfigError(
            f"--script: cluster={plan.cluster.name} has no batch scripts; choose one such as cluster=slurm"
        )
    code = job_code.current(plan)
    choice = choose(plan, survey(plan), code.digest)
    if not choice.new:
        yield "# nothing to submit"
        return
    stamp = new_stamp()
    if cluster.installed():
        arrays = executor.arrange(plan, choice.queue, choice.ids, 0, prefix(plan, stamp)).arrays
    else:
        yield "# SLURM is not installed here: limits are its own defaults, and nothing is checked against a cluster"
        holders: dict[str, str] = {}
        most = cluster.MAX_ARRAY_SIZE - 1
        arrays = layout.arrange(plan, choice.queue, choice.ids, holders, prefix(plan, stamp), most, cluster.MAX_JOBS)
    submission = plan.home.study(plan.study.name).submission(stamp)
    where = code.environment(plan.home)
    ids = {array.name: f"<job id of call {number}>" for number, array in enumerate(arrays, 1)}
    for number, array in enumerate(arrays, 1):
        tasks, elements = sum(map(len, array.elements)), sum(map(bool, array.elements))
        nodes, processes = array.cluster["nodes"], array.cluster["nodes"] * max(1, array.cluster["tasks"])
        spread = f", each task in {processes} processes on {nodes} nodes" if processes > 1 else ""
        yield f"# call {number} of {len(arrays)}: sbatch <script>: {elements} elements, {tasks} tasks{spread}"
        yield script.text(plan.home, submission, array, where, script.dependency(array, ids))
