"""What deploy/test/fleet checks. Every step waits for what it says, and fails with the pods' logs when it does not come."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from kubelet import Api, Kubelet, Service

PROGRAM, WORK = sys.argv[1], Path(sys.argv[2])
DEPLOY = Path(__file__).resolve().parent.parent
HELM = Path(os.environ["CLUSTER_BIN"]) / "helm"
NAMESPACE, BUCKET = "fleet", "s3://bloctrain-test"
BEGUN = time.monotonic()
SPEC = ["--backend", "cpu", "--set", "network.width=4", "--set", "train.epochs=4", "--set", "train.warmup_epochs=0",
        "--set", "hard_classes.policy=bottom-k", "--set", "hard_classes.k=6"]


def seeded(seed):
    """The run of a seed. Each step has its own: blocks that an earlier run trained would be taken over from it."""
    return [*SPEC, "--set", f"run.seed={seed}"]


def say(text):
    print(f"{time.monotonic() - BEGUN:7.1f} s  {text}", flush=True)


def checked(text):
    say(f"CHECKED: {text}")


def run(*command, text=None, may_fail=False):
    answer = subprocess.run([str(part) for part in command], input=text, capture_output=True, text=True)
    if answer.returncode and not may_fail:
        raise AssertionError(f"{' '.join(map(str, command))}: {answer.stderr}")
    return answer


def kubectl(*arguments, **options):
    return run("kubectl", "--namespace", NAMESPACE, *arguments, **options)


def objects(kind, *arguments):
    return json.loads(kubectl("get", kind, "-o", "json", *arguments).stdout)["items"]


def until(what, happened, limit=180):
    end = time.monotonic() + limit
    while not (found := happened()):
        assert time.monotonic() < end, f"{what} did not happen in {limit} s"
        time.sleep(0.5)
    return found


class Fleet:
    """The chart's release, and commands to its coordinators."""

    def __init__(self, api, prefix):
        self.api, self.store = api, f"{BUCKET}/{prefix}"
        self.kubelet = Kubelet(api, NAMESPACE, PROGRAM, WORK / prefix, say)
        self.service = Service(self.kubelet, "coordinator", 7070)

    def values(self, **more):
        return {
            "store": {"url": self.store, "endpoint": os.environ["BLOCTRAIN_TEST_S3"].split(",")[0], "region": "us-east-1",
                      "existingSecret": "storage"},
            "coordinator": {"lease": "4s"},
            "pools": {
                "cpu": {"maxWorkers": 3, "graceSeconds": 10, "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
                "gpu": {"enabled": True, "maxWorkers": 2, "spot": {"enabled": True}},
            },
            "autoscaling": {"engine": "keda", "scalerAddress": self.service.address, "pollingInterval": 2,
                            "cooldownPeriod": 10, "stabilizationSeconds": 0},
            **more,
        }

    def helm(self, verb, *arguments, **more):
        file = WORK / "values.yaml"
        file.write_text(yaml.safe_dump(self.values(**more)))
        return run(HELM, verb, "bloctrain", DEPLOY / "chart", "--namespace", NAMESPACE, "--values", file, *arguments)

    def connect(self):
        """Writes what a client needs; gives its options."""
        secrets = {**self.kubelet.secret("bloctrain-tokens"), **self.kubelet.secret("bloctrain-tls")}
        for name, data in secrets.items():
            (WORK / name).write_bytes(data)
        options = {"--store": self.store, "--token-file": WORK / "operator", "--tls-ca": WORK / "ca.crt",
                   "--tls-cert": WORK / "tls.crt", "--tls-key": WORK / "tls.key",
                   "--tls-name": "bloctrain-coordinator.fleet.svc"}
        return [str(part) for pair in options.items() for part in pair]

    def bloctrain(self, *arguments):
        return run(PROGRAM, *arguments, *self.connect())

    def show(self, identity):
        return json.loads(run(PROGRAM, "show", identity, "--store", self.store, "--json").stdout)

    def replicas(self, pool):
        return json.loads(kubectl("get", "deploy", f"bloctrain-worker-{pool}", "-o", "json").stdout)["spec"]["replicas"]

    def finish(self, identity):
        """Follows a run to its end; gives the digest of its weights."""
        self.bloctrain("watch", identity, "--json")
        model = WORK / f"model-{identity}"
        script = "import sys, boto3; s = boto3.client('s3', endpoint_url=sys.argv[1]); s.download_file(*sys.argv[2:])"
        bucket, prefix = self.store.removeprefix("s3://").split("/", 1)
        python = Path.home() / ".cache/bloctrain-test-servers/moto/bin/python"
        run(python, "-c", script, os.environ["AWS_ENDPOINT"], bucket, f"{prefix}/models/{identity}/model.safetensors", model)
        return hashlib.sha256(model.read_bytes()).hexdigest()


def node(name, capacity, labels=None, taints=None):
    capacity = {"cpu": "8", "memory": "64Gi", "pods": "40", "ephemeral-storage": "500Gi", **capacity}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}}
    status = {"capacity": capacity, "allocatable": capacity}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints or []}, "status": status}


def prepare():
    """Nodes, a namespace under restricted Pod Security, the storage's Secret, the definitions of others."""
    spot = [{"key": "bloctrain.io/spot", "value": "true", "effect": "NoSchedule"},
            {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    nodes = [node("cpu-1", {}), node("cpu-2", {}), node("gpu-spot-1", {"nvidia.com/gpu": "4"}, {"spot": "true"}, spot)]
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    keys = {"AWS_ACCESS_KEY_ID": os.environ["BLOCTRAIN_TEST_S3_KEY"],
            "AWS_SECRET_ACCESS_KEY": os.environ["BLOCTRAIN_TEST_S3_SECRET"]}
    os.environ.update(keys, AWS_ENDPOINT=os.environ["BLOCTRAIN_TEST_S3"].split(",")[0], AWS_ALLOW_HTTP="true",
                      AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage", "namespace": NAMESPACE}, "stringData": keys}
    run("kubectl", "apply", "-f", "-", text=yaml.safe_dump_all([*nodes, space, secret]))
    for module, folder in (("github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds"),
                           ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd")):
        place = json.loads(run("go", "mod", "download", "-json", module).stdout)["Dir"]
        run("kubectl", "apply", "--server-side", "--filename", Path(place, folder))


def every_object_is_accepted():
    for values in sorted((DEPLOY / "test/values").glob("*.yaml")):
        text = run(HELM, "template", "--kube-version", "1.36.0", "bloctrain", DEPLOY / "chart", "--namespace", NAMESPACE, "--values", values).stdout
        answer = kubectl("apply", "--dry-run=server", "-f", "-", text=text)
        assert "Warning" not in answer.stderr, answer.stderr
        checked(f"{values.name}: the API server accepts {len(answer.stdout.splitlines())} objects, without a warning")


def pods_are_where_they_belong(fleet):
    identity = fleet.bloctrain("submit", "--backend", "cuda", *seeded(4)[2:]).stdout.strip()
    pods = until("a GPU worker is placed", lambda: [
        pod for pod in objects("pods", "--selector", "bloctrain.io/pool=gpu") if pod["spec"].get("nodeName")])
    assert {pod["spec"]["nodeName"] for pod in pods} == {"gpu-spot-1"}
    others = objects("pods", "--selector", "app.kubernetes.io/component=coordinator")
    assert {pod["spec"]["nodeName"] for pod in others} == {"cpu-1", "cpu-2"}, "one coordinator a node, none on the GPU's"
    checked("GPU workers are on the spot node with GPUs, coordinators on one node each")
    fleet.bloctrain("cancel", identity)
    until("the GPU pool is at zero", lambda: fleet.replicas("gpu") == 0)
    checked("a cancelled run's pool is back at zero")


def work_brings_workers_and_idleness_takes_them(fleet, baseline):
    assert fleet.replicas("cpu") == 0, "nothing to do"
    identity = fleet.bloctrain("submit", *seeded(1)).stdout.strip()
    until("workers come", lambda: fleet.replicas("cpu") > 0)
    checked(f"a submitted run brings the pool from 0 to {fleet.replicas('cpu')}")
    assert fleet.finish(identity) == baseline, "other weights than on one machine"
    until("workers go", lambda: fleet.replicas("cpu") == 0 and not fleet.kubelet.running("worker"))
    checked("the run ends with the weights of one machine, and the pool is at zero")


def a_budget_keeps_the_second_coordinator(fleet):
    names = [pod["metadata"]["name"] for pod in objects("pods", "--selector", "app.kubernetes.io/component=coordinator")]
    answers = []
    for name in names:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction?dryRun=All"
        answers.append(run("kubectl", "create", "--raw", path, "-f", "-", text=json.dumps(eviction), may_fail=True).returncode)
    budget = next(found for found in objects("pdb") if found["metadata"]["name"] == "bloctrain-coordinator")
    assert budget["status"]["disruptionsAllowed"] == 1 and answers == [0, 0], (budget["status"], answers)
    kubectl("patch", "pdb", "bloctrain-coordinator", "--type", "merge", "-p", '{"spec": {"maxUnavailable": 0}}')
    until("the budget is used up", lambda: next(
        found for found in objects("pdb") if found["metadata"]["name"] == "bloctrain-coordinator"
    )["status"]["disruptionsAllowed"] == 0)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": names[0], "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{names[0]}/eviction"
    refused = run("kubectl", "create", "--raw", path, "-f", "-", text=json.dumps(eviction), may_fail=True)
    assert refused.returncode and "disruption budget" in refused.stderr, refused.stderr
    checked("the coordinators' budget lets one go at a time, and refuses an eviction that is one too many")


def preempt_a_node(fleet):
    """Takes the node of a worker away, with everything on it, and gives it back when it is empty."""
    worker = until("a worker runs", lambda: fleet.kubelet.running("worker"))[0].name
    node = kubectl("get", "pod", worker, "-o", "jsonpath={.spec.nodeName}").stdout
    run("kubectl", "taint", "node", node, "example.org/preempted=now:NoExecute")
    until(f"{node} is empty", lambda: not objects("pods", "--field-selector", f"spec.nodeName={node}"))
    run("kubectl", "taint", "node", node, "example.org/preempted-")
    say(f"{node}, with {worker} on it, was preempted")


def upgrades_and_preemption_break_nothing(fleet, baseline):
    identity = fleet.bloctrain("submit", *seeded(2)).stdout.strip()
    until("a worker works", lambda: fleet.show(identity)["blocks"] and fleet.kubelet.running("worker"))
    fleet.helm("upgrade", coordinator={"lease": "4s", "podAnnotations": {"example.org/roll": "1"}})
    until("new coordinators run", lambda: len(fleet.kubelet.running("coordinator")) == 2)
    preempt_a_node(fleet)
    run(HELM, "rollback", "bloctrain", "1", "--namespace", NAMESPACE)
    assert fleet.finish(identity) == baseline, "other weights than undisturbed"
    assert not fleet.kubelet.killed, f"killed for want of time: {fleet.kubelet.killed}"
    checked("an upgrade, a preempted worker and a rollback in the middle of a run: the same weights, nobody was killed")


def everything_is_deleted_but_the_bucket(api, fleet, baseline):
    identity = fleet.bloctrain("submit", *seeded(3)).stdout.strip()
    until("a round is committed", lambda: any(block["rounds"] for block in fleet.show(identity)["blocks"]))
    run(HELM, "uninstall", "bloctrain", "--namespace", NAMESPACE)
    kubectl("delete", "secret", "bloctrain-tokens", "bloctrain-tls")
    until("every pod is gone", lambda: not objects("pods"))
    fleet.kubelet.end()
    again = Fleet(api, "main")
    again.kubelet.folder = WORK / "again"
    again.kubelet.start()
    again.service.start()
    again.helm("install")
    until("a coordinator runs", lambda: again.kubelet.running("coordinator"))
    assert again.finish(identity) == baseline, "other weights than undisturbed"
    checked("everything was deleted but the bucket; installed again, the run went on and has the same weights")
    return again


def weights_alone(seed):
    """Digest of the weights of a run in one process."""
    store = WORK / f"alone-{seed}"
    train = run(PROGRAM, "train", "--json", "--store", store, *seeded(seed)[2:])
    model = store / "models" / json.loads(train.stdout)["run"] / "model.safetensors"
    return hashlib.sha256(model.read_bytes()).hexdigest()


def show_scaling():
    """What the control plane says of who was started and stopped, and why."""
    columns = "custom-columns=TIME:.lastTimestamp,KIND:.involvedObject.kind,NAME:.involvedObject.name,REASON:.reason,MESSAGE:.message"
    for line in kubectl("get", "events", "--sort-by=.lastTimestamp", "-o", columns, "--no-headers").stdout.splitlines():
        if any(kind in line for kind in (" Deployment ", " HorizontalPodAutoscaler ", " ScaledObject ")):
            print(line)


def main():
    prepare()
    every_object_is_accepted()
    alone = {seed: weights_alone(seed) for seed in (1, 2, 3)}
    checked("three runs in one process each, to compare weights with")
    fleet = Fleet(Api(os.environ["KUBECONFIG"]), "main")
    fleet.kubelet.start()
    fleet.service.start()
    try:
        fleet.helm("install")
        until("two coordinators run", lambda: len(fleet.kubelet.running("coordinator")) == 2)
        until("one of them is active", lambda: run(PROGRAM, "status", *fleet.connect(), may_fail=True).returncode == 0)
        work_brings_workers_and_idleness_takes_them(fleet, alone[1])
        pods_are_where_they_belong(fleet)
        a_budget_keeps_the_second_coordinator(fleet)
        upgrades_and_preemption_break_nothing(fleet, alone[2])
        fleet = everything_is_deleted_but_the_bucket(fleet.api, fleet, alone[3])
    except BaseException:
        for log in sorted(WORK.glob("*/*/log")):
            print(f"--- {log.parent.name}\n" + "".join(log.read_text().splitlines(True)[-15:]))
        raise
    finally:
        fleet.kubelet.end()
    show_scaling()
    say("all checks passed")


if __name__ == "__main__":
    main()
