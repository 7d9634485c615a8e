#!/usr/bin/env python3
"""Laws over what the chart renders. scripts/helm.sh brings helm and the Python packages, and runs this.

    laws.py [WORD…]    all laws, or those whose names contain one of the words

A law is a function; its name says it. Those of `each_shape` hold for every shape of values in chart.py. What is
rendered is started as far as one machine can (region.py). At the end the chart is broken in ways that each break one
law (mutations.py), and that law has to notice.
"""

import signal
import sys
import traceback

import laws_of_networks  # noqa: F401
import laws_of_pods  # noqa: F401
import laws_of_references  # noqa: F401
import laws_of_secrets  # noqa: F401
import laws_of_values  # noqa: F401
import mutations
import region
from chart import SHAPES, Refused, Rendered
from registered import EACH_SHAPE, ONCE, Missing


def main():
    words = sys.argv[1:]
    # Who is ended leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = {"passed": 0, "failed": 0, "skipped": 0}

    def judge(name, law, *arguments):
        try:
            said = law(*arguments)
        except Missing as missing:
            counts["skipped"] += 1
            print(f"{name}: skipped: {missing}", flush=True)
        except Exception as error:  # Whatever it is, the law does not hold.
            counts["failed"] += 1
            known = isinstance(error, (AssertionError, Refused))
            print(f"{name}: FAILED: {error if known else traceback.format_exc()}", flush=True)
        else:
            counts["passed"] += 1
            print(f"{name}: ok{f', {said}' if said else ''}", flush=True)

    def wanted(name):
        return not words or any(word in name for word in words)

    for name, law in ONCE.items():
        if wanted(name):
            judge(name, law)
    for shape in SHAPES:
        for name, law in EACH_SHAPE.items():
            if wanted(name):
                judge(f"{shape}: {name}", lambda law=law, shape=shape: law(Rendered(shape)))
    for name, law in region.LAWS.items():
        if wanted(name):
            judge(name, law)
    for number, mutation in enumerate(mutations.MUTATIONS):
        name = f"mutation {number + 1}: {mutation.what}"
        if wanted(name):
            judge(name, mutations.is_noticed, mutation, EACH_SHAPE | ONCE)
    print(f"helm: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
