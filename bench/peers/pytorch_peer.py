"""PyTorch's optimizers, as python.ts asks for them."""

import inspect

import torch

from serve import serve, snake

RULES = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "asgd": torch.optim.ASGD,
    "radam": torch.optim.RAdam,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adafactor": torch.optim.Adafactor,
    "muon": getattr(torch.optim, "Muon", None),
}


def stepper(work, Optimizer, options):
    params = []
    for shape in work["shapes"]:
        param = torch.full(shape, 0.5, requires_grad=True)
        param.grad = (torch.arange(param.numel(), dtype=torch.float32) ** 2 % 6.2832).sin_().mul_(0.01).reshape(shape)
        params.append(param)
    optimizer = Optimizer(params, **snake(work["options"]), **options)
    if not work["whole"]:
        return optimizer.step
    averages = [param.detach().clone() for param in params]

    def step():
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, params, 0.001)

    return step


def make(work, threads):
    Optimizer = RULES.get(work["rule"])
    if Optimizer is None:
        return {}
    kinds = {"PyTorch": {}}
    if "fused" in inspect.signature(Optimizer).parameters:
        kinds = {"PyTorch fused": {"fused": True}, **kinds}
    steps = {name: stepper(work, Optimizer, options) for name, options in kinds.items()}
    return {
        f"{name}, {count} thread{'s' * (count > 1)}": (lambda count=count: torch.set_num_threads(count), step)
        for name, step in steps.items()
        for count in threads
    }


serve(f"PyTorch {torch.__version__}", make)
