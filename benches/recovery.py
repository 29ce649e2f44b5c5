#!/usr/bin/env python3
"""How long a fleet takes to go on after a process is killed, with default settings.

    cargo build --release
    python3 benches/recovery.py [--repeats 5] [--s3]

Each round starts a coordinator, a standby and two workers on an empty store (a folder, or with `--s3` a MinIO of its
own, see minio.py), submits a long run, and kills with SIGKILL: first the worker that has a training round, then the
active coordinator. `worker` is seconds until the same task was handed to the other worker, `coordinator` until the
standby was active, `workers` until the worker that was left had registered there; all by the coordinators' own logs.
Prints one JSON object.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import spread
from minio import BUCKET, start_minio

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 90


def lines(log):
    """A process's log so far, each line with its time in seconds."""
    whole = (line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n"))
    for line in whole:
        entry = json.loads(line)
        yield datetime.datetime.fromisoformat(entry["timestamp"]).timestamp(), entry


def wait(what, look):
    """What `look` finds, once it finds something."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = look()
        if found is not None:
            return found
        time.sleep(0.02)
    sys.exit(f"recovery: {what}: not seen in {PATIENCE} s")


class Fleet:
    def __init__(self, program, store, folder, environment):
        self.program, self.store, self.folder, self.environment = program, store, folder, environment
        self.processes = {}

    def start(self, name, *command):
        log = open(self.folder / f"{name}.log", "wb")
        command = [self.program, "--log-format", "json", *command, "--store", self.store]
        self.processes[name] = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=log)

    def log(self, name):
        return lines(self.folder / f"{name}.log")

    def kill(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        at = time.time()
        process.wait()
        return at

    def end(self):
        for name in list(self.processes):
            self.kill(name)


def in_training(fleet, log):
    """The task of a training round that is under way, and its worker."""
    held = {}
    for _, entry in fleet.log(log):
        if entry.get("message") == "handed out":
            held[entry["task"]] = entry["worker"]
        elif "task" in entry:
            held.pop(entry["task"], None)
    return next(((task, worker) for task, worker in held.items() if "/train/" in task), None)


def once(fleet):
    fleet.start("coordinator", "coordinator", "--listen", "127.0.0.1:0")
    active = lambda name: next(
        (at for at, entry in fleet.log(name) if entry["message"] == "this coordinator is active"), None
    )
    wait("the coordinator is active", lambda: active("coordinator"))
    fleet.start("standby", "coordinator", "--listen", "127.0.0.1:0", "--standby")
    for name in ("w1", "w2"):
        fleet.start(name, "worker", "--name", name)
    submit = [fleet.program, "submit", "--store", fleet.store, "--set", "train.epochs=300", "--set", "train.patience=0"]
    subprocess.run(submit, env=fleet.environment, stdout=subprocess.DEVNULL, check=True)
    task, worker = wait("a training round", lambda: in_training(fleet, "coordinator"))
    killed = fleet.kill(worker)

    def again():
        for at, entry in fleet.log("coordinator"):
            if at > killed and entry["message"] == "handed out" and entry["task"] == task and entry["worker"] != worker:
                return at
        return None

    found = {"worker": wait("the other worker has the round", again) - killed}
    killed = fleet.kill("coordinator")
    found["coordinator"] = wait("the standby is active", lambda: active("standby")) - killed
    registered = lambda: next(
        (at for at, entry in fleet.log("standby") if entry["message"] == "a worker registered"), None
    )
    found["workers"] = wait("the worker registered", registered) - killed
    return {name: round(seconds, 2) for name, seconds in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/bloctrain"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--s3", action="store_true", help="on a MinIO instead of a folder")
    args = parser.parse_args()
    # Asked to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds = []
    with tempfile.TemporaryDirectory() as temporary:
        minio, settings = start_minio(Path(temporary)) if args.s3 else (None, {})
        try:
            for number in range(args.repeats):
                folder = Path(temporary) / str(number)
                folder.mkdir()
                store = f"s3://{BUCKET}/run{number}" if args.s3 else str(folder / "store")
                fleet = Fleet(args.program, store, folder, {**os.environ, **settings})
                try:
                    rounds.append(once(fleet))
                finally:
                    fleet.end()
                print(json.dumps(rounds[-1]), file=sys.stderr)
        finally:
            if minio is not None:
                minio.terminate()
                minio.wait()
    print(json.dumps({name: spread([one[name] for one in rounds]) for name in rounds[0]}))


if __name__ == "__main__":
    main()
