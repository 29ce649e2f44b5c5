#!/usr/bin/env python3
"""What a fleet costs: one worker through a coordinator and S3, against `bloctrain train` with a folder.

    cargo build --release
    python3 benches/overhead.py [--epochs 30] [--repeats 2] [--set KEY=VALUE]...

Runs both in turn on this machine, each time on an empty store, with the same seed, and prints one JSON object. Needs
nothing but Python and MinIO (see minio.py).

`wall` is seconds from the start of the command (`train`, `submit --watch`) to its end; `work` the seconds that workers
spent on tasks, reading and writing included; `training` those of training steps. `coordinator_cpu` and `minio_cpu` are
CPU seconds during the run. `walls` has the least, median and greatest `wall` of each kind, `ratio` is that of the
medians. MinIO runs on the same cores as the worker, so what it takes counts as overhead.
"""

import argparse
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


def cpu_seconds(process):
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures(wall, summary, more):
    """Both modes give the same figures, and have to give the same accuracy."""
    training = sum(block["train_seconds"] for block in summary["blocks"])
    waiting = sum(block["train_seconds"] * block.get("waiting_fraction", 0.0) for block in summary["blocks"])
    return {
        "wall": round(wall, 2),
        "work": round(summary["wall_seconds"], 2),
        "training": round(training, 2),
        "waiting_for_input": round(waiting, 2),
        **more,
        "accuracy": summary["accuracy"]["test"],
    }


def alone(program, folder, sets):
    begun = time.monotonic()
    command = [program, "train", "--json", "--store", str(folder / "store"), *sets]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return figures(time.monotonic() - begun, json.loads(done.stdout), {})


def fleet(program, folder, sets, minio, settings, number):
    environment = {**os.environ, **settings}
    store = f"s3://{BUCKET}/run{number}"
    log = open(folder / "coordinator.log", "wb")
    command = [program, "--log-format", "json", "coordinator", "--store", store, "--listen", "127.0.0.1:0"]
    coordinator = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
    worker = None
    try:
        address = "http://" + json.loads(coordinator.stdout.readline())["listening"]
        quiet = open(folder / "worker.log", "wb")
        command = [program, "--log-format", "json", "worker", "--coordinator", address, "--name", "w"]
        worker = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
        command = [program, "workers", "--coordinator", address, "--json"]
        while not json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout):
            time.sleep(0.05)
        before = cpu_seconds(coordinator), cpu_seconds(minio)
        begun = time.monotonic()
        command = [program, "submit", "--coordinator", address, "--watch", "--json", *sets]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        wall = time.monotonic() - begun
        more = {
            "coordinator_cpu": round(cpu_seconds(coordinator) - before[0], 2),
            "minio_cpu": round(cpu_seconds(minio) - before[1], 2),
            "tasks": (folder / "coordinator.log").read_text().count("committed after"),
        }
        return figures(wall, json.loads(done.stdout), more)
    finally:
        for process in (worker, coordinator):
            if process is not None:
                process.terminate()
                process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/bloctrain"))
    parser.add_argument("--epochs", type=int, default=30, help="epochs of every block; training never stops early")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each kind, in turn")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="more changes to the spec")
    parser.add_argument("--keep", metavar="DIR", help="leave the logs there")
    args = parser.parse_args()
    # Asked to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sets = [
        word for value in [f"train.epochs={args.epochs}", "train.patience=0", *args.set] for word in ("--set", value)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        minio, settings = start_minio(folder)
        runs = {"alone": [], "fleet": []}
        try:
            for number in range(args.repeats):
                place = folder / str(number)
                place.mkdir()
                runs["alone"].append(alone(args.program, place, sets))
                runs["fleet"].append(fleet(args.program, place, sets, minio, settings, number))
                print(json.dumps({kind: done[-1] for kind, done in runs.items()}), file=sys.stderr)
        finally:
            minio.terminate()
            minio.wait()
    if any(a["accuracy"] != f["accuracy"] for a, f in zip(runs["alone"], runs["fleet"])):
        sys.exit(f"overhead: the results differ: {json.dumps(runs)}")
    walls = {kind: spread([run["wall"] for run in done]) for kind, done in runs.items()}
    share = sum(run["coordinator_cpu"] for run in runs["fleet"]) / sum(run["wall"] for run in runs["fleet"])
    ratio = walls["fleet"]["median"] / walls["alone"]["median"]
    report = {**runs, "walls": walls, "ratio": round(ratio, 4), "coordinator_cpu_share": round(share, 4)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
