"""The Python side of python.ts: answers requests, a line of JSON each."""

import gc
import json
import sys
import time
import traceback


def serve(version, make):
    """`make(work, threads)` returns a pair of functions for each arm, by its name: the first is called before a sample, the second makes one step."""
    arms = {}
    answer({"version": version})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "make" in request:
                arms = make(request["make"], request["threads"])
                answer({"arms": list(arms)})
            elif "arm" in request:
                answer({"nanoseconds": measure(*arms[request["arm"]], request["count"], request["pause"])})
            else:
                arms = {}
                gc.collect()
                answer({})
        except Exception as error:
            answer({"error": traceback.format_exception_only(error)[-1].strip()[:300]})


def measure(prepare, step, count, pause):
    prepare()
    total = 0
    if pause:
        for _ in range(count):
            end = time.perf_counter_ns() + int(pause * 1e6)
            while time.perf_counter_ns() < end:
                pass
            start = time.perf_counter_ns()
            step()
            total += time.perf_counter_ns() - start
    else:
        start = time.perf_counter_ns()
        for _ in range(count):
            step()
        total = time.perf_counter_ns() - start
    return total


def answer(message):
    print(json.dumps(message), flush=True)


def snake(options):
    """PyTorch's and Optax's names of options."""
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in options.items()}
