"""Runs the pods that the scheduler has placed as processes of this machine, as kubelets run containers.

A pod's program gets its arguments, environment and Secrets, an address of its own (127.0.1.N), SIGTERM when the pod is
deleted, and SIGKILL after its grace period. A program that ends is started again. Left out are images, probes and limits.
"""

import base64
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import yaml


class Api:
    """The API server, by the kubeconfig of cluster.sh."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(Path(kubeconfig).read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def get(self, path):
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, context=self.context, timeout=30) as answer:
            return json.load(answer)


class Pod:
    """A pod and its process."""

    def __init__(self, kubelet, pod, number):
        self.kubelet, self.name, self.uid = kubelet, pod["metadata"]["name"], pod["metadata"]["uid"]
        self.component = pod["metadata"]["labels"].get("app.kubernetes.io/component")
        self.grace = pod["spec"]["terminationGracePeriodSeconds"]
        self.ip = f"127.0.1.{number}"
        self.folder = kubelet.folder / self.name
        self.folder.mkdir(parents=True)
        container = pod["spec"]["containers"][0]
        places = self.volumes(pod["spec"]["volumes"], container["volumeMounts"])
        self.arguments = [kubelet.program, *container["args"]]
        self.environment = self.variables(container, places)
        self.process = self.killer = None
        self.start()

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

    def variables(self, container, places):
        fields = {"metadata.name": self.name, "metadata.uid": self.uid, "status.podIP": self.ip}
        found = {"PATH": os.environ["PATH"], "TMPDIR": places["/tmp"]}
        for source in container.get("envFrom", []):
            found.update({key: value.decode() for key, value in self.kubelet.secret(source["secretRef"]["name"]).items()})
        for variable in container["env"]:
            value = variable.get("value")
            if value is None:
                value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            for name in found:
                value = value.replace(f"$({name})", found[name])
            path = next((path for path in places if value == path or value.startswith(f"{path}/")), "")
            value = places.get(path, "") + value[len(path):]
            found[variable["name"]] = value.replace("0.0.0.0:", f"{self.ip}:")
        return found

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.arguments, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        self.kubelet.say(f"{self.name} started at {self.ip}")

    def stop(self):
        if self.killer is None:
            self.kubelet.say(f"{self.name} gets SIGTERM")
            self.process.send_signal(signal.SIGTERM)
            self.killer = threading.Timer(self.grace, self.kill)
            self.killer.start()

    def kill(self):
        if self.process.poll() is None:
            self.kubelet.killed.append(self.name)
            self.kubelet.say(f"{self.name} gets SIGKILL after {self.grace} s")
            self.process.kill()

    def look(self):
        """Whether it is gone; what ended by itself is started again."""
        code = self.process.poll()
        if code is not None and self.killer is not None:
            self.killer.cancel()
            self.kubelet.say(f"{self.name} ended with {code}")
            return True
        if code is not None:
            self.kubelet.say(f"{self.name} ended with {code} and is started again")
            self.start()
        return False


class Kubelet(threading.Thread):
    """All nodes' kubelets, for one namespace."""

    def __init__(self, api, namespace, program, folder, say):
        super().__init__(daemon=True)
        self.api, self.namespace, self.program, self.folder, self.say = api, namespace, program, Path(folder), say
        self.pods, self.killed, self.number, self.stopping = {}, [], 0, False

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
        listed = {pod["metadata"]["uid"]: pod for pod in self.api.get(f"/api/v1/namespaces/{self.namespace}/pods")["items"]}
        for uid, pod in listed.items():
            if uid not in self.pods and pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
                self.number += 1
                self.pods[uid] = Pod(self, pod, self.number)
        for uid, pod in list(self.pods.items()):
            if uid not in listed or "deletionTimestamp" in listed[uid]["metadata"]:
                pod.stop()
            if pod.look():
                del self.pods[uid]

    def running(self, component):
        return [pod for pod in list(self.pods.values()) if pod.component == component and pod.killer is None]

    def end(self):
        """Ends every process at once."""
        self.stopping = True
        self.join()
        for pod in self.pods.values():
            pod.process.kill()
            pod.process.wait()


class Service(threading.Thread):
    """What a Service is: an address in front of all pods of a component."""

    def __init__(self, kubelet, component, port):
        super().__init__(daemon=True)
        self.kubelet, self.component, self.port = kubelet, component, port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self):
        while True:
            near, _ = self.listener.accept()
            pods = self.kubelet.running(self.component)
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
