#!/usr/bin/env python3
# Copyright the bloctrain authors. Licence: Apache-2.0.
"""Runs specifications with several seeds and keeps what came out, one JSON line a run.

  benches/accuracy.py EXPERIMENTS [--data cifar10/] --out results.jsonl [--only PART,..] [--seeds 1,2,3] [--jobs 1]
  benches/accuracy.py --table results.jsonl

EXPERIMENTS is a TOML file: `common = [..]` has settings of all, `blocks = [..]` of those trained block by block,
`[name]` one experiment with `set = [..]` (as after `--set`), and `end_to_end = true` for a network trained as one
block. What is in the results already is not run again, and a run that was interrupted goes on where its store says.
Experiments of one seed have one store, so that blocks that they have in common are trained once.

The table has, beside the answers at the chosen exits, those of always running to the end, and those of the last point
of the curve that costs at most 60 % of the full network on validation data.
"""

import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys
import threading
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Share of the full network's compute that a cheaper point of the curve may take.
BUDGET = 0.6


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def command(args, settings, end_to_end, seed, store):
    flags = [part for setting in (*settings, f"run.seed={seed}") for part in ("--set", setting)]
    flags += ["--end-to-end"] if end_to_end else []
    flags += ["--device", args.device] if args.device else []
    flags += ["--data", args.data] if args.data else []
    return [args.binary, "train", "--store", store, "--json", *flags]


def one(args, name, settings, end_to_end, seed, lock):
    store = args.stores / f"seed-{seed}"
    words = [str(part) for part in command(args, settings, end_to_end, seed, store)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        line = {"experiment": name, "seed": seed, "error": done.stderr.strip()[-800:]}
    else:
        line = {"experiment": name, "seed": seed, **figures(json.loads(done.stdout))}
    with lock:
        with open(args.out, "a", encoding="utf-8") as results:
            results.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def figures(summary):
    blocks = summary["blocks"]
    curve = json.loads((pathlib.Path(summary["model"]) / "curve.json").read_text())
    cheap = [point for point in curve["points"] if point["validation"]["relative_compute"] <= BUDGET]
    return {
        "test": summary["accuracy"]["test"],
        "without_exits": curve["without_exits"]["test"]["accuracy"],
        "within_budget": cheap[-1]["test"]["accuracy"] if cheap else None,
        "validation": summary["accuracy"]["validation"],
        "blocks": [round(block["accuracy"], 4) for block in blocks],
        "classes": [block["classes"] for block in blocks],
        "exits": [round(block["exit_fraction"], 3) for block in blocks],
        "efficiency": round(summary["inference"]["compute_efficiency"], 3),
        "train_seconds": round(sum(block["train_seconds"] for block in blocks), 1),
        "peak_mib": max(block["peak_memory_bytes"] for block in blocks) >> 20,
        "wall_seconds": round(summary["wall_seconds"], 1),
    }


def table(results):
    rows = {}
    for line in results:
        rows.setdefault(line["experiment"], []).append(line)
    print(
        f"| experiment | seeds | test, % | without exits, % | at most {100 * BUDGET:.0f} % of the compute, % "
        "| blocks alone on validation, % | exits, % | compute | train s | MiB |"
    )
    print("|---" * 10 + "|")
    for name, lines in rows.items():
        good = [line for line in lines if "error" not in line]
        if not good:
            print(f"| {name} | 0 | failed: {lines[-1]['error'].splitlines()[-1]} |" + " |" * 7)
            continue
        tests = [100 * line["test"] for line in good]
        spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
        # Results of before have no such figures, and one block no cheaper point.
        known = lambda key: [100 * line[key] for line in good if line.get(key) is not None]
        percent = lambda key: f"{statistics.mean(known(key)):.2f}" if len(known(key)) == len(good) else ""
        by_block = lambda key: zip(*[line[key] for line in good])
        mean = lambda key: ", ".join(f"{100 * statistics.mean(values):.1f}" for values in by_block(key))
        number = lambda key: statistics.mean(line[key] for line in good)
        print(
            f"| {name} | {len(good)} | {statistics.mean(tests):.2f}{spread} | {percent('without_exits')} | "
            f"{percent('within_budget')} | {mean('blocks')} | {mean('exits')} | {number('efficiency'):.2f}x | "
            f"{number('train_seconds'):.0f} | {number('peak_mib'):.0f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("experiments", type=pathlib.Path, nargs="?")
    parser.add_argument("--data", type=pathlib.Path, help="folder of a data set; the embedded images without it")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("accuracy.jsonl"))
    parser.add_argument("--stores", type=pathlib.Path, default=pathlib.Path("bloctrain-runs/accuracy"))
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/bloctrain")
    parser.add_argument("--device", default="")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only", default="", help="experiments whose names contain one of these, separated by commas")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at the same time")
    parser.add_argument("--table", type=pathlib.Path, help="print the table of a file of results and do nothing else")
    args = parser.parse_args()
    if args.table:
        return table(read(args.table))
    if not args.experiments:
        parser.error("give a file of experiments")
    experiments = tomllib.loads(args.experiments.read_text())
    common, blocks = experiments.pop("common", []), experiments.pop("blocks", [])
    for name, experiment in experiments.items():
        # A name with a dot has to be quoted, or TOML reads it as two.
        if not isinstance(experiment, dict) or set(experiment) - {"set", "end_to_end"}:
            parser.error(f"{args.experiments}: [{name}] may have `set` and `end_to_end`; quote a name that has a dot")
    wanted = [part for part in args.only.split(",") if part]
    done = {(line["experiment"], line["seed"]) for line in read(args.out) if "error" not in line}
    lock = threading.Lock()

    def all_of(seed):
        for name, experiment in experiments.items():
            if (name, seed) not in done and (not wanted or any(part in name for part in wanted)):
                end_to_end = experiment.get("end_to_end", False)
                settings = [*common, *([] if end_to_end else blocks), *experiment.get("set", [])]
                one(args, name, settings, end_to_end, seed, lock)

    args.stores.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(all_of, map(int, args.seeds.split(","))))
    table(read(args.out))


if __name__ == "__main__":
    sys.exit(main())
