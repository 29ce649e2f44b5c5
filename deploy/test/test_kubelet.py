"""The kubelet of these tests, on the plain manifests and without a cluster: what a pod's process is given, what is said
of it, and how it ends."""

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
# Answers /health/live at once and /health/ready when there is a file `may`; ends by itself when there is a file
# `crash`.
PROGRAM = """#!/usr/bin/env python3
import http.server, os, pathlib, signal, sys, threading

def end(*_):
    pathlib.Path("ended").touch()
    os._exit(0)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if os.path.exists("crash"):
            os.remove("crash")
            os._exit(3)
        well = self.path == "/health/live" or os.path.exists("may")
        self.send_response(200 if well else 503)
        self.end_headers()

signal.signal(signal.SIGTERM, end)
pathlib.Path("environment").write_text("".join(f"{k}={v}\\n" for k, v in os.environ.items()))
host, port = os.environ["BLOCTRAIN_HTTP"].split(":")
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


class Api:
    """An API server with the pods of the manifests' Deployments, as if they were placed."""

    def __init__(self):
        self.pods, self.statuses, self.removed = {}, {}, []
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

    def report(self, pod, status):
        self.statuses[pod.rsplit("/", 1)[1]] = status

    def remove(self, pod, uid):
        self.removed.append((pod.rsplit("/", 1)[1], uid))

    def is_ready(self, name):
        conditions = self.statuses.get(name, {}).get("conditions", [])
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


class KubeletTest(unittest.TestCase):
    def until(self, happened):
        end = time.monotonic() + 60
        while not happened():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_a_pod_is_a_process_with_its_environment_probes_and_an_end_in_order(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "program")
            program.write_text(PROGRAM)
            program.chmod(0o755)
            api = Api()
            kubelet = Kubelet(api, "bloctrain", str(program), Path(folder, "pods"), lambda text: None, network="127.9")
            kubelet.start()
            self.until(lambda: len(kubelet.pods) == 2)
            places = {pod.name: pod.folder for pod in kubelet.pods.values()}
            self.until(lambda: all(pod.has_started for pod in kubelet.pods.values()))
            coordinator, worker = (
                {
                    line.split("=", 1)[0]: line.split("=", 1)[1]
                    for line in (places[name] / "environment").read_text().splitlines()
                }
                for name in ("bloctrain-coordinator", "bloctrain-worker-cpu")
            )
            pod = next(pod for pod in kubelet.pods.values() if pod.component == "coordinator")
            self.assertEqual(coordinator["BLOCTRAIN_ADVERTISE"], f"https://{pod.ip}:7070")
            self.assertEqual(coordinator["BLOCTRAIN_LISTEN"], f"{pod.ip}:7070")
            self.assertEqual(Path(coordinator["BLOCTRAIN_OPERATOR_TOKEN_FILE"]).read_text(), "o")
            self.assertEqual(Path(coordinator["BLOCTRAIN_TLS_CLIENT_CA"]).read_text(), "a")
            self.assertEqual(Path(worker["BLOCTRAIN_TOKEN_FILE"]).read_text(), "j")
            self.assertFalse(
                Path(worker["BLOCTRAIN_TOKEN_FILE"]).with_name("operator").exists(), "no business of a worker"
            )
            self.assertEqual(
                (worker["BLOCTRAIN_IDENTITY"], worker["AWS_ACCESS_KEY_ID"]), ("uid of bloctrain-worker-cpu", "id")
            )

            self.assertFalse(api.is_ready("bloctrain-coordinator") or kubelet.ready("coordinator"))
            (places["bloctrain-coordinator"] / "may").touch()
            self.until(lambda: api.is_ready("bloctrain-coordinator") and kubelet.ready("coordinator"))
            self.assertFalse(api.is_ready("bloctrain-worker-cpu"))
            (places["bloctrain-coordinator"] / "crash").touch()
            self.until(lambda: api.statuses["bloctrain-coordinator"]["containerStatuses"][0]["restartCount"] == 1)
            self.until(lambda: api.is_ready("bloctrain-coordinator"))
            self.assertEqual(kubelet.restarted, ["bloctrain-coordinator"])

            api.pods["bloctrain-worker-cpu"]["metadata"].update(deletionTimestamp="now", deletionGracePeriodSeconds=7)
            self.until(lambda: api.removed)
            self.assertEqual(api.removed, [("bloctrain-worker-cpu", "uid of bloctrain-worker-cpu")])
            self.assertTrue((places["bloctrain-worker-cpu"] / "ended").exists(), "before the object goes")
            del api.pods["bloctrain-worker-cpu"]
            self.until(lambda: not kubelet.running("worker"))
            self.assertEqual(len(kubelet.running("coordinator")), 1)
            kubelet.end()
            self.assertEqual(kubelet.killed, [])


if __name__ == "__main__":
    unittest.main()
