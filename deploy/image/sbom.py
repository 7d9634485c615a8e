#!/usr/bin/env python3
"""What is in the image, as CycloneDX 1.5: Debian's packages, crates, data. The same input gives the same bytes.

    sbom.py --binary FILE --version VERSION --commit COMMIT --debs DIRECTORY >sbom.json

Crates are those that Cargo.lock leads to from `hpns`, without what only tests need. Cargo.lock knows neither platforms nor
features, so some of them are not in the binary: none that is, is missing.
"""

import argparse
import hashlib
import json
import re
import subprocess
import tomllib
import uuid
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
DATA_LICENCES = ROOT / "crates/gateway/data/LICENSES.txt"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(digest):
    return [{"alg": "SHA-256", "content": digest}]


def escaped(text):
    return quote(text, safe="")


def control(deb):
    """The fields of a package that are of one line."""
    text = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"^([A-Za-z-]+): (.*)$", text, re.M))


def debian_packages(directory):
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.M))
    distribution, number = release["ID"], release["VERSION_ID"]
    for deb in sorted(Path(directory).glob("*.deb")):
        fields = control(deb)
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        purl = (
            f"pkg:deb/{distribution}/{name}@{escaped(version)}"
            f"?arch={architecture}&distro={distribution}-{number}"
        )
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "hashes": hashes(sha256(deb)),
        }


def only_for_tests(manifest):
    """The names of dependencies that a crate of ours has for its tests alone."""
    tables = [manifest, *manifest.get("target", {}).values()]

    def names(*kinds):
        return {
            dependency.get("package", name) if isinstance(dependency, dict) else name
            for table in tables
            for kind in kinds
            for name, dependency in table.get(kind, {}).items()
        }

    return names("dev-dependencies") - names("dependencies", "build-dependencies")


def crates():
    """The components, and for each which others it is made of."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    versions = {}
    for package in lock:
        versions.setdefault(package["name"], []).append(package)
    ours = {}
    for path in ROOT.glob("crates/*/Cargo.toml"):
        manifest = tomllib.loads(path.read_text())
        ours[manifest["package"]["name"]] = only_for_tests(manifest)

    def reference(package):
        if "source" not in package:
            return f"workspace:{package['name']}"
        return f"pkg:cargo/{package['name']}@{escaped(package['version'])}"

    def found(wanted):
        name, _, version = wanted.partition(" ")
        candidates = versions[name]
        return next(it for it in candidates if not version or it["version"] == version.split(" ")[0])

    def parts(package):
        left_out = ours.get(package["name"], set()) if "source" not in package else set()
        wanted = package.get("dependencies", [])
        return [found(it) for it in wanted if it.split(" ")[0] not in left_out]

    seen, waiting = {}, [found("hpns")]
    while waiting:
        package = waiting.pop()
        if reference(package) not in seen:
            seen[reference(package)] = package
            waiting += parts(package)
    components, made_of = [], {}
    for ref, package in sorted(seen.items()):
        made_of[ref] = sorted(reference(it) for it in parts(package))
        if package["name"] == "hpns":
            continue
        component = {"type": "library", "bom-ref": ref, "name": package["name"], "version": package["version"]}
        if "source" in package:
            component |= {"purl": ref, "hashes": hashes(package["checksum"])}
        components.append(component)
    return components, made_of


def data():
    """The packages whose tables are in the binary: their headings in the file of licences."""
    for name, version in re.findall(r"^== (\S+) (\S+) ==$", DATA_LICENCES.read_text(), re.M):
        kind, major = "golang" if "/" in name else "npm", version.split(".")[0]
        path = f"{name}/{major}" if kind == "golang" and major not in ("v0", "v1") else name
        purl = f"pkg:{kind}/{path}@{version}"
        yield {"type": "data", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option in ("--binary", "--version", "--commit", "--debs"):
        parser.add_argument(option, required=True)
    given = parser.parse_args()

    packages, tables = list(debian_packages(given.debs)), list(data())
    libraries, made_of = crates()
    made_of["workspace:hpns"] += [it["bom-ref"] for it in packages + tables]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "workspace:hpns",
                "name": "hpns",
                "version": given.version,
                "hashes": hashes(sha256(given.binary)),
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "properties": [{"name": "hpns:commit", "value": given.commit}],
            }
        },
        "components": packages + libraries + tables,
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(others)} for ref, others in sorted(made_of.items())
        ],
    }
    # Of what stands in it, so that the same content has the same number.
    content = json.dumps(bom, sort_keys=True)
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"
    print(json.dumps(bom, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
