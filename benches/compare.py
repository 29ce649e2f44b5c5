#!/usr/bin/env python3
# Copyright the bloctrain authors. Licence: Apache-2.0.
"""bloctrain against SpikingJelly on this machine: each measurement runs the peer and us in turn, for some rounds.

The peer is what its users could choose: every measurement first runs all its configurations once (f32 or bf16 autocast,
either memory layout, `torch.compile` or not; where memory counts also `memopt`), and then the best of them in this
measure against us. Needs `cargo build --release` and `pip install torch spikingjelly`, and g++ for `torch.compile`. For
every measurement it prints the smallest, the middle and the largest figure of both, the ratio of the middle ones with
its range over the rounds, and which configuration of the peer it was.

  python3 benches/compare.py                             # everything, on enlarged embedded images against random ones
  python3 benches/compare.py --data cifar10/ --rounds 5  # both trained on CIFAR-10 before the clock runs
  python3 benches/compare.py --only train,inference --json
"""

import argparse
import itertools
import json
import math
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PEER = HERE / "spikingjelly_resnet9.py"

# What a user of the peer can switch on.
SWITCHES = ("--amp", "--channels-last", "--compile")
CONFIGURATIONS = [flags for count in range(4) for flags in itertools.combinations(SWITCHES, count)]
SAVING = [*CONFIGURATIONS, *((*flags, "--memopt") for flags in CONFIGURATIONS if "--compile" not in flags)]

GROUPS = ("train", "blocks", "recipe", "shapes", "memory", "steps", "inference")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bloctrain", default=HERE.parent / "target/release/bloctrain", help="the program")
    parser.add_argument("--data", type=pathlib.Path, help="folder with CIFAR-10's binary files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--train-steps", type=int, default=300, help="steps that train before the clock runs")
    parser.add_argument("--only", default=",".join(GROUPS), help="measurements, separated by commas")
    parser.add_argument("--match", default="", help="of those, the ones whose names have this in them")
    parser.add_argument(
        "--peer",
        metavar="SWITCHES",
        help="this one configuration of the peer in place of the best, "
        "where that is known: --peer='--amp --channels-last --compile'",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    return parser.parse_args()


def run(command, may_fail=False):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        problem = f"{' '.join(map(str, command))}\nfailed: {done.stderr.strip()[-2000:]}"
        if not may_fail:
            sys.exit(problem)
        print(problem, file=sys.stderr, flush=True)
        return []
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Runner:
    def __init__(self, args):
        self.args = args
        self.data = ["--data", args.data] if args.data else []
        one = None if args.peer is None else [tuple(args.peer.split())]
        self.configurations, self.saving = one or CONFIGURATIONS, one or SAVING
        self.chosen = {}

    def ours(self, steps, batch, train_steps, *flags, width=None):
        command = [self.args.bloctrain, "bench", "step", "--preset", "resnet9", "--width", width or self.args.width]
        command += ["--steps", steps, "--batch", batch, "--train-steps", train_steps, *flags, *self.data, "--json"]
        return run(command)[0]

    def answers(self, batch, iters, *flags):
        command = [self.args.bloctrain, "bench", "inference", "--preset", "resnet9", "--width", self.args.width]
        command += ["--batch", batch, "--iters", iters, "--train-steps", self.args.train_steps]
        return run([*command, *flags, *self.data, "--json"])

    def peer(self, steps, batch, train_steps, *flags, width=None, may_fail=False):
        command = [sys.executable, PEER, "--width", width or self.args.width, "--steps", steps, "--batch", batch]
        found = run([*command, "--train-steps", train_steps, *flags, *self.data], may_fail)
        return found[0] if found else None

    def fastest(self, steps, batch, train_steps, *flags, width=None):
        """Images a second of the fastest configuration, and its flags."""
        measure = lambda configuration, may_fail=False: self.peer(
            steps, batch, train_steps, *flags, *configuration, width=width, may_fail=may_fail
        )
        key = ("speed", steps, batch, flags, width)
        best = self.best(key, self.configurations, measure, lambda one: -one["images_per_s"])
        return measure(best)["images_per_s"], best

    def leanest(self, steps, memory):
        """What `memory` says of the configuration for which it is smallest, and its flags."""
        key = ("memory", steps, memory.__name__)
        measure = lambda configuration, may_fail=False: memory(
            lambda batch: self.peer(steps, batch, 0, *configuration, may_fail=may_fail)
        )
        # What a process grew by can also shrink: such a figure says nothing.
        best = self.best(key, self.saving, measure, lambda one: one if one > 0 else math.inf)
        return measure(best), best

    def best(self, key, configurations, measure, cost):
        """Of some configurations the one that costs least, measured when it is first asked for."""
        if len(configurations) == 1:
            return configurations[0]
        if key not in self.chosen:
            found = {configuration: measure(configuration, True) for configuration in configurations}
            runs = {configuration: one for configuration, one in found.items() if one is not None}
            if not runs:
                sys.exit("no configuration of the peer runs here; see above")
            self.chosen[key] = min(runs, key=lambda configuration: cost(runs[configuration]))
        return self.chosen[key]


def slope(measure):
    """Training memory per image in MiB, between batches of 32 and of 64."""
    small, large = measure(32), measure(64)
    return (large["training_mib"] - small["training_mib"]) / 32 if small and large else None


def whole(measure):
    """Training memory in MiB of a batch of 32."""
    one = measure(32)
    return one and one["training_mib"]


def epoch_speed(blocks, hard):
    """Samples of the data set a second in an epoch of every block, where each passes on a share of its samples."""
    return 1 / sum(hard**index / block["images_per_s"] for index, block in enumerate(blocks))


def measurements(runner):
    """Name of each measurement, the set it belongs to, its unit, the peer's figure and ours; and what is better."""
    trained = runner.args.train_steps
    speed = "images_per_s"
    yield (
        "train end to end, T 4, batch 32",
        "train",
        "images/s",
        (
            lambda: runner.fastest(4, 32, trained),
            lambda: runner.ours(4, 32, trained, "--end-to-end")[speed],
        ),
        "more",
    )
    yield (
        "train block by block (all blocks), T 4, batch 32",
        "blocks",
        "images/s",
        (
            lambda: runner.fastest(4, 32, trained),
            lambda: runner.ours(4, 32, trained)[speed],
        ),
        "more",
    )
    yield (
        "the same, half of the classes hard after every block",
        "blocks",
        "images/s",
        (
            lambda: runner.fastest(4, 32, trained),
            lambda: epoch_speed(runner.ours(4, 32, trained)["blocks"], 0.5),
        ),
        "more",
    )
    recipe = lambda *flags: runner.ours(4, 32, trained, "--recipe", *flags)
    peer = lambda: runner.fastest(4, 32, trained, "--recipe")
    yield (
        "with the recipe of resnet9, end to end, T 4, batch 32",
        "recipe",
        "images/s",
        (
            peer,
            lambda: recipe("--end-to-end")[speed],
        ),
        "more",
    )
    for name, flags in (("", ()), (", without the next block behind each", ("--set", "network.auxiliary.kind=none"))):
        yield (
            f"with the recipe, block by block, all inputs{name}",
            "recipe",
            "images/s",
            (
                peer,
                lambda flags=flags: recipe(*flags)[speed],
            ),
            "more",
        )
        yield (
            f"with the recipe, block by block, 60 % hard{name}",
            "recipe",
            "images/s",
            (
                peer,
                lambda flags=flags: epoch_speed(recipe(*flags)["blocks"], 0.6),
            ),
            "more",
        )
    shapes = ((16, 4, 32), (64, 4, 32), (None, 2, 32), (None, 8, 32), (None, 4, 128))
    for flags, (width, steps, batch) in itertools.product(((), ("--recipe",)), shapes):
        peer = lambda steps=steps, batch=batch, width=width, flags=flags: runner.fastest(
            steps, batch, trained, *flags, width=width
        )
        ours = lambda steps=steps, batch=batch, width=width, flags=flags: runner.ours(
            steps, batch, trained, "--end-to-end", *flags, width=width
        )[speed]
        network = "with the recipe, end to end" if flags else "end to end"
        name = f"train {network}, width {width or runner.args.width}, T {steps}, batch {batch}"
        yield name, "shapes", "images/s", (peer, ours), "more"
    for steps in (4, 16):
        yield (
            f"training memory per image, end to end, T {steps}, batch 32 to 64",
            "memory" if steps == 4 else "steps",
            "MiB",
            (
                lambda steps=steps: runner.leanest(steps, slope),
                lambda steps=steps: slope(lambda batch: runner.ours(steps, batch, 0, "--end-to-end")),
            ),
            "less",
        )
    for steps in (4, 16):
        yield (
            f"training memory, end to end, T {steps}, batch 32",
            "steps",
            "MiB",
            (
                lambda steps=steps: runner.leanest(steps, whole),
                lambda steps=steps: whole(lambda batch: runner.ours(steps, batch, 0, "--end-to-end")),
            ),
            "less",
        )
    for (batch, iters), flags in itertools.product(((1, 200), (256, 8)), ((), ("--recipe",))):
        ours = lambda *more, batch=batch, iters=iters, flags=flags: runner.answers(batch, iters, *more, *flags)
        peer = lambda batch=batch, iters=iters, flags=flags: runner.fastest(
            4, batch, 0, "--inference", "--iters", iters, *flags
        )
        network = "with the recipe" if flags else "the same network"
        yield (
            f"inference, {network}, without exits, batch {batch}",
            "inference",
            "images/s",
            (
                peer,
                lambda ours=ours: ours("--end-to-end")[0][speed],
            ),
            "more",
        )
        yield (
            f"inference, {network}, half of the samples leave at every exit, batch {batch}",
            "inference",
            "images/s",
            (
                peer,
                lambda ours=ours: ours("--exit-fraction", "0.5")[1][speed],
            ),
            "more",
        )


def spread(values):
    return {"min": min(values), "median": round(statistics.median(values), 3), "max": max(values)}


def main():
    args = arguments()
    wanted = set(args.only.split(","))
    if not args.json:
        print(f"{'':78} {'SpikingJelly (min median max)':>30} {'bloctrain (min median max)':>30}   ratio (range)")
    for name, group, unit, (peer, ours), better in measurements(Runner(args)):
        if group not in wanted or args.match not in name:
            continue
        rounds = [(*peer(), ours()) for _ in range(args.rounds)]
        pairs, flags = [(theirs, mine) for theirs, _, mine in rounds], " ".join(rounds[0][1]) or "f32, eager"
        theirs, mine = spread([pair[0] for pair in pairs]), spread([pair[1] for pair in pairs])
        ratio = (lambda peer, ours: ours / peer) if better == "more" else (lambda peer, ours: peer / ours)
        ratios = [ratio(*pair) for pair in pairs]
        middle = ratio(theirs["median"], mine["median"])
        if args.json:
            line = {
                "measurement": name,
                "unit": unit,
                "peer": theirs,
                "configuration": flags,
                "ours": mine,
                "ratio": middle,
            }
            print(json.dumps({**line, "ratio_range": [min(ratios), max(ratios)]}), flush=True)
            continue
        figures = [" ".join(f"{one[key]:.1f}" for key in ("min", "median", "max")) for one in (theirs, mine)]
        print(
            f"{name + ' [' + unit + ']':78} {figures[0]:>30} {figures[1]:>30}   "
            f"{middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})  {flags}",
            flush=True,
        )


if __name__ == "__main__":
    main()
