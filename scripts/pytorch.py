"""The PyTorch side of test/torch, run by hand: pip install torch numpy safetensors

python scripts/pytorch.py make         writes the files in test/torch/fixtures
python scripts/pytorch.py check DIR    reads the files that test/torch wrote to DIR (TORCH_OUT=DIR npm test -- torch), continues the runs, and compares
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent.parent / "test/torch/fixtures"
SHAPES = {"0.weight": (7, 9), "0.bias": (7,), "scale": ()}
RULES = {
    "sgd": (torch.optim.SGD, dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "adagrad": (torch.optim.Adagrad, dict(lr=0.05, lr_decay=0.1)),
    "rmsprop": (torch.optim.RMSprop, dict(lr=0.01, momentum=0.8, centered=True)),
    "rprop": (torch.optim.Rprop, dict(lr=0.02, etas=(0.6, 1.3))),
    "adadelta": (torch.optim.Adadelta, dict(lr=0.5, rho=0.8)),
    "adamax": (torch.optim.Adamax, dict(lr=0.01, weight_decay=0.01)),
    "nadam": (torch.optim.NAdam, dict(lr=0.01, momentum_decay=0.01)),
    "asgd": (torch.optim.ASGD, dict(lr=0.05, lambd=0.01, t0=3, weight_decay=0.01)),
    "radam": (torch.optim.RAdam, dict(lr=0.01, betas=(0.8, 0.99), decoupled_weight_decay=True, weight_decay=0.01)),
    "adam": (torch.optim.Adam, dict(lr=0.01, amsgrad=True, weight_decay=0.01)),
    "adamw": (torch.optim.AdamW, dict(lr=0.01, betas=(0.8, 0.99))),
    "muon": (torch.optim.Muon, dict(lr=0.02, weight_decay=0.01)),
    "adafactor": (torch.optim.Adafactor, dict(lr=0.05)),
}


def params(seed, rule=""):
    """Muon is for matrices: all of its tensors are matrices."""
    generator = torch.Generator().manual_seed(seed)
    model = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: tensor.reshape((*tensor.shape, 1, 1)[:2]) for name, tensor in model.items()} if rule == "muon" else model


def groups(model):
    return [{"params": [model["0.weight"], model["scale"]]}, {"params": [model["0.bias"]], "lr": 0.02}]


def steps(model, optimizer, count, first):
    for i in range(first, first + count):
        for name, grad in params(100 + i).items():
            model[name].grad = grad.reshape(model[name].shape)
        optimizer.step()


def lists(tensors):
    return {name: tensor.detach().flatten().tolist() for name, tensor in tensors.items()}


def make():
    HERE.mkdir(exist_ok=True)
    cases = {}
    for rule, (Optimizer, options) in RULES.items():
        model = {name: tensor.requires_grad_() for name, tensor in params(1, rule).items()}
        optimizer = Optimizer(groups(model), **options)
        steps(model, optimizer, 5, 0)
        torch.save(optimizer.state_dict(), HERE / f"{rule}.pt")
        before = lists(model)
        steps(model, optimizer, 5, 5)
        cases[rule] = {"options": options, "before": before, "after": lists(model)}
    grads = [lists(params(100 + i)) for i in range(10)]
    (HERE / "cases.json").write_text(json.dumps({"torch": torch.__version__, "grads": grads, "cases": cases}) + "\n")

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.half())
    whole = {
        "epoch": 3,
        "big": 2**40,
        "model": model.state_dict(),
        "half": {"w": model[0].weight.detach().half()},
        "bfloat": {"w": torch.tensor([1.5, -2.0, 3.0e38, float("inf")]).bfloat16()},
        "double": {"w": torch.tensor([1.5, -2.25], dtype=torch.float64)},
        "transposed": {"w": model[0].weight.detach().t()},
        "sliced": {"w": torch.arange(12.0).view(3, 4)[1:, 1:3]},
        "parameter": {"w": torch.nn.Parameter(torch.tensor([4.0, 5.0]))},
    }
    torch.save(whole, HERE / "whole.pt")
    weight = model[0].weight.detach().flatten().tolist()
    (HERE / "whole.json").write_text(json.dumps(weight) + "\n")


def check(folder):
    for rule, (Optimizer, options) in RULES.items():
        saved = Path(folder) / f"{rule}.pt"
        model = {name: tensor.requires_grad_() for name, tensor in torch.load(Path(folder) / f"{rule}.model.pt", weights_only=True).items()}
        optimizer = Optimizer(groups(model), **options)
        optimizer.load_state_dict(torch.load(saved, weights_only=True, mmap=True))
        steps(model, optimizer, 5, 5)
        expected = json.loads((HERE / "cases.json").read_text())["cases"][rule]["after"]
        worst = max(abs(a - b) / (1e-6 + 1e-5 * abs(b)) for name, values in lists(model).items() for a, b in zip(values, expected[name]))
        print(f"{rule}: {worst:.3f} of what is allowed (1e-5 relative plus 1e-6)")
        assert worst < 1, rule


if __name__ == "__main__":
    make() if sys.argv[1:2] == ["make"] else check(sys.argv[2])
