#!/usr/bin/env python3
# Copyright the bloctrain authors. Licence: Apache-2.0.
"""The network `resnet9` of bloctrain in SpikingJelly on PyTorch: training steps or answers, timed.

Needs `pip install torch spikingjelly`. Prints one JSON object. The network, its neurons (LIF, reset by subtraction and
detached, atan surrogate), its optimiser (AdamW) and its learning rate are those of `bloctrain bench step --preset
resnet9 --end-to-end`, with `--recipe` those of the same with `--recipe`.

  python3 benches/spikingjelly_resnet9.py --width 32 --steps 4 --batch 32
  python3 benches/spikingjelly_resnet9.py --width 32 --steps 4 --batch 32 --channels-last \\
      --data cifar10/ --train-steps 300
  python3 benches/spikingjelly_resnet9.py --width 32 --steps 4 --batch 1 --inference
  python3 benches/spikingjelly_resnet9.py --device cuda --width 64 --batch 256 --channels-last --amp --compile

On a GPU the batches are on the device before the clock runs, and the memory is the most that PyTorch had allocated.
"""

import argparse
import inspect
import json
import os
import pathlib
import resource
import statistics
import sys
import time

# Read by the peer when it is imported: which implementation its neurons take on a GPU.
BACKEND = sys.argv[sys.argv.index("--backend") + 1] if "--backend" in sys.argv[:-1] else "auto"
os.environ.setdefault("SJ_LIF_CUDA_IMPLEMENTATION", BACKEND)

import numpy

if BACKEND == "cupy":
    # 0.0.0.0.14 uses a name that NumPy 1.24 removed.
    numpy.int = int

import torch
from spikingjelly.activation_based import functional, layer, memopt, neuron, surrogate
from torch import nn

CLASSES = 10
WARM_UP = 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="time steps")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--iters", type=int, default=8, help="timed steps or batches")
    parser.add_argument("--train-steps", type=int, default=0, help="steps that train before the clock runs")
    parser.add_argument(
        "--data", type=pathlib.Path, help="folder with CIFAR-10's binary files; random images without it"
    )
    parser.add_argument(
        "--recipe", action="store_true", help="neurons and classifier of bloctrain's recipe for resnet9"
    )
    parser.add_argument("--inference", action="store_true", help="time answers instead of training steps")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--memopt", action="store_true", help="the peer's memory optimisation of the pairs, level 1")
    parser.add_argument(
        "--backend", default="auto", help="the peer's neurons on a GPU: auto, torch, triton; cupy before 2.0"
    )
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; its default without it")
    return parser.parse_args()


class Spiking(nn.Module):
    """Sum of normalised convolutions into LIF neurons, over all steps at once."""

    def __init__(self, recipe, *convolutions):
        super().__init__()
        branches = []
        for inputs, outputs, kernel, stride in convolutions:
            convolution = layer.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
            branches.append(nn.Sequential(convolution, layer.BatchNorm2d(outputs)))
        self.branches = nn.ModuleList(branches)
        self.neurons = lif(recipe)

    def forward(self, *inputs):
        drives = [branch(x) for branch, x in zip(self.branches, inputs)]
        return self.neurons(sum(drives[1:], drives[0]))


def lif(recipe):
    # tau, threshold and the surrogate's slope.
    tau, threshold, slope = (4.0, 2.0, 1.0) if recipe else (2.0, 1.0, 2.0)
    # Before 2.0 neurons take their backend as an argument.
    chosen = (
        {"backend": BACKEND} if "backend" in inspect.signature(neuron.LIFNode).parameters and BACKEND != "auto" else {}
    )
    # Without decay of the input: u[t] = (1 - 1 / tau) u[t-1] + x[t].
    return neuron.LIFNode(
        **chosen,
        step_mode="m",
        tau=tau,
        decay_input=False,
        v_threshold=threshold,
        v_reset=None,
        detach_reset=True,
        surrogate_function=surrogate.ATan(alpha=slope),
    )


class Pair(nn.Module):
    """Two 3x3 convolutions and a 1x1 shortcut into the neurons of the second one."""

    def __init__(self, recipe, inputs, outputs, stride):
        super().__init__()
        self.inner = Spiking(recipe, (inputs, outputs, 3, 1))
        self.outer = Spiking(recipe, (outputs, outputs, 3, stride), (inputs, outputs, 1, stride))

    def forward(self, x):
        return self.outer(self.inner(x), x)


class ResNet9(nn.Module):
    def __init__(self, width, recipe):
        super().__init__()
        self.stem = Spiking(recipe, (3, width, 3, 1))
        self.pool = layer.AvgPool2d(2)
        pairs = ((width, 2 * width, 1), (2 * width, 4 * width, 2), (4 * width, 8 * width, 2))
        self.pairs = nn.Sequential(*(Pair(recipe, *pair) for pair in pairs))
        self.hidden = None if recipe else nn.Sequential(layer.Linear(8 * width * 16, 16 * width), lif(recipe))
        self.readout = layer.Linear((8 * 16 if recipe else 16) * width, CLASSES)

    def forward(self, images, steps):
        """Logits `[B, classes]` of images `[B, 3, 32, 32]`, averaged over time."""
        x = images.unsqueeze(0).expand(steps, *images.shape)
        x = self.pairs(self.pool(self.stem(x))).flatten(2)
        if self.hidden is None:
            # Averages over time come first where nothing fires behind them.
            return self.readout(x.mean(0))
        return self.readout(self.hidden(x)).mean(0)


def batches(args):
    """Batch after batch of normalised images with their labels."""
    if args.data is None:
        generator = torch.Generator().manual_seed(1)
        while True:
            images = torch.randn(args.batch, 3, 32, 32, generator=generator)
            yield images, torch.arange(args.batch) % CLASSES
    records = torch.frombuffer(bytearray((args.data / "data_batch_1.bin").read_bytes()), dtype=torch.uint8).view(
        -1, 3073
    )
    pixels = records[:, 1:].float().view(-1, 3, 32, 32) / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    while True:
        for start in range(0, len(pixels) - args.batch + 1, args.batch):
            yield pixels[start : start + args.batch], records[start : start + args.batch, 0].long()


def resident():
    """Largest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def firing_rates(net):
    """A list that fills with the firing rate of every layer of neurons in the next pass."""
    rates = []
    nodes = [module for module in net.modules() if isinstance(module, neuron.LIFNode)]
    hooks = [
        node.register_forward_hook(lambda _node, _inputs, out: rates.append(out.detach().mean().item()))
        for node in nodes
    ]
    return rates, hooks


def main():
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    net = ResNet9(args.width, args.recipe).to(args.device)
    functional.set_step_mode(net, "m")
    if args.channels_last:
        net = net.to(memory_format=torch.channels_last)
    if args.memopt:
        sample = torch.rand(args.batch, 3, 32, 32, device=args.device)
        memopt.optimize_memory(net, Pair, lambda current: current(sample, args.steps), level=1, compress=True)
        functional.reset_net(net)
    forward = torch.compile(net) if args.compile else net
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    source = ((images.to(args.device), labels.to(args.device)) for images, labels in batches(args))

    def autocast():
        return torch.autocast(args.device, torch.bfloat16, enabled=args.amp)

    def train(images, labels):
        with autocast():
            loss = nn.functional.cross_entropy(forward(images, args.steps).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        return loss.item()

    @torch.inference_mode()
    def answer(images, _labels):
        with autocast():
            forward(images, args.steps).softmax(1)
        functional.reset_net(net)

    on_gpu = args.device == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else lambda: None
    next(source)  # What it reads belongs to no step.
    before = resident()
    for _ in range(args.train_steps):
        train(*next(source))
    if args.inference:
        net.eval()
    call = answer if args.inference else train
    times = []
    for _ in range(WARM_UP + args.iters):
        images, labels = next(source)
        synchronize()
        begun = time.perf_counter()
        call(images, labels)
        synchronize()
        times.append(time.perf_counter() - begun)
    training_mib = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else resident() - before
    rates, hooks = firing_rates(net)
    with torch.no_grad():
        net(next(source)[0], args.steps)
    for hook in hooks:
        hook.remove()
    print(
        json.dumps(
            {
                "peer": "spikingjelly",
                "torch": torch.__version__,
                "inference": args.inference,
                "device": torch.cuda.get_device_name() if on_gpu else args.device,
                "backend": args.backend,
                "amp": args.amp,
                "compile": args.compile,
                "memopt": args.memopt,
                "channels_last": args.channels_last,
                "recipe": args.recipe,
                "width": args.width,
                "steps": args.steps,
                "batch": args.batch,
                "train_steps": args.train_steps,
                "images_per_s": args.batch / statistics.median(times[WARM_UP:]),
                # On the processor what the process grew by: PyTorch has no count of its memory there.
                "training_mib": training_mib,
                "firing_rate": statistics.mean(rates),
                "parameters": sum(parameter.numel() for parameter in net.parameters()),
            }
        )
    )


if __name__ == "__main__":
    main()
