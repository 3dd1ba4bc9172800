"""kubectl wait, on the real API server, ends for those states that are ready and for no other."""

import json

from support.kubernetes import Cluster
from unit.controller.gitops_states import STATES, TABLE


def test_kubectl_wait_ends_for_what_is_ready(cluster: Cluster, namespace: str) -> None:
    names = {state.replace(" ", "-"): state for state in STATES}
    for name, state in names.items():
        image = STATES[state]()
        spec, status, generation = image["spec"], image["status"], image["metadata"]["generation"]
        del image["status"]
        image["metadata"] = {"name": name, "namespace": namespace}
        if generation > 1:
            image["spec"] = {**spec, "suspend": False, "packages": ["before"]}
        cluster.do("create", "-f", "-", given=image)
        if status.get("conditions"):
            cluster.set_status("niximage", name, namespace, status)
        if generation > 1:
            patch = json.dumps({"spec": spec})
            cluster.do("patch", "niximage", name, "-n", namespace, "--type=merge", "-p", patch)
    wait = ("wait", "niximages", "--all", "-n", namespace, "--for=condition=Ready", "--timeout=0")
    said = cluster.run(*wait).stdout
    met = {names[line.partition(" ")[0].partition("/")[2]] for line in said.splitlines()}
    assert met == {state for state, (_, waits, _) in TABLE.items() if waits}
