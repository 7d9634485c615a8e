"""Laws of secrets and configuration: which role has which key, and what it is told."""

import json
import re

from chart import COMPONENT, RELEASE, ROLES, labels_of, name_of, secret_keys, volume_sources
from laws_of_references import assert_port_of_service
from registered import each_shape

# The key files of each role, from docs/OPERATIONS.md, and the key ring.
KEYS = {
    "gateway": {"control.keys", "devices.keys", "log.keys", "rights-check.keys", "dispatch.keys"},
    "worker": {"dispatch.keys"},
    "admin": {"control.keys", "devices.keys", "log.keys", "operators.keys", "rights.keys", "board.keys"},
}
LOGINS = {"postgres-password", "lane-password"}


@each_shape
def each_role_has_its_own_keys_and_no_others(chart):
    secrets = {}
    for role in ROLES:
        given = {}
        for name, key in secret_keys(chart.role(role)):
            given.setdefault(name, set()).add(key)
        assert given.pop(f"hpns-{role}") == KEYS[role] | LOGINS, f"{role}: {given}"
        secrets[role] = given
        files = {it.rsplit("/", 1)[1] for it in chart.config(role)["registry"].get("key_files", [])}
        ring = chart.config(role)["dispatch"]["key_ring_file"].rsplit("/", 1)[1]
        assert files | {ring} == KEYS[role], f"{role}: the configuration names {files} and {ring}"
    apps = {"hpns-apps"} if chart.shape != "still" else set()
    public = {"hpns-database-ca", "hpns-lanes-tls", "lanes-authority"}
    more = {
        "gateway": {"hpns-push-tls"} if chart.shape == "own-tls" else set(),
        "worker": apps | ({"hpns-proxy"} if chart.shape == "proxy" else set()),
        "admin": set(),
    }
    for role in ROLES:
        found = secrets[role].keys() - public
        assert found == more[role], f"{role} has also {found}, and should have {more[role]}"
    for given in secrets.values():
        assert all(keys == {"ca.crt"} for name, keys in given.items() if name in public), given
    # Where they may be besides: in the test that proves them.
    for document, template in chart.templates():
        if apps & {name for name, _ in secret_keys(template["spec"])}:
            assert labels_of(template)[COMPONENT] in ("worker", "test-credentials"), name_of(document)
    if chart.has("Job", "migrate"):
        keys = {
            key
            for name, key in secret_keys(chart.one("Job", "migrate")["spec"]["template"]["spec"])
            if name == "hpns-migrate"
        }
        assert keys == {"control.keys", "operators.keys", "rights.keys", "postgres-password"}, keys


@each_shape
def key_files_are_readable_for_the_pods_group_and_nobody_else(chart):
    for document, template in chart.templates():
        for kind, name, _, mode in volume_sources(template["spec"]):
            if kind == "Secret":
                # hpns refuses a key file that others may read, or its group may change.
                assert mode is not None and mode & 0o027 == 0 and mode & 0o040, f"{name_of(document)}: {name} {mode}"
        for container in template["spec"]["containers"]:
            for mount in container.get("volumeMounts", []):
                kept = {it["name"]: it for it in template["spec"]["volumes"]}[mount["name"]]
                assert mount.get("readOnly") is True or "emptyDir" in kept, f"{name_of(document)}: {mount['name']}"
                in_memory = kept.get("emptyDir", {}).get("medium") == "Memory"
                assert "emptyDir" not in kept or in_memory, f"{name_of(document)} writes to a disk"


@each_shape
def whatever_is_mounted_is_there(chart):
    """A ConfigMap is of the chart and has the key; of a Secret single keys are named, but for apps' credentials."""
    maps = {it["metadata"]["name"]: it for it in chart.all("ConfigMap")}
    for document, template in chart.templates():
        for kind, name, items, _ in volume_sources(template["spec"]):
            if kind == "ConfigMap":
                assert name in maps, f"{name_of(document)}: there is no ConfigMap {name}"
                for item in items or []:
                    assert item["key"] in maps[name]["data"], f"{name_of(document)}: {name} has no {item['key']}"
            elif name != "hpns-apps":
                assert items, f"{name_of(document)} mounts all of {name}"
        volumes = {it["name"] for it in template["spec"].get("volumes", [])}
        for container in template["spec"]["containers"]:
            mounts = container.get("volumeMounts", [])
            assert {it["name"] for it in mounts} <= volumes, name_of(document)
            paths = [it["mountPath"] for it in mounts]
            assert not any(a != b and a.startswith(f"{b}/") for a in paths for b in paths), f"{paths}: one in another"


@each_shape
def every_file_of_the_configuration_is_mounted(chart):
    for role in ROLES:
        spec, text = chart.role(role), chart.one("ConfigMap", "config")["data"][f"{role}.toml"]
        mounts = {it["mountPath"]: it["name"] for it in spec["containers"][0]["volumeMounts"]}
        volumes = {it["name"]: it for it in spec["volumes"]}
        for place in re.findall(r"/etc/hpns/[^\"?&\s]+", text):
            directory, _, file = place.rpartition("/")
            if place in mounts:
                continue
            assert directory in mounts, f"{role}: {place} is nowhere"
            volume = volumes[mounts[directory]]
            items = volume.get("secret", volume.get("configMap", {})).get("items")
            assert file in [it["path"] for it in items], f"{role}: {place} is not in {mounts[directory]}"


@each_shape
def the_configuration_holds_the_region_and_no_secret(chart):
    for role in ROLES:
        config = chart.config(role)
        assert config["region"] == ("de" if chart.shape == "de" else "us")
        assert "lanes" not in config["dispatch"] and "apps" not in config, role
        url = config["registry"]["url"]
        assert re.fullmatch(
            rf"postgres://{role}@postgres\.(us|de)\.internal:5432/hpns\?sslmode=verify-full&sslrootcert=\S+", url
        ), url
    assert chart.config("worker").get("outbound") == (
        {"no_proxy": ".internal"} if chart.shape == "proxy" else {"proxy": "none"}
    )


def lanes_of(chart, role):
    """The addresses in HPNS_DISPATCH__LANES: scheme, host, port."""
    variables = {it["name"]: it for it in chart.role(role)["containers"][0]["env"]}
    names = list(variables)
    # Kubernetes expands what stands before.
    assert names.index("LANE_PASSWORD") < names.index("HPNS_DISPATCH__LANES")
    found = []
    for address in json.loads(variables["HPNS_DISPATCH__LANES"]["value"]):
        scheme, user, host, port = re.fullmatch(
            r"(rediss?)://(hpns-\w+):\$\(LANE_PASSWORD\)@([^:@]+):(\d+)", address
        ).groups()
        assert user == f"hpns-{role}", address
        found.append((scheme, host, int(port)))
    return found


@each_shape
def lanes_are_those_that_are_there_and_two_at_least(chart):
    expected = {"external-lanes": 2, "both-lanes": 3, "own-tls": 3}.get(chart.shape, 2)
    for role in ROLES:
        lanes = lanes_of(chart, role)
        count = 2 if (chart.shape, role) == ("both-lanes", "gateway") else expected
        assert len(lanes) == len(set(lanes)) == count, f"{role}: {lanes}"
        for scheme, host, port in lanes:
            if host.startswith(RELEASE):
                assert_port_of_service(chart, host, port)
            secure = chart.shape in ("external-lanes", "own-tls")
            assert scheme == ("rediss" if secure else "redis"), host
        assert ("lanes_ca_file" in chart.config(role)["dispatch"]) == (lanes[0][0] == "rediss"), role
    if chart.has("StatefulSet", "lane"):
        spec = chart.one("StatefulSet", "lane")["spec"]
        # A lane keeps nothing.
        assert "volumeClaimTemplates" not in spec and not chart.all("PersistentVolumeClaim")
        assert spec["updateStrategy"] == {"type": "RollingUpdate"} and spec["minReadySeconds"] > 0
