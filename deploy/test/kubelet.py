"""Runs the pods that the scheduler has placed as processes of this machine, as kubelets run containers.

A pod's program gets its arguments, environment and Secrets, and an address of its own (127.0.N.N). Its HTTP probes are
asked; the pod's status says whether it is ready. Deleting a pod is SIGTERM, SIGKILL after its grace period, and only
then the end of the object. A program that ends, or fails its liveness probe, is started again, later each time. Left
out are images, limits, mounts of a read-only root and network policies.
"""

import base64
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

MERGE = "application/strategic-merge-patch+json"


class Api:
    """The API server, by the kubeconfig of cluster.sh."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(Path(kubeconfig).read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def get(self, path):
        return self.call("GET", path)

    def report(self, path, status):
        """Writes the status of a pod or node, as its kubelet."""
        self.call("PATCH", f"{path}/status", {"status": status}, MERGE)

    def remove(self, pod, uid):
        """Says that a deleted pod's processes have ended."""
        self.call("DELETE", pod, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})

    def call(self, method, path, body=None, media="application/json"):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": media}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.server + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if method != "GET" and error.code in (404, 409):
                return None  # the pod is gone already
            raise


class Probe:
    """An HTTP probe of a container."""

    def __init__(self, given, ports):
        self.path, port = given["httpGet"]["path"], given["httpGet"]["port"]
        self.port = ports.get(port, port)
        self.period, self.timeout = given.get("periodSeconds", 10), given.get("timeoutSeconds", 1)
        self.threshold, self.failures, self.due = given.get("failureThreshold", 3), 0, 0.0

    def ask(self, ip):
        """True or False, or None when it is not time to ask."""
        if time.monotonic() < self.due:
            return None
        self.due = time.monotonic() + self.period
        try:
            connection = http.client.HTTPConnection(ip, self.port, timeout=self.timeout)
            connection.request("GET", self.path)
            well = connection.getresponse().status < 400
            connection.close()
        except (OSError, http.client.HTTPException):
            well = False
        self.failures = 0 if well else self.failures + 1
        return well

    def has_failed(self):
        return self.failures >= self.threshold


class Pod(threading.Thread):
    """A pod and its process."""

    def __init__(self, kubelet, pod, number):
        super().__init__(daemon=True)
        metadata, spec = pod["metadata"], pod["spec"]
        self.kubelet, self.name, self.uid, self.node = kubelet, metadata["name"], metadata["uid"], spec["nodeName"]
        self.path = f"/api/v1/namespaces/{kubelet.namespace}/pods/{self.name}"
        self.component = metadata["labels"].get("app.kubernetes.io/component")
        self.grace = spec["terminationGracePeriodSeconds"]
        self.ip = f"{kubelet.network}.{1 + number // 250}.{1 + number % 250}"
        self.folder = kubelet.folder / f"{number:03}-{self.name}"
        self.folder.mkdir(parents=True)
        self.container = spec["containers"][0]
        places = self.volumes(spec["volumes"], self.container["volumeMounts"])
        self.arguments = [kubelet.program, *self.container["args"]]
        self.environment = self.variables(places)
        self.process = self.killer = self.again = self.told = None
        self.restarts, self.pause, self.ready, self.gone = 0, 0, False, False
        self.begin()

    def volumes(self, volumes, mounts):
        """Makes the volumes; gives where each path of the container is here."""
        folders = {}
        for volume in volumes:
            folder = folders[volume["name"]] = self.folder / volume["name"]
            folder.mkdir()
            if "secret" in volume:
                data = self.kubelet.secret(volume["secret"]["secretName"])
                for key in [item["key"] for item in volume["secret"].get("items", [])] or data:
                    (folder / key).write_bytes(data[key])
        return {mount["mountPath"]: str(folders[mount["name"]]) for mount in mounts}

    def variables(self, places):
        fields = {"metadata.name": self.name, "metadata.uid": self.uid, "status.podIP": self.ip}
        found = {"PATH": os.environ["PATH"], "TMPDIR": places["/tmp"], **self.kubelet.rights}
        for source in self.container.get("envFrom", []):
            found.update(
                {key: value.decode() for key, value in self.kubelet.secret(source["secretRef"]["name"]).items()}
            )
        for variable in self.container["env"]:
            value = variable.get("value")
            if value is None:
                value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            for name in found:
                value = value.replace(f"$({name})", found[name])
            path = next((path for path in places if value == path or value.startswith(f"{path}/")), "")
            value = places.get(path, "") + value[len(path) :]
            found[variable["name"]] = value.replace("0.0.0.0:", f"{self.ip}:")
        return found

    def begin(self):
        """Starts the program, and asks its probes from the first on."""
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        probes = {
            kind: Probe(self.container[kind], ports) for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        self.startup, self.liveness, self.readiness = probes.values()
        self.has_started = self.is_condemned = False
        self.again = None
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments, env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )
        self.kubelet.say(f"{self.name} started on {self.node} at {self.ip}")

    def run(self):
        while not self.gone:
            try:
                self.turn()
            except OSError as error:
                self.kubelet.say(f"the API server did not answer about {self.name}: {error}")
            time.sleep(0.3)

    def turn(self):
        code = self.process.poll()
        if code is not None and self.killer is not None:
            self.killer.cancel()
            self.kubelet.say(f"{self.name} ended with {code}")
            self.kubelet.api.remove(self.path, self.uid)
            self.gone = True
            return
        if code is None and self.killer is None:
            self.probe()
        elif code is not None:
            self.revive(code)
        if self.killer is None:
            self.report()

    def probe(self):
        if not self.has_started:
            self.has_started = bool(self.startup.ask(self.ip))
            asked = self.startup
        else:
            self.liveness.ask(self.ip)
            asked = self.liveness
            answer = self.readiness.ask(self.ip)
            if answer or self.readiness.has_failed():
                self.ready = bool(answer)
        if asked.has_failed() and not self.is_condemned:
            self.kubelet.say(f"{self.name} fails its probe of {asked.path} and gets SIGTERM")
            self.is_condemned = True
            self.process.terminate()
            threading.Timer(self.grace, self.process.kill).start()

    def revive(self, code):
        """Starts again what has ended by itself: at once, then after 10 s, 20 s and so on."""
        self.ready = False
        if self.again is None:
            self.kubelet.restarted.append(self.name)
            self.kubelet.say(f"{self.name} ended with {code} and is started again in {self.pause} s")
            self.again = time.monotonic() + self.pause
            self.pause = min(max(10, 2 * self.pause), 300)
        elif time.monotonic() >= self.again:
            self.restarts += 1
            self.begin()

    def report(self):
        """Writes the pod's status where it has changed."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        telling = (self.ready, self.has_started, self.restarts, self.again is None)
        if telling == self.told:
            return
        states = {
            "PodReadyToStartContainers": True,
            "Initialized": True,
            "ContainersReady": self.ready,
            "Ready": self.ready,
        }
        conditions = [{"type": kind, "status": str(is_so), "lastTransitionTime": now} for kind, is_so in states.items()]
        state = {"running": {"startedAt": now}} if self.again is None else {"waiting": {"reason": "CrashLoopBackOff"}}
        container = {
            "name": self.container["name"],
            "image": self.container["image"],
            "imageID": "",
            "ready": self.ready,
            "started": self.has_started,
            "restartCount": self.restarts,
            "state": state,
        }
        self.kubelet.api.report(
            self.path,
            {
                "phase": "Running",
                "podIP": self.ip,
                "podIPs": [{"ip": self.ip}],
                "hostIP": "127.0.0.1",
                "startTime": now,
                "conditions": conditions,
                "containerStatuses": [container],
            },
        )
        if self.ready and not (self.told and self.told[0]):
            self.kubelet.say(f"{self.name} is ready")
        self.told = telling

    def stop(self, grace):
        if self.killer is None:
            self.kubelet.say(f"{self.name} gets SIGTERM and has {grace} s")
            self.ready = False
            self.grace = grace
            self.killer = threading.Timer(grace, self.kill)
            self.killer.start()
            self.process.send_signal(signal.SIGTERM)

    def kill(self):
        if self.process.poll() is None:
            self.kubelet.killed.append(self.name)
            self.kubelet.say(f"{self.name} gets SIGKILL after {self.grace} s")
            self.process.kill()


class Kubelet(threading.Thread):
    """All nodes' kubelets, for one namespace. `rights` are variables that stand for what the nodes may do on the
    storage."""

    def __init__(self, api, namespace, program, folder, say, rights=None, network="127.0"):
        super().__init__(daemon=True)
        self.api, self.namespace, self.program, self.folder, self.say = api, namespace, program, Path(folder), say
        self.pods, self.killed, self.restarted, self.number, self.stopping = {}, [], [], 0, False
        self.rights, self.network = rights or {}, network

    def secret(self, name):
        data = self.api.get(f"/api/v1/namespaces/{self.namespace}/secrets/{name}")["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def run(self):
        while not self.stopping:
            time.sleep(0.5)
            try:
                self.turn()
            except OSError as error:
                self.say(f"the API server did not answer: {error}")

    def turn(self):
        listed = {
            pod["metadata"]["uid"]: pod for pod in self.api.get(f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        }
        for uid, pod in listed.items():
            if uid not in self.pods and pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
                self.number += 1
                self.pods[uid] = Pod(self, pod, self.number)
                self.pods[uid].start()
        for uid, pod in list(self.pods.items()):
            if uid not in listed:
                pod.stop(pod.grace)
            elif "deletionTimestamp" in listed[uid]["metadata"]:
                pod.stop(listed[uid]["metadata"].get("deletionGracePeriodSeconds", pod.grace))
            if pod.gone:
                del self.pods[uid]

    def running(self, component):
        """Pods of a component that nobody has asked to go."""
        return [pod for pod in list(self.pods.values()) if pod.component == component and pod.killer is None]

    def ready(self, component):
        return [pod for pod in self.running(component) if pod.ready]

    def end(self):
        """Ends every process at once."""
        self.stopping = True
        self.join()
        for pod in self.pods.values():
            pod.gone = True
            pod.process.kill()
            pod.process.wait()
            if pod.killer:
                pod.killer.cancel()


class Nodes(threading.Thread):
    """What kubelets say of their nodes: that they are ready, every ten seconds."""

    def __init__(self, api, say):
        super().__init__(daemon=True)
        self.api, self.say = api, say

    def run(self):
        while True:
            try:
                for node in self.api.get("/api/v1/nodes")["items"]:
                    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
                    self.api.report(f"/api/v1/nodes/{node['metadata']['name']}", {"conditions": [ready]})
            except OSError as error:
                self.say(f"the API server did not answer about nodes: {error}")
            time.sleep(10)


class Service(threading.Thread):
    """What a Service is: an address in front of all ready pods of a component."""

    def __init__(self, kubelet, component, port):
        super().__init__(daemon=True)
        self.kubelet, self.component, self.port = kubelet, component, port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self):
        while True:
            near, _ = self.listener.accept()
            pods = self.kubelet.ready(self.component)
            try:
                far = socket.create_connection((random.choice(pods).ip, self.port), timeout=2)
            except (OSError, IndexError):
                near.close()
                continue
            far.settimeout(None)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
