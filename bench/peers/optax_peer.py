"""Optax's optimizers, compiled with their application to the parameters, as python.ts asks for them."""

import jax
import jax.numpy as jnp
import optax

from serve import serve, snake

RULES = {
    "sgd": optax.sgd,
    "adagrad": optax.adagrad,
    "rmsprop": optax.rmsprop,
    "adadelta": optax.adadelta,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "adamax": optax.adamax,
    "adabelief": optax.adabelief,
    "adan": optax.adan,
    "lion": optax.lion,
    "nadam": optax.nadam,
    "radam": optax.radam,
    "yogi": optax.yogi,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "novograd": optax.novograd,
    "fromage": optax.fromage,
    "adafactor": optax.adafactor,
    "sm3": optax.sm3,
}


def make(work, threads):
    options = snake(work["options"])
    rate = options.pop("lr")
    if work["rule"] not in RULES or "amsgrad" in options:
        return {}
    rule = RULES[work["rule"]](rate, **options)
    if work["whole"]:
        rule = optax.chain(optax.clip_by_global_norm(1.0), rule)
    params = [jnp.full(shape, 0.5, jnp.float32) for shape in work["shapes"]]
    grads = [0.01 * jnp.sin(jnp.arange(p.size, dtype=jnp.float32) ** 2 % 6.2832).reshape(p.shape) for p in params]
    averages = [p + 0 for p in params] if work["whole"] else []
    held = [params, jax.jit(rule.init)(params), averages]

    def update(params, state, averages, grads):
        updates, state = rule.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, optax.incremental_update(params, averages, 0.001) if averages else averages

    update = jax.jit(update, donate_argnums=(0, 1, 2))

    def step():
        held[:] = jax.block_until_ready(update(*held, grads))

    return {"Optax, jitted, all cores": (lambda: None, step)}


serve(f"Optax {optax.__version__} on JAX {jax.__version__}", make)
