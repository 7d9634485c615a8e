#!/usr/bin/env python3
"""House rules that a machine can measure: how long files are, and which modules import each other in a circle.

    house.py [--arrows] [--parents] [--tests] [CRATE...]

Fails if there is a circle, or a file of more than 400 production lines.

Prints, for each crate of the workspace, the median and the maximum of production lines a file, and every circle of
imports between sibling modules: at the top of the crate, and between the children of each module. A circle is a
strongly connected component of the graph "some file of module A names something of module B".

* Production lines are all lines outside of `#[cfg(test)]` and `#[cfg(fuzzing)]` items, in files that are compiled
  without these, and are not tests by their names (`tests.rs`, `…_tests.rs`, `tests/`).
* Names count in `use crate::…`, `use super::…`, `use self::…` and in paths within code. A re-export counts as the module
  that it comes from: `crate::Licence` is `crate::licence`, if the root says `pub use licence::Licence`.
* In macros `$crate` is the crate. What a macro names without a path is found where it is expanded, not here.

--arrows   also the lines that make each arrow of a circle
--parents  also circles between a module's own file and its children
--tests    also the targets below tests/
"""

import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IDENT = r"[A-Za-z_][A-Za-z0-9_]*"
ITEM = re.compile(
    r"^\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+|const\s+|async\s+|unsafe\s+|extern\s+\"[^\"]*\"\s+)*"
    rf"(?:struct|enum|union|trait|type|fn|const|static|macro_rules!)\s+(?:mut\s+)?({IDENT})",
    re.M,
)
MOD = re.compile(rf"^[ \t]*(?:pub(?:\([^)]*\))?\s+)?mod\s+({IDENT})\s*;", re.M)
USE = re.compile(r"^[ \t]*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.M)
PATH = re.compile(rf"(?<![\w:])(\$?crate|self|super)\s*::\s*({IDENT}(?:\s*::\s*{IDENT})*)")
TEST_ATTRIBUTE = re.compile(r"^[ \t]*#\[cfg\((?:all\()?(?:test|fuzzing)\b[^\]]*\]", re.M)


def blank(text):
    """The text with comments and the contents of strings and characters as spaces; lines stay lines."""
    out, at = [], 0
    literal = re.compile(
        r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.S
    )
    for found in literal.finditer(text):
        out += [text[at : found.start()], re.sub(r"[^\n]", " ", found.group())]
        at = found.end()
    return "".join(out + [text[at:]])


def end_of_item(code, at):
    """Where the item that begins at `at` ends: behind its `;`, or behind the brace that closes it."""
    depth = 0
    for place in range(at, len(code)):
        letter = code[place]
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth == 0 and letter == "}":
                return place + 1
        elif letter == ";" and depth == 0:
            return place + 1
    return len(code)


def without_tests(code):
    """The code with test items as empty lines, how many lines they are, and the modules that are only tests."""
    test_modules, removed = set(), 0
    while found := TEST_ATTRIBUTE.search(code):
        end = end_of_item(code, found.end())
        item = code[found.start() : end]
        test_modules.update(MOD.findall(item[found.end() - found.start() :]))
        removed += item.count("\n") + 1
        code = code[: found.start()] + re.sub(r"[^\n]", " ", item) + code[end:]
    return code, removed, test_modules


def use_paths(tree):
    """Every path of a use tree, as lists of segments, and the name that each is known by."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, alias = tree.partition(" as ")
        segments = [part.strip() for part in path.split("::") if part.strip()]
        return [(segments, alias.strip() or (segments[-1] if segments else ""))]
    head = [part.strip() for part in tree[:brace].split("::") if part.strip()]
    inner, depth, part, parts = tree[brace + 1 : tree.rfind("}")], 0, "", []
    for letter in inner:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    found = []
    for part in [*parts, part]:
        if part.strip():
            found += [(head + segments, name) for segments, name in use_paths(part)]
    return found


class Module:
    """A file of a crate: what it declares, what it re-exports, what it names."""

    def __init__(self, path, file):
        self.path, self.file = path, file
        text = file.read_text()
        self.code, removed, self.test_children = without_tests(blank(text))
        self.lines = len(text.splitlines()) - removed
        self.children = [name for name in MOD.findall(self.code) if name not in self.test_children]
        self.items = set(ITEM.findall(self.code))
        self.exports, self.globs, self.names = {}, [], []
        for found in USE.finditer(self.code):
            line = self.code.count("\n", 0, found.start()) + 1
            for segments, name in use_paths(found.group(2)):
                if segments and segments[-1] == "self":
                    segments, name = segments[:-1], segments[-2] if name == "self" else name
                if found.group(1) and segments:
                    if segments[-1] == "*":
                        self.globs.append(segments[:-1])
                    else:
                        self.exports[name] = segments
                # What comes from below is handed on; all else is used.
                if segments and not (found.group(1) and segments[0] in ("self", *self.children)):
                    self.names.append((segments, line))
        rest = USE.sub(lambda it: re.sub(r"[^\n]", " ", it.group()), self.code)
        for found in PATH.finditer(rest):
            segments = [found.group(1).lstrip("$"), *re.split(r"\s*::\s*", found.group(2))]
            self.names.append((segments, rest.count("\n", 0, found.start()) + 1))


class Crate:
    """The modules of a crate, by their paths; the root's is empty."""

    def __init__(self, root):
        self.modules = {}
        self.read((), root, root.parent)

    def read(self, path, file, directory):
        module = self.modules[path] = Module(path, file)
        for child in module.children:
            for place in (directory / f"{child}.rs", directory / child / "mod.rs"):
                if place.exists():
                    self.read((*path, child), place, directory / child)

    def absolute(self, segments, home):
        """A path as it is from the crate's root; None if it leads elsewhere, such as to another crate."""
        path, rest = home, list(segments)
        if rest[0] == "crate":
            return rest[1:]
        if rest[0] == "self":
            return [*home, *rest[1:]]
        if rest[0] == "super":
            while rest and rest[0] == "super":
                path, rest = path[:-1], rest[1:]
            return [*path, *rest]
        if rest[0] in self.modules[home].children:
            return [*home, *rest]
        return None

    def resolve(self, segments, home, depth=0):
        """The module that a path leads to, through re-exports; None for what is not of this crate."""
        absolute = self.absolute(segments, home) if segments else None
        if absolute is None or depth > 9:
            return None
        path = ()
        for place, name in enumerate(absolute):
            if (*path, name) in self.modules:
                path = (*path, name)
                continue
            module = self.modules[path]
            if name in module.exports:
                return self.resolve([*module.exports[name], *absolute[place + 1 :]], path, depth + 1)
            if name not in module.items:
                for glob in module.globs:
                    target = self.resolve(glob, path, depth + 1)
                    if target is not None and self.has(target, name):
                        return self.resolve(["crate", *target, name], (), depth + 1)
            return path
        return path

    def has(self, path, name):
        module = self.modules[path]
        return name in module.items or name in module.exports or (*path, name) in self.modules

    def arrows(self, parent, with_parent=False):
        """Between the children of a module: who names whom, and where. The parent's own file is called `.`."""
        arrows, depth = defaultdict(dict), len(parent)
        for path, module in self.modules.items():
            if path[:depth] != parent:
                continue
            own = path[depth] if len(path) > depth else "."
            for segments, line in module.names:
                target = self.resolve(segments, path)
                if target is None or target[:depth] != parent:
                    continue
                other = target[depth] if len(target) > depth else "."
                if own != other and (with_parent or "." not in (own, other)):
                    place = f"{module.file.relative_to(ROOT)}:{line}"
                    arrows[own, other].setdefault(place, []).append("::".join(segments))
        return arrows


def components(arrows):
    """The strongly connected components of more than one module (Tarjan, 1972)."""
    graph = defaultdict(set)
    for one, other in arrows:
        graph[one].add(other)
    numbers, low, stack, found = {}, {}, [], []

    def visit(node):
        numbers[node] = low[node] = len(numbers)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in numbers:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], numbers[other])
        if low[node] == numbers[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in numbers:
            visit(node)
    return found


def is_test_file(file):
    return "tests" in file.parts[len(ROOT.parts) + 2 :] or re.search(r"(^|_)tests\.rs$", file.name)


def report(name, roots, options):
    """Prints what is measured of one crate, and says whether the rules are kept."""
    crates = [Crate(root) for root in roots]
    files = {module.file: module.lines for crate in crates for module in crate.modules.values()}
    lines = sorted(count for file, count in files.items() if not is_test_file(file))
    longest = max((count, file) for file, count in files.items() if not is_test_file(file))
    print(
        f"{name}: {len(lines)} files, median {statistics.median(lines):.0f}, "
        f"maximum {longest[0]} ({longest[1].relative_to(ROOT)})"
    )
    kept = longest[0] <= 400
    for crate in crates:
        for parent in sorted(crate.modules):
            arrows = crate.arrows(parent, "--parents" in options)
            for circle in components(arrows):
                kept = False
                print(f"  circle in {'::'.join(['crate', *parent])}: {', '.join(circle)}")
                for (one, other), places in sorted(arrows.items()):
                    if {one, other} <= set(circle):
                        print(f"    {one} -> {other}")
                        for place, names in places.items() if "--arrows" in options else ():
                            print(f"      {place}: {', '.join(sorted(set(names)))}")
    return kept


def main():
    options = {argument for argument in sys.argv[1:] if argument.startswith("--")}
    wanted = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    targets = {}
    for source in sorted(ROOT.glob("crates/*/src")):
        targets[source.parent.name] = [it for it in (source / "lib.rs", source / "main.rs") if it.exists()]
    if "--tests" in options:
        for root in sorted([*ROOT.glob("tests/*/lib.rs"), *ROOT.glob("tests/*/main.rs")]):
            targets[f"tests/{root.parent.name}"] = [root]
    reports = [report(name, roots, options) for name, roots in targets.items() if not wanted or name in wanted]
    sys.exit(not all(reports))


if __name__ == "__main__":
    main()
