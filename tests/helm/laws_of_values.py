"""Laws of the chart as a whole: its values, its schema, what a change of them changes, its README."""

import json
import re
import subprocess
import tomllib

import yaml

from chart import (
    CHART,
    COMPONENT,
    KUBERNETES,
    RELEASE,
    ROLES,
    ROOT,
    SHAPES,
    Refused,
    Rendered,
    helm,
    labels_of,
    name_of,
    region_file,
    secret_keys,
)
from registered import Missing, once

DEFAULTS = ROOT / "crates/hpns/src/config/default.toml"
# What the chart decides, and what it leaves out because it is not for a hosted region.
DECIDED = {
    "region",
    "data_dir",
    "apps_dir",
    "server.threads",
    "gateway.listen",
    "gateway.plain_listen",
    "gateway.tls.certificate_file",
    "gateway.tls.key_file",
    "admin.listen",
    "health.listen",
    "registry.url",
    "registry.key_file",
    "registry.key_files",
    "dispatch.lanes",
    "dispatch.lanes_ca_file",
    "dispatch.key_ring_file",
    "outbound.proxy",
    "outbound.no_proxy",
}
LEFT_OUT = {"development.custom_endpoints"}
OF_APPS_LEFT_OUT = {"endpoint", "ca_file", "base_url", "token_url"}


@once
def lint_has_nothing_to_say():
    for shape in ("us", "de"):
        printed = helm("lint", "--strict", str(CHART), "--values", region_file(CHART, shape))
        assert "0 chart(s) failed" in printed and "[WARNING]" not in printed, printed


@once
def values_of_their_own_are_needed():
    try:
        helm("template", RELEASE, str(CHART), "--kube-version", KUBERNETES)
    except Refused as error:
        for missing in ("region", "repository", "push_url", "host"):
            assert missing in str(error), f"{missing}: {error}"
        return
    raise AssertionError("a region without a name is rendered")


# Values that are refused, and a word of the reason.
WRONG = [
    ("regoin: us", "regoin"),
    ("gateway: {replica: 3}", "replica"),
    ("gateway: {extraEnv: [{name: A, value: b}]}", "extraEnv"),
    ("worker: {autoscaling: {oldest: {}}}", "oldest"),
    ("config: {gateway: {budget: 1}}", "budget"),
    ("config: {gateway: {budget_ms: 26000}}", "budget_ms"),
    ("config: {gateway: {limits: {conections: 1}}}", "conections"),
    ("config: {registry: {url: 'postgres://u:p@h/d'}}", "url"),
    ("config: {dispatch: {lanes: ['redis://u:p@h']}}", "lanes"),
    ("config: {development: {custom_endpoints: true}}", "development"),
    ("database: {password: secret}", "password"),
    ("database: {users: {gateway: 'a:b'}}", "gateway"),
    ("apps: {ios: {key: '-----BEGIN PRIVATE KEY-----'}}", "ios"),
    ("apps: {android: {service_account: '{}'}}", "android"),
    ("apps: {ios: {endpoint: 'localhost:1'}}", "ios"),
    ("apps: {ios: {port: 5223}}", "ios"),
    ("apps: {ios: {key_file: ../other.p8}}", "ios"),
    ("apps: {'a b': {provider: fcm, platform: x}}", "a b"),
    ("image: {digest: sha256:12}", "digest"),
    ("lanes: {inCluster: {persistence: {}}}", "persistence"),
    ("lanes: {inCluster: {replicas: 1}}", "two or more"),
    ("lanes: {inCluster: {image: {tag: ''}}}", "image"),
    ("lanes: {gatewaysUse: 3}", "gatewaysUse"),
    ("networkPolicy: {databaseTo: []}", "databaseTo"),
    ("networkPolicy: {gatewayFrom: []}", "gatewayFrom"),
    ("config: {gateway: {trusted_proxies: []}}", "trusted_proxies"),
    ("admin: {ingress: {enabled: true, hosts: [a.example.com]}}", "trusted_proxies"),
    ("gateway: {service: {plainPort: 80}}", "plainPort"),
    ("gateway: {httpRoute: {enabled: true}}", "parentRefs"),
    ("worker: {autoscaling: {oldestPush: {enabled: true}}}", "metricName"),
    ("worker: {proxy: {existingSecret: p}}", "worker.proxy.to"),
    ("monitoring: {rules: {enabled: true}}", "sla rules"),
    ("monitoring: {rules: {enabled: true, text: 'no rules'}}", "sla rules"),
    ("apps: {ios: {team_id: null}}", "team_id"),
    ("appCredentials: {existingSecrets: []}", "existingSecrets"),
]


@once
def a_typo_a_secret_and_what_cannot_work_are_refused():
    for values, word in WRONG:
        try:
            Rendered("us", values)
        except Refused as error:
            assert word in str(error), f"{values}: refused, but not for {word}: {error}"
        else:
            raise AssertionError(f"{values} is rendered")


def pod_templates(chart):
    return {name_of(it): template for it, template in chart.workloads()}


@once
def a_change_of_settings_makes_new_pods_and_one_of_apps_none():
    before = pod_templates(Rendered("us"))

    def changed(more):
        after = pod_templates(Rendered("us", more))
        return {name.removeprefix(f"Deployment {RELEASE}-") for name in before if before[name] != after[name]}

    assert changed("config: {log: {level: debug}}") == set(ROLES)
    assert changed("config: {worker: {slots: 4096}}") == {"worker"}
    assert changed("config: {gateway: {budget_ms: 9000}}") == {"gateway"}
    assert changed("lanes: {inCluster: {maxmemory: 1gb}}") == {f"StatefulSet {RELEASE}-lane"}
    app = "apps: {acme: {provider: fcm, platform: android_acme, project: acme, service_account_file: acme.json}}"
    assert changed(app) == set()
    # The image alone makes no lane start again.
    assert changed("image: {tag: '9.9.9'}") == set(ROLES)


@once
def an_app_comes_to_workers_first_and_goes_from_gateways_first():
    quiet = Rendered("us", "apps: {ios: {gateways: false}}")
    names = {name: set(quiet.one("ConfigMap", name)["data"]) for name in ("apps", "worker-apps")}
    assert names == {"apps": {"android.toml"}, "worker-apps": {"android.toml", "ios.toml"}}, names
    text = quiet.one("ConfigMap", "worker-apps")["data"]["ios.toml"]
    assert "gateways" not in tomllib.loads(text), text


@once
def an_image_is_named_by_its_digest_where_there_is_one():
    digest = "sha256:" + "ab" * 32
    chart = Rendered("us", f"image: {{digest: '{digest}', tag: ignored}}\nimagePullSecrets: [{{name: login}}]")
    for document, template in chart.templates():
        spec = template["spec"]
        image = spec["containers"][0]["image"]
        if labels_of(template)[COMPONENT] not in ("lane", "test"):
            assert image == f"registry.example.com/hpns@{digest}", f"{name_of(document)}: {image}"
        assert spec["imagePullSecrets"] == [{"name": "login"}], name_of(document)


@once
def finishing_a_migration_is_asked_for():
    args = Rendered("us", "migration: {finish: true, signs: false}").one("Job", "migrate")["spec"]["template"]["spec"]
    assert args["containers"][0]["args"] == ["migrate", "--finish"]
    keys = {key for _, key in secret_keys(args)}
    assert keys == {"control.keys", "postgres-password", "ca.crt"}, keys


@once
def where_pods_run_is_passed_on():
    place = {
        "nodeSelector": {"pool": "push"},
        "tolerations": [{"key": "push", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
    }
    more = dict.fromkeys(("gateway", "worker", "admin"), place) | {"lanes": {"inCluster": place}}
    chart = Rendered("us", yaml.safe_dump(more))
    for document, template in chart.workloads():
        spec = template["spec"]
        assert {key: spec[key] for key in place} == place, name_of(document)


@once
def lanes_are_configured_as_they_are_shipped():
    for file in ("lane.conf", "users.acl"):
        shipped = (ROOT / "deploy/redis" / file).read_text()
        assert (CHART / "files" / file).read_text() == shipped, f"helm/hpns/files/{file} is not deploy/redis/{file}"
        assert Rendered("us").one("ConfigMap", "lane")["data"][file].startswith(shipped), file
    other = Rendered("us", "config: {dispatch: {key_prefix: staging}}").one("ConfigMap", "lane")["data"]["users.acl"]
    assert "~hpns:" not in other and "~staging:lane" in other


def settings_of(table, path=""):
    for key, value in table.items():
        if isinstance(value, dict) and key != "region_urls":
            yield from settings_of(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def settings_of_reference():
    """Every setting of the reference: those that are commented too."""
    found, of_apps, section = set(settings_of(tomllib.loads(DEFAULTS.read_text()))) - {"apps"}, set(), ""
    for line in DEFAULTS.read_text().splitlines():
        text = line.lstrip("# ")
        if match := re.match(r"\[([a-z_.]+)\]", text):
            section = match[1]
        elif (match := re.match(r"([a-z_]+) = ", text)) and line.startswith("#"):
            if section.startswith("apps."):
                of_apps.add(match[1])
            elif section != "gateway.region_urls":
                found.add(f"{section}.{match[1]}" if section else match[1])
    return {it for it in found if not it.startswith("apps")} | {"gateway.region_urls"}, of_apps


def settings_of_schema(schema, path=""):
    for key, value in schema.get("properties", {}).items():
        if "properties" in value:
            yield from settings_of_schema(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


@once
def every_setting_of_hpns_is_a_value_or_decided_by_the_chart():
    schema = json.loads((CHART / "values.schema.json").read_text())
    offered = set(settings_of_schema(schema["properties"]["config"]))
    reference, of_apps = settings_of_reference()
    assert offered <= reference, f"hpns does not know {offered - reference}"
    assert not offered & (DECIDED | LEFT_OUT), offered & (DECIDED | LEFT_OUT)
    missing = reference - offered - DECIDED - LEFT_OUT
    assert not missing, f"neither offered nor decided: {missing}"
    apps = {key for it in schema["definitions"]["app"]["oneOf"] for key in it["properties"]} - {"gateways"}
    assert apps <= of_apps and of_apps - apps == OF_APPS_LEFT_OUT, f"{apps ^ of_apps}"


def objects_of(schema, path="$"):
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects_of(value, f"{path}.{key}")
    if isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects_of(value, f"{path}[{number}]")


@once
def the_schema_takes_no_key_that_it_does_not_name():
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path, it in objects_of(schema):
        assert it.get("additionalProperties") is False, path
    # And names all of the values.
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = {key for key in schema["properties"]} - {"global"}
    assert values.keys() == known, values.keys() ^ known


@once
def the_readme_tells_every_secret_and_every_key_of_it():
    readme = (CHART / "README.md").read_text()
    needed = set()
    for shape in SHAPES:
        for _, template in Rendered(shape).templates():
            needed.update(secret_keys(template["spec"]))
    for name, key in needed:
        assert f"`{name}`" in readme or name in ("lanes-authority", "hpns-lanes-tls", "hpns-proxy"), name
        assert key is None or f"`{key}`" in readme or key in readme, f"{name}: {key}"
    for line in readme.splitlines():
        assert len(line) <= 100 or line.startswith("|"), line


@once
def regions_differ_in_names_and_shares_alone():
    us, de = (yaml.safe_load((CHART / f"values-{region}.yaml").read_text()) for region in ("us", "de"))
    assert us["config"]["gateway"]["region_urls"] == de["config"]["gateway"]["region_urls"]
    text = yaml.safe_dump([it for it in Rendered("de").documents])
    for foreign in ("postgres.us", "KEYUS"):
        assert foreign not in text, foreign
    # Google gives a project 10,000 a second, all regions together.
    shares = [it["apps"]["android"]["rate_per_second"] for it in (us, de)]
    assert sum(shares) <= 10_000, shares
    for region in (us, de):
        assert set(region) == set(us), set(region) ^ set(us)


@once
def regions_are_those_of_the_files_for_bare_machines():
    for region in ("us", "de"):
        file = ROOT / f"deploy/regions/{region}.toml"
        if not file.exists():
            raise Missing(f"there is no deploy/regions/{region}.toml")
        bare = tomllib.loads(file.read_text())
        values = yaml.safe_load((CHART / f"values-{region}.yaml").read_text())
        assert bare["region"] == values["region"] == region
        for setting in ("region_urls", "global_hosts"):
            found = values["config"]["gateway"].get(setting), bare["gateway"].get(setting)
            assert found[0] == found[1], f"{region}, {setting}: {found}"
        assert values["config"]["admin"]["push_url"] == bare["admin"]["push_url"], region
        for name, app in values["apps"].items():
            for key in ("provider", "platform", "topic", "project", "rate_per_second"):
                assert app.get(key) == bare["apps"][name].get(key), f"{region}, apps.{name}.{key}"


@once
def scripts_are_plain_shell():
    for script in ("lane-start.sh", "lane-alive.sh"):
        run = subprocess.run(["sh", "-n", str(CHART / "files" / script)], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
