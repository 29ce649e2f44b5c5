"""What deploy/test/fleet checks. Every step waits for what it says, and fails with the pods' logs when it does not
come.

FLEET_PATIENCE stretches every wait, for a machine that is busy with other work (default 1).
"""

import collections
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml
from kubelet import Api, Kubelet, Nodes, Service

PROGRAM, WORK = sys.argv[1], Path(sys.argv[2])
DEPLOY = Path(__file__).resolve().parent.parent
CHART = DEPLOY / "chart"
HELM = Path(os.environ["CLUSTER_BIN"]) / "helm"
BUCKET = "s3://bloctrain-test"
ENDPOINT = os.environ["BLOCTRAIN_TEST_S3"].split(",")[0]
KEYS = {
    "AWS_ACCESS_KEY_ID": os.environ["BLOCTRAIN_TEST_S3_KEY"],
    "AWS_SECRET_ACCESS_KEY": os.environ["BLOCTRAIN_TEST_S3_SECRET"],
}
PATIENCE = float(os.environ.get("FLEET_PATIENCE", "1"))
WAIT = ["--wait", "--timeout", f"{int(300 * PATIENCE)}s"]
BEGUN = time.monotonic()
SPEC = [
    "--backend",
    "cpu",
    "--set",
    "network.width=4",
    "--set",
    "train.warmup_epochs=0",
    "--set",
    "hard_classes.policy=bottom-k",
    "--set",
    "hard_classes.k=6",
]


def seeded(seed, epochs):
    """The run of a seed. Each step has its own: blocks that an earlier run trained would be taken over from it."""
    return [*SPEC, "--set", f"run.seed={seed}", "--set", f"train.epochs={epochs}"]


# What is submitted, by the step that submits it.
THREE_VALUES, LONG, RESUMED = seeded(1, 1), seeded(2, 10), seeded(3, 4)
SIDE_BY_SIDE = [seeded(seed, 2) for seed in (4, 5, 6)]


def say(text):
    print(f"{time.monotonic() - BEGUN:7.1f} s  {text}", flush=True)


def checked(text):
    say(f"CHECKED: {text}")


def run(*command, text=None, may_fail=False, env=None):
    answer = subprocess.run(
        [str(part) for part in command], input=text, capture_output=True, text=True, env=env, timeout=1200 * PATIENCE
    )
    if answer.returncode and not may_fail:
        raise AssertionError(f"{' '.join(map(str, command))}: {answer.stderr}")
    return answer


def until(what, happened, limit=180):
    end = time.monotonic() + limit * PATIENCE
    while not (found := happened()):
        assert time.monotonic() < end, f"{what}: did not happen in {limit * PATIENCE} s"
        time.sleep(0.5)
    return found


def weights(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Fleet:
    """A release of the chart in a namespace of its own, and commands to its coordinators."""

    def __init__(self, api, namespace):
        self.namespace, self.store = namespace, f"{BUCKET}/{namespace}"
        self.kubelet = Kubelet(api, namespace, PROGRAM, WORK / namespace, say, KEYS)
        self.service = Service(self.kubelet, "coordinator", 7070)
        self.create_namespace()
        self.kubelet.start()
        self.service.start()

    def create_namespace(self):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage", "namespace": self.namespace}}
        run(
            "kubectl",
            "apply",
            "-f",
            "-",
            text=yaml.safe_dump_all([space(self.namespace), {**secret, "stringData": KEYS}]),
        )

    def kubectl(self, *arguments, **options):
        return run("kubectl", "--namespace", self.namespace, *arguments, **options)

    def objects(self, kind, *arguments):
        return json.loads(self.kubectl("get", kind, "-o", "json", *arguments).stdout)["items"]

    def pods(self, component):
        return self.objects("pods", "--selector", f"app.kubernetes.io/component={component}")

    def helm(self, verb, *arguments, **options):
        return run(HELM, verb, "bloctrain", *arguments, "--namespace", self.namespace, **options)

    def values(self, **more):
        """A file with the values of a fleet that KEDA starts and stops."""
        file = WORK / "values.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "store": {
                        "url": self.store,
                        "endpoint": ENDPOINT,
                        "region": "us-east-1",
                        "existingSecret": "storage",
                    },
                    "coordinator": {"lease": "10s"},
                    "pools": {
                        "cpu": {"maxWorkers": 3, "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
                        "gpu": {
                            "enabled": True,
                            "maxWorkers": 2,
                            "spot": {"enabled": True},
                            "nodeSelector": {"spot": "true"},
                        },
                    },
                    "autoscaling": {
                        "engine": "keda",
                        "scalerAddress": self.service.address,
                        "pollingInterval": 2,
                        "cooldownPeriod": 10,
                        "stabilizationSeconds": 0,
                    },
                    **more,
                }
            )
        )
        return file

    def bloctrain(self, *arguments, **options):
        """A command in a coordinator's container, as with `kubectl exec deploy/bloctrain-coordinator`."""
        pod = until("a coordinator is ready", lambda: self.kubelet.ready("coordinator"))[0]
        return run(PROGRAM, *arguments, env=pod.environment, **options)

    def submit(self, specification):
        identity = self.bloctrain("submit", *specification).stdout.strip()
        say(f"submitted {identity} to {self.namespace}")
        return identity

    def show(self, identity):
        return json.loads(self.bloctrain("show", identity, "--json").stdout)

    def trains(self, identity):
        """Rounds of training that are committed, as long as the run goes on."""
        view = self.show(identity)
        assert view["state"]["state"] == "running", f"{identity} should still go on: {view['state']}"
        return sum(block["rounds"] for block in view["blocks"])

    def replicas(self, pool):
        deployment = self.kubectl("get", "deploy", f"bloctrain-worker-{pool}", "-o", "json").stdout
        return json.loads(deployment)["spec"].get("replicas", 1)

    def active(self):
        """The pod of the active coordinator."""
        for pod in self.kubelet.ready("coordinator"):
            if run(PROGRAM, "health", f"{pod.ip}:9090", "--is", "active", may_fail=True).returncode == 0:
                return pod
        return None

    def ended(self):
        """Pods that ended by themselves, apart from workers for GPUs, which find none here."""
        return [name for name in self.kubelet.restarted if "-worker-gpu-" not in name]

    def finish(self, identity):
        """Follows a run to its end; gives the digest of its weights."""
        self.bloctrain("watch", identity, "--json")
        model = WORK / f"model-{identity}"
        script = "import sys, boto3; s = boto3.client('s3', endpoint_url=sys.argv[1]); s.download_file(*sys.argv[2:])"
        bucket, prefix = self.store.removeprefix("s3://").split("/", 1)
        python = Path.home() / ".cache/bloctrain-test-servers/moto/bin/python"
        environment = {**os.environ, **KEYS, "AWS_DEFAULT_REGION": "us-east-1"}
        run(
            python,
            "-c",
            script,
            ENDPOINT,
            bucket,
            f"{prefix}/models/{identity}/model.safetensors",
            model,
            env=environment,
        )
        return weights(model)

    def nothing_was_lost(self, identity):
        """Every task of a run was committed once, and no round was begun a second time."""
        log = self.bloctrain("logs", identity).stdout
        (WORK / f"log-{identity}").write_text(log)
        committed = collections.Counter(re.findall(r"(\S+/\d+) on \S+ committed", log))
        assert committed and set(committed.values()) == {1}, committed
        lost = [line for line in log.splitlines() if re.search(r"lost|fail|expired|restart", line)]
        assert not lost, "\n".join(lost)
        handed_back = [line for line in log.splitlines() if " committed" not in line and " handed out" not in line]
        return len(committed), handed_back[:-1]


def space(name):
    """A namespace under restricted Pod Security."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def node(name, capacity, labels=None, taints=()):
    capacity = {"cpu": "16", "memory": "64Gi", "pods": "40", "ephemeral-storage": "500Gi", **capacity}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}}
    status = {"capacity": capacity, "allocatable": capacity}
    spec = {"taints": [{"key": key, "value": "true", "effect": "NoSchedule"} for key in taints]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": status}


def prepare():
    """Nodes, and the definitions of others."""
    gpus, spot, gpu_taint, spot_taint = {"nvidia.com/gpu": "4"}, {"spot": "true"}, "nvidia.com/gpu", "bloctrain.io/spot"
    nodes = [
        node("cpu-1", {}),
        node("cpu-2", {}),
        node("cpu-spot-1", {}, spot, [spot_taint]),
        node("gpu-1", gpus, {}, [gpu_taint]),
        node("gpu-spot-1", gpus, spot, [gpu_taint, spot_taint]),
    ]
    run("kubectl", "apply", "-f", "-", text=yaml.safe_dump_all(nodes))
    for module, folder in (
        ("github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds"),
        ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd"),
    ):
        place = json.loads(run("go", "mod", "download", "-json", module).stdout)["Dir"]
        run("kubectl", "apply", "--server-side", "--filename", Path(place, folder))


def every_object_is_accepted():
    """Dry run on the server, then in earnest in namespaces where a quota keeps pods away."""
    rendered = {"the plain manifests": ("bloctrain", run("kubectl", "kustomize", DEPLOY / "kustomize").stdout)}
    for values in sorted((DEPLOY / "test/values").glob("*.yaml")):
        text = run(
            HELM,
            "template",
            "--kube-version",
            "1.36.0",
            "bloctrain",
            CHART,
            "--namespace",
            f"accept-{values.stem}",
            "--values",
            values,
        ).stdout
        rendered[values.name] = (f"accept-{values.stem}", text)
    for name, (namespace, text) in rendered.items():
        run("kubectl", "apply", "-f", "-", text=yaml.safe_dump(space(namespace)))
        run("kubectl", "--namespace", namespace, "create", "quota", "no-pods", "--hard=pods=0")
        for how, options in (("dry run", ["--dry-run=server"]), ("applied", [])):
            answer = run("kubectl", "--namespace", namespace, "apply", *options, "-f", "-", text=text)
            assert "Warning" not in answer.stderr, answer.stderr
            checked(
                f"{name}, {how}: the API server accepts {len(answer.stdout.splitlines())} objects, without a warning"
            )
        run("kubectl", "delete", "namespace", namespace, "--wait=false")


def alone(*specifications):
    """Digests of the weights of runs in one process each."""
    found = []
    for specification in specifications:
        store = WORK / f"alone-{len(list(WORK.glob('alone-*')))}"
        train = run(PROGRAM, "train", "--json", "--store", store, *specification[2:])
        found.append(weights(store / "models" / json.loads(train.stdout)["run"] / "model.safetensors"))
    return found


def three_values_are_enough(api):
    """What the guide says first, and what it says of a wrong value."""
    fleet = Fleet(api, "three")
    given = ["--set", f"store.url={fleet.store}", "--set", f"store.endpoint={ENDPOINT}"]
    for wrong, named in (
        (["--set", "pools.cpu.wrokers=2"], "wrokers"),
        (["--set", "pools.cpu.workers=two"], "workers"),
        (["--set", "store.url=bucket"], "url"),
        (["--set", "store.endpoint=minio:9000"], "endpoint"),
    ):
        answer = fleet.helm("install", CHART, *given, *wrong, may_fail=True)
        assert answer.returncode and named in answer.stderr, answer.stderr
        line = next(line.strip() for line in answer.stderr.splitlines() if named in line)
        checked(f"helm install {' '.join(wrong)} is refused: {line}")
    refused = a_missing_bucket_is_named(fleet)
    checked(f"a bucket that is not there: the pods do not get ready, and say {refused}")
    fleet.helm("install", CHART, *given, "--set", "pools.cpu.workers=2", *WAIT)
    workers = until(
        "two workers are registered",
        lambda: (
            [worker for worker in json.loads(fleet.bloctrain("workers", "--json").stdout)] if fleet.active() else []
        ),
    )
    until("two workers are registered", lambda: len(json.loads(fleet.bloctrain("workers", "--json").stdout)) == 2)
    assert workers
    identity = fleet.submit(THREE_VALUES)
    assert fleet.finish(identity) == alone(THREE_VALUES)[0], "other weights than in one process"
    assert not fleet.ended(), f"ended by themselves: {fleet.ended()}"
    checked(
        "helm install with bucket, endpoint and pool size: all pods ready, two workers, "
        "a run with the weights of one process"
    )
    a_budget_keeps_the_last(fleet, "coordinator")
    a_budget_keeps_the_last(fleet, "worker")
    fleet.helm("uninstall")
    until("every pod is gone", lambda: not fleet.objects("pods"))
    fleet.kubelet.end()


def a_missing_bucket_is_named(fleet):
    fleet.helm("install", CHART, "--set", "store.url=s3://no-such-bucket/fleet", "--set", f"store.endpoint={ENDPOINT}")
    until("a coordinator ends", lambda: fleet.kubelet.restarted)
    pod = next(pod for pod in fleet.kubelet.running("coordinator") if pod.name in fleet.kubelet.restarted)
    line = until(
        "it says why",
        lambda: [line for line in (pod.folder / "log").read_text().splitlines() if "no-such-bucket" in line],
    )[-1]
    assert not fleet.kubelet.ready("coordinator")
    fleet.helm("uninstall")
    until("every pod is gone", lambda: not fleet.objects("pods"))
    fleet.kubelet.restarted.clear()
    return line


def evict(fleet, name):
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": fleet.namespace}}
    path = f"/api/v1/namespaces/{fleet.namespace}/pods/{name}/eviction"
    return run("kubectl", "create", "--raw", path, "-f", "-", text=json.dumps(eviction), may_fail=True)


def a_budget_keeps_the_last(fleet, component):
    """Of two pods one may be evicted, and the other not before a new one is ready."""
    name = {"coordinator": "bloctrain-coordinator", "worker": "bloctrain-worker-cpu"}[component]

    def allowed():
        return json.loads(fleet.kubectl("get", "pdb", name, "-o", "json").stdout)["status"]["disruptionsAllowed"]

    until("one may go", lambda: allowed() == 1)
    first, second = [pod["metadata"]["name"] for pod in fleet.pods(component)]
    answer = evict(fleet, first)
    assert answer.returncode == 0, answer.stderr
    refused = evict(fleet, second)
    assert refused.returncode and "disruption budget" in refused.stderr, refused.stderr
    until("one may go again", lambda: allowed() == 1)
    assert fleet.objects("pods", "--field-selector", f"metadata.name={second}"), "the second one stayed"
    checked(
        f"two {component}s, one evicted: the other's eviction is refused until there are two again: "
        f"{refused.stderr.strip()}"
    )


def work_brings_workers_and_idleness_takes_them(fleet):
    until("KEDA sees that there is nothing to do", lambda: fleet.replicas("cpu") == fleet.replicas("gpu") == 0)
    identities = [fleet.submit(specification) for specification in SIDE_BY_SIDE]
    until("three workers come", lambda: fleet.replicas("cpu") == 3)
    checked("three submitted runs bring the pool from 0 to 3")
    until("three workers are ready", lambda: len(fleet.kubelet.ready("worker")) == 3)
    nodes = {pod["spec"]["nodeName"] for pod in fleet.pods("worker")}
    assert nodes == {"cpu-1", "cpu-2"}, f"neither on spot nodes nor on those with GPUs, and spread: {nodes}"
    coordinators = [pod["spec"]["nodeName"] for pod in fleet.pods("coordinator")]
    assert sorted(coordinators) == ["cpu-1", "cpu-2"], f"one coordinator a node: {coordinators}"
    checked("workers are on the nodes without taints, coordinators on one node each")
    for identity, baseline in zip(identities, alone(*SIDE_BY_SIDE)):
        assert fleet.finish(identity) == baseline, "other weights than in one process"
        tasks, _ = fleet.nothing_was_lost(identity)
        say(f"{identity}: {tasks} tasks, each committed once")
    until(
        "workers go",
        lambda: fleet.replicas("cpu") == 0 and not fleet.objects("pods", "--selector", "bloctrain.io/pool=cpu"),
    )
    assert not fleet.kubelet.killed and not fleet.ended(), (fleet.kubelet.killed, fleet.ended())
    checked("the runs end with the weights of one process, no task was lost, and the pool is at zero")


def gpu_workers_are_where_they_belong(fleet):
    identity = fleet.submit(["--backend", "cuda", *seeded(7, 1)[2:]])
    pods = until(
        "a GPU worker is placed",
        lambda: [
            pod for pod in fleet.objects("pods", "--selector", "bloctrain.io/pool=gpu") if pod["spec"].get("nodeName")
        ],
    )
    assert {pod["spec"]["nodeName"] for pod in pods} == {"gpu-spot-1"}
    limits = pods[0]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1", limits
    checked("a run for GPUs brings a worker with a GPU onto the spot node with GPUs")
    fleet.bloctrain("cancel", identity)
    until("the GPU pool is at zero", lambda: fleet.replicas("gpu") == 0)
    checked("a cancelled run's pool is back at zero")


def preempt_a_node(fleet):
    """Takes the node of a worker away, with everything on it, and gives it back when it is empty."""
    worker = until("a worker runs", lambda: fleet.kubelet.ready("worker"))[0]
    say(f"{worker.node}, with {worker.name} on it, is preempted")
    run("kubectl", "taint", "node", worker.node, "example.org/preempted=now:NoExecute")
    until(
        f"{worker.node} is empty", lambda: not fleet.objects("pods", "--field-selector", f"spec.nodeName={worker.node}")
    )
    run("kubectl", "taint", "node", worker.node, "example.org/preempted-")
    until("a worker is ready elsewhere", lambda: [pod for pod in fleet.kubelet.ready("worker") if pod is not worker])


def a_run_outlives_everything(fleet, baseline):
    identity = fleet.submit(LONG)
    until("a round is committed", lambda: fleet.trains(identity) > 0)
    rolled = {"podAnnotations": {"example.org/roll": "1"}}
    fleet.helm(
        "upgrade", CHART, "--values", fleet.values(coordinator={"lease": "10s", **rolled}, poolDefaults=rolled), *WAIT
    )
    checked(f"helm upgrade rolled coordinators and workers; the run goes on, at round {fleet.trains(identity)}")
    preempt_a_node(fleet)
    checked(f"a node was preempted; the run goes on, at round {fleet.trains(identity)}")
    fleet.kubectl("rollout", "restart", "deploy/bloctrain-coordinator")
    fleet.kubectl("rollout", "status", "deploy/bloctrain-coordinator", f"--timeout={int(300 * PATIENCE)}s")
    checked(f"the coordinators were rolled; the run goes on, at round {fleet.trains(identity)}")
    fleet.helm("rollback", "1", *WAIT)
    until("old coordinators are gone", lambda: len(fleet.pods("coordinator")) == 2)
    coordinators = [pod["spec"]["nodeName"] for pod in fleet.pods("coordinator")]
    assert len(set(coordinators)) == 2, f"one coordinator a node, after it as well: {coordinators}"
    checked(f"helm rollback rolled all of it again; the run goes on, at round {fleet.trains(identity)}")
    assert not fleet.ended(), f"ended by themselves: {fleet.ended()}"
    killed = until("a coordinator is active", fleet.active)
    say(f"{killed.name} is active, and gets SIGKILL")
    killed.process.kill()
    assert fleet.finish(identity) == baseline, "other weights than undisturbed"
    assert not fleet.kubelet.killed, f"killed for want of time: {fleet.kubelet.killed}"
    tasks, notes = fleet.nothing_was_lost(identity)
    print("".join(f"           {line}\n" for line in notes), end="")
    checked(
        f"after all that and a coordinator's SIGKILL: the weights of one process, {tasks} tasks committed once each, "
        "nobody was killed for want of time"
    )


def everything_is_deleted_but_the_bucket(fleet, baseline):
    identity = fleet.submit(RESUMED)
    rounds = until("a round is committed", lambda: fleet.trains(identity))
    fleet.helm("uninstall")
    run("kubectl", "delete", "namespace", fleet.namespace, f"--timeout={int(180 * PATIENCE)}s")
    checked(f"release and namespace are deleted, with tokens and certificates, when {rounds} rounds were committed")
    fleet.create_namespace()
    fleet.helm("install", CHART, "--values", fleet.values(), *WAIT)
    assert fleet.finish(identity) == baseline, "other weights than undisturbed"
    tasks, _ = fleet.nothing_was_lost(identity)
    checked(
        f"installed again over the bucket, the run went on and has the weights of one process; {tasks} tasks, once each"
    )


def show_scaling(fleet):
    """What the control plane says of who was started and stopped, and why."""
    columns = (
        "custom-columns=TIME:.lastTimestamp,KIND:.involvedObject.kind,NAME:.involvedObject.name,"
        "REASON:.reason,MESSAGE:.message"
    )
    print(f"--- events of {fleet.namespace}")
    events = fleet.kubectl("get", "events", "--sort-by=.lastTimestamp", "-o", columns, "--no-headers")
    for line in events.stdout.splitlines():
        if any(kind in line for kind in (" Deployment ", " HorizontalPodAutoscaler ", " ScaledObject ")):
            print(re.sub(r" {2,}", "  ", line))
    print("---")


def main():
    api = Api(os.environ["KUBECONFIG"])
    prepare()
    Nodes(api, say).start()
    every_object_is_accepted()
    fleets = []
    try:
        three_values_are_enough(api)
        fleet = Fleet(api, "fleet")
        fleets.append(fleet)
        fleet.helm("install", CHART, "--values", fleet.values(), *WAIT)
        until("one of them is active", fleet.active)
        work_brings_workers_and_idleness_takes_them(fleet)
        show_scaling(fleet)
        gpu_workers_are_where_they_belong(fleet)
        long, resumed = alone(LONG, RESUMED)
        a_run_outlives_everything(fleet, long)
        everything_is_deleted_but_the_bucket(fleet, resumed)
        show_scaling(fleet)
    except BaseException:
        for log in sorted(WORK.glob("*/*/log")):
            print(f"--- {log.parent.name}\n" + "".join(log.read_text().splitlines(True)[-15:]))
        raise
    finally:
        for fleet in fleets:
            fleet.kubelet.end()
    say("all checks passed")


if __name__ == "__main__":
    main()
