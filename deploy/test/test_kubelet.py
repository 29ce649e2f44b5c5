"""The kubelet of these tests, on the plain manifests and without a cluster: what a pod's process is given, and how it ends."""

import base64
import tempfile
import time
import unittest
from pathlib import Path

import yaml
from kubelet import Kubelet

MANIFESTS = Path(__file__).resolve().parent.parent / "kustomize/bloctrain.yaml"
SECRETS = {
    "bloctrain-tokens": {"join": "j", "viewer": "v", "operator": "o"},
    "bloctrain-tls": {"tls.crt": "c", "tls.key": "k", "ca.crt": "a"},
    "bloctrain-storage": {"AWS_ACCESS_KEY_ID": "id"},
}
PROGRAM = """#!/usr/bin/env bash
env > environment
trap 'touch ended; exit 0' TERM
while true; do sleep 0.05; done
"""


class Api:
    """An API server with the pods of the manifests' Deployments, as if they were placed."""

    def __init__(self):
        self.pods = {}
        for document in yaml.safe_load_all(MANIFESTS.read_text()):
            if document["kind"] == "Deployment":
                template, name = document["spec"]["template"], document["metadata"]["name"]
                metadata = {"name": name, "uid": f"uid of {name}", "labels": template["metadata"]["labels"]}
                self.pods[name] = {"metadata": metadata, "spec": {**template["spec"], "nodeName": "node"}}

    def get(self, path):
        if "/secrets/" in path:
            data = SECRETS[path.rsplit("/", 1)[1]]
            return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}
        return {"items": list(self.pods.values())}


class KubeletTest(unittest.TestCase):
    def until(self, happened):
        end = time.monotonic() + 20
        while not happened():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_a_pod_is_a_process_with_its_environment_and_secrets_and_gets_sigterm(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "program")
            program.write_text(PROGRAM)
            program.chmod(0o755)
            api, pods = Api(), Path(folder, "pods")
            kubelet = Kubelet(api, "bloctrain", str(program), pods, lambda text: None)
            kubelet.start()
            files = {name: pods / name / "environment" for name in ("bloctrain-coordinator", "bloctrain-worker-cpu")}
            self.until(lambda: all(file.exists() and file.read_text().count("\n") > 10 for file in files.values()))
            coordinator, worker = ({line.split("=", 1)[0]: line.split("=", 1)[1] for line in file.read_text().splitlines()}
                                   for file in files.values())
            pod = next(pod for pod in kubelet.pods.values() if pod.component == "coordinator")
            self.assertEqual(coordinator["BLOCTRAIN_ADVERTISE"], f"https://{pod.ip}:7070")
            self.assertEqual(coordinator["BLOCTRAIN_LISTEN"], f"{pod.ip}:7070")
            self.assertEqual(Path(coordinator["BLOCTRAIN_OPERATOR_TOKEN_FILE"]).read_text(), "o")
            self.assertEqual(Path(coordinator["BLOCTRAIN_TLS_CLIENT_CA"]).read_text(), "a")
            self.assertEqual(Path(worker["BLOCTRAIN_TOKEN_FILE"]).read_text(), "j")
            self.assertFalse(Path(worker["BLOCTRAIN_TOKEN_FILE"]).with_name("operator").exists(), "no business of a worker")
            self.assertEqual((worker["BLOCTRAIN_IDENTITY"], worker["AWS_ACCESS_KEY_ID"]), ("uid of bloctrain-worker-cpu", "id"))
            del api.pods["bloctrain-worker-cpu"]
            self.until(lambda: not kubelet.running("worker") and (pods / "bloctrain-worker-cpu/ended").exists())
            self.assertEqual(len(kubelet.running("coordinator")), 1)
            kubelet.end()
            self.assertEqual(kubelet.killed, [])


if __name__ == "__main__":
    unittest.main()
