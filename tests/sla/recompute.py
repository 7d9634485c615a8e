#!/usr/bin/env python3
"""Computes every number of a service-level report anew from its hours: written from docs/SLA.md alone.

    recompute.py REPORT.json HOURS.csv

Prints what differs, and fails if anything does.
"""

import csv
import json
import sys

MILLION = 1_000_000
OWNERS = ["ours", "provider", "tenant", "device"]


def tally(rows):
    """Sums of rows, by the names of their columns, and their latencies by bucket."""
    total, latency = {}, {}
    for row in rows:
        for name, text in row.items():
            if name == "latency_us":
                for bucket in text.split():
                    bounds, count = bucket.split(":")
                    bounds = tuple(int(bound) for bound in bounds.split("-"))
                    latency[bounds] = latency.get(bounds, 0) + int(count)
            elif name not in ("hour", "span_hours", "provider", "class"):
                total[name] = total.get(name, 0) + int(text)
    return total, latency


def quantile(latency, per_mille):
    """The middle of the bucket of the one with that rank."""
    rank = max(1, -(-sum(latency.values()) * per_mille // 1000))
    seen = 0
    for (low, high), count in sorted(latency.items()):
        seen += count
        if seen >= rank:
            return (low + high) // 2
    return None


def tally_view(rows):
    total, latency = tally(rows)
    get = lambda name: total.get(name, 0)
    view = {
        "accepted": get("ok") + get("removed") + sum(get(f"failed_{owner}") for owner in OWNERS),
        "ok": get("ok"),
        "removed": get("removed"),
        "failed": {owner: get(f"failed_{owner}") for owner in OWNERS},
        "refused": {owner: get(f"refused_{owner}") for owner in OWNERS},
        "in_time": get("in_time"),
        "receipts": get("receipts"),
    }
    if latency:
        names = [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)]
        view["latency_us"] = {name: quantile(latency, per_mille) for name, per_mille in names}
    return view


def share(good, of, objective):
    view = {"good": good, "of": of}
    if of:
        view["ppm"] = good * MILLION // of
    if objective is not None:
        view["objective_ppm"] = objective
        view["is_kept"] = not of or view["ppm"] >= objective
    return view


def compute(report, rows):
    """The computed parts of a report."""
    total = tally_view(rows)
    classes = {
        name: tally_view([row for row in rows if row["class"] == name])
        for name in ("call", "message", "background")
    }
    bad = {owner: total["failed"][owner] + total["refused"][owner] for owner in OWNERS}
    bad["device"] += total["removed"]
    valid = total["accepted"] + total["refused"]["ours"] + total["refused"]["provider"]
    objective = lambda name: report[name].get("objective_ppm")
    call, message, background = classes["call"], classes["message"], classes["background"]
    computed = {
        "total": total,
        "classes": [{"class": name, "tally": view} for name, view in classes.items()],
        "bad": bad,
        "availability": share(valid - bad["ours"], valid, objective("availability")),
        "calls_in_time": share(call["in_time"], call["ok"], objective("calls_in_time")),
        "messages_in_time": share(
            message["in_time"] + background["in_time"],
            message["ok"] + background["ok"],
            objective("messages_in_time"),
        ),
    }
    if "is_kept" in report:
        shares = [computed[name] for name in ("availability", "calls_in_time", "messages_in_time")]
        computed["is_kept"] = all(share["is_kept"] for share in shares)
        allowed = MILLION - objective("availability")
        seconds = report["budget"]["seconds"]
        spent = bad["ours"] * MILLION * MILLION // (valid * allowed) if valid else 0
        computed["budget"] = {
            "seconds": seconds,
            "spent_ppm": spent,
            "left_seconds": seconds * max(0, MILLION - spent) // MILLION,
        }
    return computed


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    with open(sys.argv[2], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = {name: value for name, value in compute(report, rows).items() if report.get(name) != value}
    for name, value in wrong.items():
        print(f"{name}: the report has {report.get(name)}, the hours {value}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
