"""Makes the golden numbers in test/golden from test/golden/inputs.json, in float64: PyTorch's, Optax's, Keras's, and an article's.

    python -m venv venv
    venv/bin/pip install torch==2.13.0 jax==0.10.2 optax==0.2.8 keras==3.15.1
    venv/bin/python scripts/golden.py [--check] [NAME ...]

Without --check it writes each file that is missing or whose numbers have changed. With --check it writes nothing, prints the largest
difference of each file, and fails if one is above 1e-12 of the file's own numbers. NAME is a file's name without `.json`
(`rule.adam`); without one, all files are made. To add a rule, add a line to TORCH or OPTAX.

`inputs.json` itself and `resume/` are data from a single run: there is nothing to make them from.
"""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import jax
import keras
import optax
import torch
from optax import contrib

jax.config.update("jax_enable_x64", True)
keras.backend.set_floatx("float64")
torch.set_default_dtype(torch.float64)  # also the scalars in the state of NAdam and ASGD

FOLDER = Path(__file__).parent.parent / "test/golden"
INPUTS = json.loads((FOLDER / "inputs.json").read_text())
MADE_BY = {"torch": torch.__version__, "jax": jax.__version__, "optax": optax.__version__, "keras": keras.__version__, "dtype": "float64"}

A = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}
RMS = {"lr": 0.02, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.02}
BUFFER = {"lr": 0.05, "momentum": 0.8}
DECOUPLED = {"lr": 0.02, "weight_decay": 0.02, "decoupled_weight_decay": True}

# For each file: the optimizer, and its cases by name, with options as PyTorch spells them. MATRICES names
# the files that run on matrices.
TORCH = {
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
    "adam": (torch.optim.Adam, {"defaults": {}, "all": {**A, "weight_decay": 0.02}, "maximize": {"lr": 0.02, "maximize": True}}),
    "amsgrad": (torch.optim.Adam, {"defaults": {"amsgrad": True}, "all": {**A, "weight_decay": 0.02, "amsgrad": True}}),
    "adamw": (torch.optim.AdamW, {"defaults": {}, "all": {**A, "weight_decay": 0.1}}),
    "adamw_amsgrad": (torch.optim.AdamW, {"all": {**A, "weight_decay": 0.1, "amsgrad": True}}),
    "rprop": (torch.optim.Rprop, {"defaults": {}, "all": {"lr": 0.02, "etas": (0.6, 1.3), "step_sizes": (0.0001, 0.5)}}),
    "adadelta": (torch.optim.Adadelta, {"defaults": {}, "all": {"lr": 0.7, "rho": 0.8, "eps": 1e-6, "weight_decay": 0.02}}),
    "adamax": (torch.optim.Adamax, {"defaults": {}, "all": {**A, "weight_decay": 0.02}}),
    "radam": (torch.optim.RAdam, {"defaults": {}, "all": {**A, "weight_decay": 0.02}, "decoupled": DECOUPLED}),
    "nadam": (torch.optim.NAdam, {"defaults": {}, "all": {**A, "weight_decay": 0.02, "momentum_decay": 0.01}, "decoupled": DECOUPLED}),
    "asgd": (torch.optim.ASGD, {"defaults": {}, "averaging from step 5": {"lr": 0.05, "lambd": 0.01, "alpha": 0.75, "t0": 5, "weight_decay": 0.02}}),
    "muon": (
        torch.optim.Muon,
        {
            "defaults": {},
            "no nesterov, match_rms_adamw": {
                **{"lr": 0.02, "weight_decay": 0.02, "momentum": 0.8, "nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 4}
            },
        },
    ),
    "adafactor": (
        torch.optim.Adafactor,
        {
            "defaults": {},
            "all": {"lr": 0.05, "beta2_decay": -0.7, "eps": (1e-20, 0.01), "d": 1.1, "weight_decay": 0.02},
            "vectors": {"lr": 0.05, "beta2_decay": -0.8, "eps": (1e-20, 0.001)},
        },
    ),
}

B = {"learning_rate": 0.02, "b1": 0.8, "b2": 0.95}
LARS = {"learning_rate": 0.5, "weight_decay": 0.02}


def sophia(**options):
    """Sophia whose estimate of the Hessian's diagonal is the squares of the step's gradients."""
    squares = optax.stateless(lambda updates, _: jax.tree.map(lambda g: g * g, updates))
    return contrib.sophia(**options, hessian_diagonal_fn=squares)


# The same, with options as Optax spells them.
OPTAX = {
    "adagrad_optax": (optax.adagrad, {"plain": {"learning_rate": 0.1}}),
    "rmsprop_optax": (
        optax.rmsprop,
        {
            "defaults": {"learning_rate": 0.02},
            "centered momentum": {"learning_rate": 0.02, "decay": 0.93, "eps": 1e-6, "centered": True, "momentum": 0.8},
        },
    ),
    "adam_optax": (optax.adam, {"eps_root": {**B, "eps": 1e-6, "eps_root": 1e-4}}),
    "amsgrad_optax": (optax.amsgrad, {"max over the bias-corrected average": {**B, "eps": 1e-6}}),
    "adamw_optax": (optax.adamw, {"nesterov": {**B, "eps": 1e-6, "weight_decay": 0.02, "nesterov": True}}),
    "nadam_optax": (optax.nadam, {"no momentum schedule": {**B, "eps": 1e-6}}),
    "sign_sgd": (optax.sign_sgd, {"plain": {"learning_rate": 0.01}}),
    "signum": (optax.signum, {"defaults": {"learning_rate": 0.01}, "all": {"learning_rate": 0.01, "beta": 0.7}}),
    "lion": (optax.lion, {"defaults": {"learning_rate": 0.001}, "all": {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "weight_decay": 0.02}}),
    "adabelief": (optax.adabelief, {"all": {**B, "eps": 1e-8, "eps_root": 1e-8}}),
    "yogi": (optax.yogi, {"all": {**B, "eps": 1e-3}}),
    "adopt": (contrib.adopt, {"all": {"learning_rate": 0.01, "b1": 0.8, "b2": 0.99, "eps": 1e-6}}),
    "ademamix": (
        contrib.ademamix,
        {"all": {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "b3": 0.99, "alpha": 4.0, "eps": 1e-6, "weight_decay": 0.02}},
    ),
    "simplified_ademamix": (contrib.simplified_ademamix, {"all": {**B, "alpha": 4.0, "eps": 1e-6, "eps_root": 1e-4, "weight_decay": 0.02}}),
    "madgrad": (contrib.madgrad, {"all": {"learning_rate": 0.02, "momentum": 0.8, "eps": 1e-6}}),
    "schedule_free_sgd": (contrib.schedule_free_sgd, {"all": {"learning_rate": 0.1, "b1": 0.8}}),
    "schedule_free_adamw": (contrib.schedule_free_adamw, {"all": {**B, "eps": 1e-6, "weight_decay": 0.02}}),
    "sophia": (
        sophia,
        {"defaults": {"learning_rate": 0.02}, "all": {**B, "eps": 1e-6, "weight_decay": 0.02, "gamma": 0.5, "clip_threshold": 0.7}},
    ),
    "optimistic_adam": (
        optax.optimistic_adam_v2,
        {"defaults": {"learning_rate": 0.02}, "all": {**B, "eps": 1e-6, "alpha": 0.7, "beta": 0.4, "eps_root": 1e-6, "nesterov": False}},
    ),
    "cocob": (contrib.cocob, {"all": {}}),
    "lamb": (optax.lamb, {"all": {**B, "eps": 1e-6, "weight_decay": 0.02}, "vectors": {"learning_rate": 0.02, "weight_decay": 0.02}}),
    "lars": (
        optax.lars,
        {
            "all": {**LARS, "trust_coefficient": 0.01, "eps": 0.0, "momentum": 0.8},
            "nesterov": {**LARS, "momentum": 0.8, "nesterov": True},
        },
    ),
    "novograd": (optax.novograd, {"all": {"learning_rate": 0.02, "b1": 0.8, "b2": 0.25, "eps": 1e-6, "weight_decay": 0.02}}),
    "fromage": (optax.fromage, {"plain": {"learning_rate": 0.01}}),
    "dog": (contrib.dog, {"all": {"learning_rate": 1.0}}),
    "dowg": (contrib.dowg, {"all": {"learning_rate": 1.0}}),
    "dadapt_adamw": (contrib.dadapt_adamw, {"all": {"learning_rate": 1.0, "betas": (0.8, 0.95), "weight_decay": 0.02}}),
    "prodigy": (contrib.prodigy, {"all": {"learning_rate": 1.0, "betas": (0.8, 0.95), "weight_decay": 0.02, "safeguard_warmup": False}}),
    "muon_optax": (contrib.muon, {"2-D part": {"learning_rate": 0.02, "beta": 0.8, "weight_decay": 0.02}}),
    "sm3": (optax.sm3, {"all": {"learning_rate": 0.05, "momentum": 0.8}}),
}

# Files whose cases run on the matrices, but for the case "vectors".
MATRICES = {"muon", "adafactor", "lamb", "lars", "novograd", "fromage", "muon_optax", "sm3"}


def trajectory(make, options, over="vectors"):
    """Parameters after each kept step. `make(params, **options)` returns a function that takes gradients and returns parameters."""
    shapes = INPUTS[over]["shapes"]
    arrays = lambda values: {name: torch.tensor(values[name], dtype=torch.float64).reshape(shape) for name, shape in shapes.items()}
    step = make(arrays(INPUTS[over]["params"]), **options)
    kept = {}
    for t in range(1, INPUTS["steps"] + 1):
        params = step(arrays({name: grads[t - 1] for name, grads in INPUTS[over]["grads"].items()}))
        if t in INPUTS["kept"]:
            kept[str(t)] = {name: p.flatten().tolist() for name, p in params.items()}
    return kept


def rule(library, run, name, cases, _):
    over = {case: "matrices" if name in MATRICES and case != "vectors" else "vectors" for case in cases}
    return {
        "rule": name,
        "cases": [
            {"from": library, "case": case, "inputs": over[case], "options": options, **run(options, over[case])}
            for case, options in cases.items()
        ],
    }


def torch_run(optimizer_class, options, over):
    kept = {}

    def make(params, **options):
        optimizer = optimizer_class(list(params.values()), **options)

        def step(grads):
            for name, p in params.items():
                p.grad = grads[name]
            optimizer.step()
            kept.update({name: optimizer.state[p] for name, p in params.items()})
            return params

        return step

    params = trajectory(make, options, over)
    state = {name: {key: value.flatten().tolist() for key, value in slots.items() if torch.is_tensor(value)} for name, slots in kept.items()}
    return {"params": params, "state": state}


def optax_run(make_optimizer, options, over):
    to_jax = lambda tensors: {name: jax.numpy.array(tensor.numpy()) for name, tensor in tensors.items()}

    def make(params, **options):
        optimizer, params = make_optimizer(**options), to_jax(params)
        state = optimizer.init(params)

        def step(grads):
            nonlocal params, state
            updates, state = optimizer.update(to_jax(grads), state, params)
            params = optax.apply_updates(params, updates)
            return params

        return step

    return {"params": trajectory(make, options, over)}


def keras_run(optimizer, options):
    def make(params, **options):
        variables = [keras.Variable(p.numpy(), dtype="float64", name=name) for name, p in params.items()]
        made = getattr(keras.optimizers, optimizer)(**options)
        made.build(variables)

        def step(grads):
            made.apply(list(grads.values()), variables)
            return {v.name: v.value.detach() for v in variables}

        return step

    return {"params": trajectory(make, options)}


def article():
    """The formulas alone: gradient descent, momentum with the rate inside, Adam without bias correction."""

    def descent(params, alpha):
        def step(grads):
            for name, p in params.items():
                p -= alpha * grads[name]
            return params

        return step

    def momentum(params, alpha, beta):
        v = dict.fromkeys(params, 0.0)

        def step(grads):
            for name, p in params.items():
                v[name] = beta * v[name] - alpha * grads[name]
                p += v[name]
            return params

        return step

    def adam(params, alpha, beta1, beta2, epsilon):
        m, s = dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0)

        def step(grads):
            for name, p in params.items():
                m[name] = beta1 * m[name] + (1 - beta1) * grads[name]
                s[name] = beta2 * s[name] + (1 - beta2) * grads[name] ** 2
                p -= alpha * m[name] / (s[name].sqrt() + epsilon)
            return params

        return step

    cases = {
        "gradient descent": (descent, {"alpha": 0.05}),
        "momentum, rate inside the buffer": (momentum, {"alpha": 0.05, "beta": 0.8}),
        "adam without bias correction": (adam, {"alpha": 0.05, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6}),
    }
    return {"cases": [{"case": case, "options": options, "params": trajectory(make, options)} for case, (make, options) in cases.items()]}


def keras_file(there):
    """Runs the cases that the file names."""
    return {"cases": [{**case, **keras_run(case["optimizer"], case["options"])} for case in there["cases"]]}


def clip_norm(there):
    """PyTorch's `clip_grad_norm_` on the gradients of the steps that the file names."""
    cases = []
    for case in there["cases"]:
        grads = {name: torch.tensor(grads[case["step"] - 1], dtype=torch.float64) for name, grads in INPUTS["vectors"]["grads"].items()}
        params = [torch.nn.Parameter(torch.zeros_like(g)) for g in grads.values()]
        for p, g in zip(params, grads.values(), strict=True):
            p.grad = g
        norm = torch.nn.utils.clip_grad_norm_(params, case["max_norm"])
        cases.append({**case, "norm": norm.item(), "grads": {name: p.grad.flatten().tolist() for name, p in zip(grads, params, strict=True)}})
    return {"cases": cases}


def ema(there):
    """PyTorch's `AveragedModel` with `get_ema_multi_avg_fn`, of a model whose parameters are each step's gradients."""
    vectors, result = INPUTS["vectors"], {}
    for name, grads in vectors["grads"].items():
        model = torch.nn.Module()
        model.p = torch.nn.Parameter(torch.tensor(vectors["params"][name], dtype=torch.float64))
        average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(there["decay"]))
        average.update_parameters(model)
        for g in grads:
            model.p.data = torch.tensor(g, dtype=torch.float64)
            average.update_parameters(model)
        result[name] = average.module.p.detach().flatten().tolist()
    return {"result": result}


def lbfgs(there):
    """PyTorch's LBFGS on Rosenbrock's function: the parameters after each of eight calls of `step`."""
    cases = []
    for case in there["cases"]:
        p = torch.tensor([-1.5, 2.0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([p], **case["options"])

        def closure():
            optimizer.zero_grad()
            loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
            loss.backward()
            return loss

        trace = []
        for _ in range(len(case["trace"])):
            optimizer.step(closure)
            trace.append(p.tolist())
        cases.append({**case, "trace": trace})
    return {"cases": cases}


def schedules(there):
    """The learning rate of each update, by the schedules and options that the file names."""

    def of_torch(schedule, base_lr, options, losses=None, **_):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=base_lr, momentum=0.9)
        if "lr_lambda" in options:
            options = {"lr_lambda": options["lr_lambda"].__getitem__}
        make = getattr(torch.optim.lr_scheduler, schedule, None) or getattr(torch.optim.swa_utils, schedule)
        scheduler = make(optimizer, **options)
        lr = []
        for i in range(there["steps"]):
            lr.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step(*([] if losses is None else [losses[i]]))
        return lr

    def of_optax(schedule, options, **_):
        if "boundaries_and_scales" in options:
            options = {**options, "boundaries_and_scales": {int(at): scale for at, scale in options["boundaries_and_scales"].items()}}
        make = getattr(optax, f"{schedule}_schedule", None) or getattr(optax, schedule)
        return [float(make(**options)(i)) for i in range(there["steps"])]

    make = {"torch": of_torch, "optax": of_optax}
    return {"cases": [{**case, "lr": make[case["from"]](**case)} for case in there["cases"]]}


def files():
    """What makes each file: a function of what the file holds now."""
    for library, run, rules in (("torch", torch_run, TORCH), ("optax", optax_run, OPTAX)):
        for name, (make, cases) in rules.items():
            yield f"rule.{name}", partial(rule, library, partial(run, make), name, cases)
    yield "article", lambda _: article()
    yield "keras", keras_file
    for name, make in {"clip_norm": clip_norm, "ema": ema, "lbfgs": lbfgs, "schedules": schedules}.items():
        yield name, make


def distance(new, old):
    """The largest difference between numbers at the same place, of the largest number in their list; infinite where the rest differs."""
    if isinstance(new, dict) and isinstance(old, dict) and new.keys() == old.keys():
        return max((distance(new[key], old[key]) for key in new), default=0.0)
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        if all(isinstance(x, float) for x in [*new, *old]):
            return max((abs(x - y) for x, y in zip(new, old)), default=0.0) / (max(map(abs, old), default=0.0) or 1.0)
        return max((distance(x, y) for x, y in zip(new, old)), default=0.0)
    if type(new) is type(old) is float:
        return abs(new - old) / (abs(old) or 1.0)
    return 0.0 if new == old else float("inf")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    failed = False
    for name, make in files():
        if given.names and name not in given.names:
            continue
        path = FOLDER / f"{name}.json"
        there = json.loads(path.read_text()) if path.exists() else {}
        new = json.loads(json.dumps({**there, "made_by": MADE_BY, **make(there)}))
        far = distance({**new, "made_by": 0}, {**there, "made_by": 0})
        same = far <= 1e-12
        print(f"{'same' if same else 'DIFFERENT':10}{far:.1e}  {name}", flush=True)
        failed = failed or not same
        if not same and not given.check:
            path.write_text(json.dumps(new, separators=(",", ":")) + "\n")
    made = {f"{name}.json" for name, _ in files()}
    for path in sorted(FOLDER.glob("*.json")):
        if path.name not in made | {"inputs.json"}:
            failed = True
            print(f"DIFFERENT {path.name} is made by no line of this script")
    if given.check and failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
