"""The PyTorch side of test/torch, run by hand: pip install torch numpy safetensors

python scripts/pytorch.py make [PART]  writes the files in test/torch/fixtures: runs, whole, values, lbfgs, or all of them
python scripts/pytorch.py check DIR    reads the files that test/torch wrote to DIR (TORCH_OUT=DIR npm test -- torch), continues the runs, and compares
"""

import collections
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


def make_runs():
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


def make_whole():
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


def value_of(make):
    """A value that this version of PyTorch may not have."""
    try:
        return make()
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        print(f"left out: {error}")
        return None


class Attributed(torch.Tensor):
    pass


def values():
    """Everything that torch.load(weights_only=True) reads beside a model, and what it reads once it is allowed."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    parameter.note = "an attribute"
    tensor = torch.tensor([3.0, 4.0])
    tensor.note = "an attribute"
    state = torch.nn.Linear(1, 1).state_dict()
    base = lambda: torch.tensor([1.0 + 2.0j, 3.0 - 4.0j])
    return {
        "none": None,
        "true": True,
        "int": 7,
        "negative": -7,
        "long": 2**40,
        "seed": 2**64 - 1,
        "huge": 10**30,
        "float": 0.1,
        "nan": float("nan"),
        "text": "ä",
        "bytes": b"\x00\xff",
        "no_bytes": bytearray(b""),
        "bytearray": bytearray(b"ab"),
        "complex": 1 + 2j,
        "list": [1, [2]],
        "tuple": (1, (2, 3), (4, 5, 6), (7, 8, 9, 10)),
        "dict": {1: "one", "two": 2, None: 3, True: 4, (1, 2): 5, 1.5: 6},
        "ambiguous": {2: "number", "2": "text"},
        "set": {1, 2},
        "ordered": collections.OrderedDict(a=1),
        "counter": collections.Counter({2: 1, 4: 3}),
        "state_dict": state,
        "size": torch.Size([2, 3]),
        "device": torch.device("cuda", 1),
        "dtype": torch.float16,
        "layout": torch.strided,
        "f64": torch.tensor([0.1], dtype=torch.float64),
        "f16": torch.tensor([0.5], dtype=torch.float16),
        "bf16": torch.tensor([0.5], dtype=torch.bfloat16),
        "f8_e4m3": value_of(lambda: torch.tensor([0.5, 448.0, -0.015625]).to(torch.float8_e4m3fn)),
        "f8_e5m2": value_of(lambda: torch.tensor([0.5, 57344.0, float("inf")]).to(torch.float8_e5m2)),
        "i64": torch.tensor([2**40]),
        "u16": value_of(lambda: torch.tensor([65535], dtype=torch.int32).to(torch.uint16)),
        "bool": torch.tensor([True, False]),
        "c64": base(),
        "conj": base().conj(),
        "conj_imag": base().conj().imag,
        "neg": torch.tensor([1.0, -2.0])._neg_view(),
        "expanded": torch.tensor([5.0]).expand(3),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.tensor([4.0])),
        "parameter_with_attribute": parameter,
        "tensor_with_attribute": tensor,
        "buffer": torch.nn.Buffer(torch.tensor([6.0])),
        "sparse_coo": torch.eye(2).to_sparse(),
        "sparse_csr": torch.eye(2).to_sparse_csr(),
        "quantized": value_of(lambda: torch.quantize_per_tensor(torch.tensor([1.0]), 0.1, 0, torch.qint8)),
        "meta": torch.empty(2, device="meta"),
        "typed_storage": value_of(lambda: torch.tensor([1.0]).untyped_storage()),
    }


def allowed_values():
    """Values that torch.load(weights_only=True) reads after add_safe_globals, or not at all."""
    import argparse
    import datetime
    import decimal
    import fractions
    import pathlib

    import numpy

    return {
        "frozenset": frozenset([1]),
        "namespace": argparse.Namespace(lr=0.1),
        "date": datetime.datetime(2026, 1, 2),
        "decimal": decimal.Decimal("0.1"),
        "fraction": fractions.Fraction(1, 3),
        "path": pathlib.PurePosixPath("/a"),
        "defaultdict": collections.defaultdict(list, a=[1]),
        "deque": collections.deque([1, 2]),
        "numpy_scalar": numpy.float64(0.5),
        "numpy_array": numpy.arange(3.0),
        "range": range(3),
        "slice": slice(1, 2),
        "class": argparse.Namespace,
        "function": torch.nn.functional.relu,
        "random": __import__("random").getstate(),
        "module": torch.nn.Linear(1, 1),
        "subclass": value_of(lambda: torch.tensor([1.0]).as_subclass(Attributed)),
    }


UNTYPED = ["f8_e4m3", "f8_e5m2", "u16", "typed_storage"]


def make_values():
    model = {"w": torch.tensor([1.0, 2.0, 3.0])}
    torch.save({"model": model, "extra": values()}, HERE / "values.pt")
    torch.save({"model": model, "extra": allowed_values()}, HERE / "allowed.pt")
    torch.save({"model": model, "extra": values()}, HERE / "protocol4.pt", pickle_protocol=4)
    # The older format has no storages without a type.
    typed = {name: value for name, value in values().items() if name not in UNTYPED}
    torch.save({"model": model, "extra": typed}, HERE / "legacy_values.pt", _use_new_zipfile_serialization=False)


LBFGS = dict(lr=0.5, max_iter=3, history_size=4)


def lbfgs_run(state, first, searches):
    """Rosenbrock's function in two tensors; each step from the last one's point."""
    model = {name: torch.tensor(numbers, requires_grad=True) for name, numbers in first.items()}
    optimizer = torch.optim.LBFGS(list(model.values()), line_search_fn=searches, **LBFGS)
    if state is not None:
        optimizer.load_state_dict(state)

    def closure():
        optimizer.zero_grad()
        x, y = model["x"], model["y"]
        loss = ((1 - x) ** 2 + 100 * (y - x**2) ** 2).sum()
        loss.backward()
        return loss

    return model, optimizer, closure


def make_lbfgs():
    first = {"x": [-1.2, 0.5], "y": [1.0, -0.3]}
    result = {}
    for searches in (None, "strong_wolfe"):
        name = searches or "none"
        model, optimizer, closure = lbfgs_run(None, first, searches)
        if searches is None:
            optimizer.param_groups[0]["lr"] = 0.001
        for _ in range(3):
            optimizer.step(closure)
        torch.save(optimizer.state_dict(), HERE / f"lbfgs_{name}.pt")
        before = lists(model)
        for _ in range(3):
            optimizer.step(closure)
        result[name] = {"before": before, "after": lists(model)}
    (HERE / "lbfgs.json").write_text(json.dumps(result) + "\n")


PARTS = {"runs": make_runs, "whole": make_whole, "values": make_values, "lbfgs": make_lbfgs}


def make(part=None):
    HERE.mkdir(exist_ok=True)
    for name in [part] if part else PARTS:
        PARTS[name]()


def check_lbfgs(folder):
    for name, case in json.loads((HERE / "lbfgs.json").read_text()).items():
        state = torch.load(Path(folder) / f"lbfgs_{name}.pt", weights_only=True)
        model, optimizer, closure = lbfgs_run(state, case["before"], None if name == "none" else name)
        for _ in range(3):
            optimizer.step(closure)
        worst = max(abs(a - b) / (1e-6 + 1e-3 * abs(b)) for key, values in lists(model).items() for a, b in zip(values, case["after"][key]))
        print(f"lbfgs {name}: {worst:.3f} of what is allowed (1e-3 relative plus 1e-6)")
        assert worst < 1, name


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
    check_lbfgs(folder)


if __name__ == "__main__":
    make(*sys.argv[2:3]) if sys.argv[1:2] == ["make"] else check(sys.argv[2])
