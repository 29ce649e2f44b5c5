#!/usr/bin/env python3
"""What viewers of the dashboard cost training: `train --http` alone and with 20 of them, in turn.

    cargo build --release
    python3 benches/viewers.py [--viewers 20] [--repeats 5] [--set KEY=VALUE]...

Each viewer keeps one stream of server-sent events open, as a page of the dashboard does: of the run, of all runs, of
the workers or of the events. They read and throw away; what a browser draws is not counted. Prints one JSON object:
seconds of training steps (`training`), of the whole command (`wall`) and of processors that the command took
(`processor`, where what the viewers themselves take is not in it), with and without, and the ratios of the medians.
"""

import argparse
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from compare import spread

ROOT = Path(__file__).resolve().parent.parent
MEASURES = ("training", "wall", "processor")


def processor():
    """Processor seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def running(address, process):
    """The id of the run, as soon as there is one."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}/api/v1/runs", timeout=5) as answer:
                runs = json.load(answer)["runs"]
            if runs:
                return runs[0]["run"]
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("viewers: the command ended before there was a run; is it a program with --http?")


def watch(address, query, counts, number):
    """One viewer: reads a stream until the program ends."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as stream:
        stream.sendall(
            f"GET /api/v1/stream?{query} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        try:
            while part := stream.recv(1 << 16):
                counts[number] += len(part)
        except OSError:
            pass


def once(args, viewers):
    address = f"127.0.0.1:{free_port()}"
    sets = [word for value in args.set for word in ("--set", value)]
    with tempfile.TemporaryDirectory() as store:
        command = [args.program, "train", "--json", "--store", store, "--http", address, *sets]
        begun, used = time.monotonic(), processor()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        counts = [0] * viewers
        if viewers:
            run = running(address, process)
            queries = [f"topic=run&run={run}", "topic=runs", "topic=workers", "topic=events"]
            for number in range(viewers):
                query = queries[number % len(queries)]
                threading.Thread(target=watch, args=(address, query, counts, number), daemon=True).start()
        output, _ = process.communicate()
        wall, used = time.monotonic() - begun, processor() - used
    if process.returncode != 0 or not all(counts):
        sys.exit(f"viewers: the run failed ({process.returncode}), or somebody saw nothing: {counts}")
    summary = json.loads(output)
    training = sum(block["train_seconds"] for block in summary["blocks"])
    return {
        "training": training,
        "wall": wall,
        "processor": used,
        "bytes": sum(counts),
        "accuracy": summary["accuracy"]["test"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/bloctrain"))
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each kind, in turn")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to the spec")
    args = parser.parse_args()
    runs = {"alone": [], "watched": []}
    for _ in range(args.repeats):
        for kind, viewers in (("alone", 0), ("watched", args.viewers)):
            runs[kind].append(once(args, viewers))
            print(json.dumps({kind: runs[kind][-1]}), file=sys.stderr, flush=True)
    if len({run["accuracy"] for done in runs.values() for run in done}) != 1:
        sys.exit("viewers: the results differ")
    report = {
        kind: {key: spread([round(run[key], 2) for run in done]) for key in MEASURES} for kind, done in runs.items()
    }
    report["bytes_a_viewer"] = round(statistics.median(run["bytes"] for run in runs["watched"]) / args.viewers)
    for key in MEASURES:
        report[f"{key}_ratio"] = round(report["watched"][key]["median"] / report["alone"][key]["median"], 4)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
