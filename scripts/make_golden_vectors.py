#!/usr/bin/env python3
"""Makes the golden vectors of the spiking neurons with SpikingJelly and snnTorch.

  python3 scripts/make_golden_vectors.py worker/tests/golden

Each file holds drives x [T, M], upstream gradients g [T, M], and one case per neuron x surrogate x reset x detached
reset: spikes, membranes after the reset, and the gradients of sum(g * spikes) for x and for the leak. Both libraries
run in double precision on drives that are exact in single precision, and a draw is rejected when a membrane comes close
to a point where the step function or a surrogate is not continuous, so that rounding decides nothing.

Needs torch, spikingjelly (made with 2.0.0) and snntorch (made with 1.0.0).
"""

import json
import sys
from pathlib import Path

import numpy as np
import snntorch
import torch
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import neuron, surrogate

STEPS, SITES, MARGIN = 8, 12, 1e-4
WIDTHS = {"atan": 2.0, "fast-sigmoid": 5.0, "triangle": 0.75, "rectangle": 0.5}
MODELS = {  # leak, threshold
    "lif": (0.5, 1.0),  # tau = 2
    "if": (1.0, 1.25),
    "plif": (0.75, 0.875),  # tau = 4
}


class Wrapped(torch.nn.Module):
    """A surrogate that is a plain function, in the form that SpikingJelly takes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, v):
        return self.function(v).to(v.dtype)


def jelly_surrogate(name, a):
    # snnTorch's fast sigmoid has the derivative 1 / (slope |v| + 1)^2; SpikingJelly has none of that form.
    return {
        "atan": lambda: surrogate.ATan(alpha=a),
        "fast-sigmoid": lambda: Wrapped(snn_surrogate.fast_sigmoid(slope=a)),
        "triangle": lambda: surrogate.PiecewiseQuadratic(alpha=1 / a),
        "rectangle": lambda: surrogate.Rect(alpha=0.5 / a),
    }[name]()


def jelly_node(model, leak, threshold, reset, detach, function):
    common = dict(
        v_threshold=threshold,
        v_reset=None if reset == "subtract" else 0.0,
        detach_reset=detach,
        surrogate_function=function,
        step_mode="s",
    )
    tau = 1 / (1 - leak) if leak < 1 else None
    if model == "if":
        return neuron.IFNode(**common)
    if model == "lif":
        return neuron.LIFNode(tau=tau, decay_input=False, **common)
    return neuron.ParametricLIFNode(init_tau=tau, decay_input=False, **common).double()


def numbers(tensor):
    """The shortest decimals that give the single-precision values back."""
    return [float(str(np.float32(value))) for value in tensor.detach().numpy().ravel()]


def case(fields, spikes, membranes, before, x, leak_grad):
    name, a, threshold = fields["surrogate"], fields["surrogate_width"], fields["threshold"]
    v = (before - threshold).detach().abs()
    assert v.min() > MARGIN, "a membrane too close to the threshold"
    if name in ("triangle", "rectangle"):
        assert (v - a).abs().min() > MARGIN, "a membrane too close to the edge of the surrogate"
    assert 0.05 < spikes.mean() < 0.7, "an uninformative draw"
    return fields | {
        "spikes": "".join(str(int(s)) for s in spikes.detach().numpy().ravel()),
        "membranes": numbers(membranes),
        "x_grad": numbers(x.grad),
        "leak_grad": leak_grad,
    }


def run(step, x, g):
    """Spikes, membranes after and before the reset, after the backward pass."""
    spikes, after, before = map(torch.stack, zip(*[step(x[t]) for t in range(STEPS)]))
    (spikes * g).sum().backward()
    return spikes, after, before


def jelly_cases(model, x, g):
    leak, threshold = MODELS[model]
    for name, a in WIDTHS.items():
        for reset in ("subtract", "zero"):
            for detach in (True, False):
                x.grad = None
                node = jelly_node(model, leak, threshold, reset, detach, jelly_surrogate(name, a))

                def step(x_t, node=node):
                    last = node.v
                    spike = node(x_t)
                    return spike, node.v, leak * last + x_t

                spikes, after, before = run(step, x, g)
                # SpikingJelly learns w with 1 / tau = sigmoid(w), so leak = 1 - sigmoid(w).
                slope = leak * (1 - leak)
                leak_grad = float(-node.w.grad / slope) if model == "plif" else None
                fields = dict(
                    model=model,
                    leak=leak,
                    threshold=threshold,
                    reset=reset,
                    detach_reset=detach,
                    surrogate=name,
                    surrogate_width=a,
                )
                yield case(fields, spikes, after, before, x, leak_grad)


def torch_cases(x, g):
    leak, threshold = 0.625, 1.0
    for name in ("atan", "fast-sigmoid"):
        a = WIDTHS[name]
        function = {"atan": snn_surrogate.atan(alpha=a), "fast-sigmoid": snn_surrogate.fast_sigmoid(slope=a)}[name]
        for reset in ("subtract", "zero"):
            x.grad = None
            # Without the delay the reset follows the spike at once, and the gradient flows through it.
            node = snntorch.Leaky(
                beta=leak,
                threshold=threshold,
                spike_grad=function,
                reset_mechanism=reset,
                learn_beta=True,
                reset_delay=False,
            ).double()
            memory = [torch.zeros(SITES, dtype=torch.float64)]

            def step(x_t):
                before = leak * memory[0] + x_t
                spike, memory[0] = node(x_t, memory[0])
                assert (memory[0] < threshold).all(), "snnTorch would reset twice"
                return spike, memory[0], before

            spikes, after, before = run(step, x, g)
            fields = dict(
                model="plif",
                leak=leak,
                threshold=threshold,
                reset=reset,
                detach_reset=False,
                surrogate=name,
                surrogate_width=a,
            )
            yield case(fields, spikes, after, before, x, float(node.beta.grad))


def draw(seed, high):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.uniform(-0.5, high, (STEPS, SITES)).astype(np.float32).astype(np.float64), requires_grad=True)
    g = torch.tensor(rng.normal(size=(STEPS, SITES)).astype(np.float32).astype(np.float64))
    return x, g


def write(path, high, cases):
    """The first draw on which every case keeps its distance from discontinuities."""
    for seed in range(1000):
        x, g = draw(seed, high)
        try:
            made = list(cases(x, g))
        except AssertionError:
            continue
        content = dict(steps=STEPS, sites=SITES, x=numbers(x), g=numbers(g), cases=made)
        text = json.dumps(content).replace('{"model"', '\n{"model"') + "\n"
        path.write_text(text)
        print(f"{path}: {len(made)} cases, draw {seed}, {len(text)} bytes")
        return
    raise SystemExit(f"no draw served for {path}")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        write(folder / f"spikingjelly_{model}.json", 1.5, lambda x, g, model=model: jelly_cases(model, x, g))
    write(folder / "snntorch_leaky.json", 1.2, torch_cases)
