#!/usr/bin/env python3
# Copyright the bloctrain authors. Licence: Apache-2.0.
"""bloctrain against SpikingJelly on this machine: each measurement runs the peer and us in turn, for some rounds.

Needs `cargo build --release` and `pip install torch spikingjelly`. For every measurement it prints the smallest, the
middle and the largest figure of both, and the ratio of the middle ones with its range over the rounds.

  python3 benches/compare.py                             # everything, on enlarged embedded images against random ones
  python3 benches/compare.py --data cifar10/ --rounds 5  # both trained on CIFAR-10 before the clock runs
  python3 benches/compare.py --only train,inference --json
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PEER = HERE / "spikingjelly_resnet9.py"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bloctrain", default=HERE.parent / "target/release/bloctrain", help="the program")
    parser.add_argument("--data", type=pathlib.Path, help="folder with CIFAR-10's binary files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--train-steps", type=int, default=300, help="steps that train before the clock runs")
    parser.add_argument("--only", default="train,blocks,memory,steps,inference", help="measurements, separated by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    return parser.parse_args()


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nfailed: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Runner:
    def __init__(self, args):
        self.args = args
        self.data = ["--data", args.data] if args.data else []

    def ours(self, steps, batch, train_steps, *flags):
        command = [self.args.bloctrain, "bench", "step", "--preset", "resnet9", "--width", self.args.width]
        command += ["--steps", steps, "--batch", batch, "--train-steps", train_steps, *flags, *self.data, "--json"]
        return run(command)[0]

    def answers(self, batch, iters, *flags):
        command = [self.args.bloctrain, "bench", "inference", "--preset", "resnet9", "--width", self.args.width]
        return run([*command, "--batch", batch, "--iters", iters, *flags, *self.data, "--json"])

    def peer(self, steps, batch, train_steps, *flags):
        command = [sys.executable, PEER, "--width", self.args.width, "--steps", steps, "--batch", batch]
        return run([*command, "--train-steps", train_steps, *flags, *self.data])[0]

    def best_peer(self, steps, batch, train_steps, *flags):
        """The faster one of both layouts."""
        found = [self.peer(steps, batch, train_steps, *flags, *layout) for layout in ([], ["--channels-last"])]
        return max(found, key=lambda one: one["images_per_s"])


def slope(measure, batches=(32, 64)):
    """Training memory per image in MiB, between two batch sizes."""
    small, large = (measure(batch)["training_mib"] for batch in batches)
    return (large - small) / (batches[1] - batches[0])


def epoch_speed(blocks, hard):
    """Samples of the data set a second in an epoch of every block, where each passes on a share of its samples."""
    return 1 / sum(hard**index / block["images_per_s"] for index, block in enumerate(blocks))


def measurements(runner):
    """Name of each measurement, the set it belongs to, its unit, the peer's figure and ours; and what is better."""
    trained = runner.args.train_steps
    speed = "images_per_s"
    yield "train end to end, T 4, batch 32", "train", "images/s", (
        lambda: runner.best_peer(4, 32, trained)[speed],
        lambda: runner.ours(4, 32, trained, "--end-to-end")[speed],
    ), "more"
    yield "train block by block (all blocks), T 4, batch 32", "blocks", "images/s", (
        lambda: runner.best_peer(4, 32, trained)[speed],
        lambda: runner.ours(4, 32, trained)[speed],
    ), "more"
    yield "the same, half of the classes hard after every block", "blocks", "images/s", (
        lambda: runner.best_peer(4, 32, trained)[speed],
        lambda: epoch_speed(runner.ours(4, 32, trained)["blocks"], 0.5),
    ), "more"
    for steps in (4, 16):
        yield f"training memory per image, end to end, T {steps}, batch 32 to 64", "memory" if steps == 4 else "steps", "MiB", (
            lambda steps=steps: slope(lambda batch: runner.peer(steps, batch, 0)),
            lambda steps=steps: slope(lambda batch: runner.ours(steps, batch, 0, "--end-to-end")),
        ), "less"
    for steps in (4, 16):
        yield f"training memory, end to end, T {steps}, batch 32", "steps", "MiB", (
            lambda steps=steps: runner.peer(steps, 32, 0)["training_mib"],
            lambda steps=steps: runner.ours(steps, 32, 0, "--end-to-end")["training_mib"],
        ), "less"
    for batch, iters in ((1, 200), (256, 8)):
        peer = lambda batch=batch, iters=iters: runner.best_peer(4, batch, 0, "--inference", "--iters", iters)[speed]
        yield f"inference, the same network without exits, batch {batch}", "inference", "images/s", (
            peer,
            lambda batch=batch, iters=iters: runner.answers(batch, iters, "--end-to-end")[0][speed],
        ), "more"
        yield f"inference, half of the samples leave at every exit, batch {batch}", "inference", "images/s", (
            peer,
            lambda batch=batch, iters=iters: runner.answers(batch, iters, "--exit-fraction", "0.5")[1][speed],
        ), "more"


def spread(values):
    return {"min": min(values), "median": round(statistics.median(values), 3), "max": max(values)}


def main():
    args = arguments()
    wanted = set(args.only.split(","))
    if not args.json:
        print(f"{'':64} {'SpikingJelly (min median max)':>30} {'bloctrain (min median max)':>30}   ratio (range)")
    for name, group, unit, (peer, ours), better in measurements(Runner(args)):
        if group not in wanted:
            continue
        pairs = [(peer(), ours()) for _ in range(args.rounds)]
        theirs, mine = spread([pair[0] for pair in pairs]), spread([pair[1] for pair in pairs])
        ratio = (lambda peer, ours: ours / peer) if better == "more" else (lambda peer, ours: peer / ours)
        ratios = [ratio(*pair) for pair in pairs]
        middle = ratio(theirs["median"], mine["median"])
        if args.json:
            line = {"measurement": name, "unit": unit, "peer": theirs, "ours": mine, "ratio": middle}
            print(json.dumps({**line, "ratio_range": [min(ratios), max(ratios)]}), flush=True)
            continue
        figures = [" ".join(f"{one[key]:.1f}" for key in ("min", "median", "max")) for one in (theirs, mine)]
        print(f"{name + ' [' + unit + ']':64} {figures[0]:>30} {figures[1]:>30}   {middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})", flush=True)


if __name__ == "__main__":
    main()
