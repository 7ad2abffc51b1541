"""Makes test/golden/rule.*.json and article.json again, from test/golden/inputs.json.

Run by hand: pip install torch==2.13.0, then python scripts/golden.py [--check]. --check writes nothing and compares.
"""

import argparse
import json
from pathlib import Path

import torch

FOLDER = Path(__file__).parent.parent / "test/golden"
INPUTS = json.loads((FOLDER / "inputs.json").read_text())
MADE_BY = {"torch": torch.__version__, "dtype": "float64"}

ALL = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}
RMS = {"lr": 0.02, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.02}
BUFFER = {"lr": 0.05, "momentum": 0.8}

# The file, the optimizer, and its cases: options as PyTorch spells them.
RULES = {
    "sgd": (torch.optim.SGD, {"plain": {"lr": 0.1}, "weight decay": {"lr": 0.1, "weight_decay": 0.02}, "maximize": {"lr": 0.1, "maximize": True}}),
    "momentum": (
        torch.optim.SGD,
        {
            "plain": BUFFER,
            "nesterov": {**BUFFER, "nesterov": True},
            "dampening and weight decay": {**BUFFER, "dampening": 0.3, "weight_decay": 0.02},
            "nesterov and weight decay": {**BUFFER, "nesterov": True, "weight_decay": 0.02},
        },
    ),
    "adagrad": (torch.optim.Adagrad, {"defaults": {}, "all": {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.1, "eps": 1e-6, "weight_decay": 0.02}}),
    "rmsprop": (torch.optim.RMSprop, {"defaults": {}, "weight decay": RMS}),
    "rmsprop_momentum": (torch.optim.RMSprop, {"all": {**RMS, "momentum": 0.8}}),
    "rmsprop_centered": (torch.optim.RMSprop, {"all": {**RMS, "centered": True}}),
    "rmsprop_centered_momentum": (torch.optim.RMSprop, {"all": {**RMS, "centered": True, "momentum": 0.8}}),
    "adam": (torch.optim.Adam, {"defaults": {}, "all": {**ALL, "weight_decay": 0.02}, "maximize": {"lr": 0.02, "maximize": True}}),
    "amsgrad": (torch.optim.Adam, {"defaults": {"amsgrad": True}, "all": {**ALL, "weight_decay": 0.02, "amsgrad": True}}),
    "adamw": (torch.optim.AdamW, {"defaults": {}, "all": {**ALL, "weight_decay": 0.1}}),
    "adamw_amsgrad": (torch.optim.AdamW, {"all": {**ALL, "weight_decay": 0.1, "amsgrad": True}}),
}


def tensors(values):
    """The three vectors of the inputs, in double precision and their shapes."""
    shapes = INPUTS["vectors"]["shapes"]
    return {name: torch.tensor(values[name], dtype=torch.float64).reshape(shapes[name]) for name in shapes}


def trajectory(start, update):
    """Parameters after each kept step; `update(step, params, grads)` moves them in place."""
    params = tensors(start)
    kept = {}
    for step in range(1, INPUTS["steps"] + 1):
        update(step, params, tensors({name: grads[step - 1] for name, grads in INPUTS["vectors"]["grads"].items()}))
        if step in INPUTS["kept"]:
            kept[str(step)] = {name: p.detach().flatten().tolist() for name, p in params.items()}
    return kept


def pytorch(optimizer_class, case, options):
    made = {}

    def update(_, params, grads):
        if not made:
            made["params"] = params
            made["optimizer"] = optimizer_class(list(params.values()), **options)
        for name, p in params.items():
            p.grad = grads[name]
        made["optimizer"].step()

    kept = trajectory(INPUTS["vectors"]["params"], update)
    state = {
        name: {key: value.flatten().tolist() for key, value in made["optimizer"].state[p].items() if torch.is_tensor(value)}
        for name, p in made["params"].items()
    }
    return {"from": "torch", "case": case, "inputs": "vectors", "options": options, "params": kept, "state": state}


def article():
    """The formulas alone: gradient descent, momentum with the rate inside, Adam without bias correction."""
    alpha, beta, beta1, beta2, epsilon = 0.05, 0.8, 0.8, 0.95, 1e-6
    v, m, s = ({name: 0.0 for name in INPUTS["vectors"]["shapes"]} for _ in range(3))

    def descent(_, params, grads):
        for name, p in params.items():
            p -= alpha * grads[name]

    def momentum(_, params, grads):
        for name, p in params.items():
            v[name] = beta * v[name] - alpha * grads[name]
            p += v[name]

    def adam(_, params, grads):
        for name, p in params.items():
            m[name] = beta1 * m[name] + (1 - beta1) * grads[name]
            s[name] = beta2 * s[name] + (1 - beta2) * grads[name] ** 2
            p -= alpha * m[name] / (s[name].sqrt() + epsilon)

    cases = {
        "gradient descent": ({"alpha": alpha}, descent),
        "momentum, rate inside the buffer": ({"alpha": alpha, "beta": beta}, momentum),
        "adam without bias correction": ({"alpha": alpha, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}, adam),
    }
    start = INPUTS["vectors"]["params"]
    return [{"case": case, "options": options, "params": trajectory(start, update)} for case, (options, update) in cases.items()]


def distance(a, b):
    """The largest difference between numbers at the same place."""
    if isinstance(a, dict):
        return max((distance(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list):
        return max((distance(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    return abs(a - b)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    files = {f"rule.{name}": [pytorch(made, case, options) for case, options in cases.items()] for name, (made, cases) in RULES.items()}
    for name, cases in {**files, "article": article()}.items():
        path = FOLDER / f"{name}.json"
        if not check:
            path.write_text(json.dumps({"made_by": MADE_BY, "cases": cases}, separators=(",", ":")))
            continue
        there = {case["case"]: case for case in json.loads(path.read_text())["cases"]}
        for case in cases:
            other = there[case["case"]]
            print(name, case["case"], max(distance(case[key], other[key]) for key in ("params", "state") if key in case))


if __name__ == "__main__":
    main()
