"""What the chart renders, for several shapes of values, and what of it belongs together."""

import functools
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/hpns"
RELEASE, NAMESPACE = "hpns", "push"
# The oldest that Chart.yaml allows.
KUBERNETES = "1.28"
ROLES = ("gateway", "worker", "admin")
COMPONENT = "app.kubernetes.io/component"
# The fast one, where PyYAML was built with it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What `hpns sla rules` prints, in short: the text is passed through.
RULES = """groups:
  - name: hpns_unavailable
    rules:
      - record: hpns:unavailable:ratio_rate5m
        expr: sum(rate(hpns_push_ends_total{owner="ours"}[5m]))
      - alert: HpnsAvailabilityBurns1h
        expr: hpns:unavailable:ratio_rate5m > 0.0072000
        labels: { severity: page }
"""
ANYBODY = """
networkPolicy:
  gatewayFrom:
    - ipBlock: {cidr: 0.0.0.0/0}
"""

# Each is over values-us.yaml, but for the first two.
SHAPES = {
    "us": "",
    "de": "",
    "external-lanes": """
lanes:
  inCluster: {enabled: false}
  external:
    - {host: lane-1.us.internal, port: 6379, tls: true}
    - {host: lane-2.us.internal, port: 6380, tls: true}
  caSecret: lanes-authority
networkPolicy:
  lanesTo:
    - ipBlock: {cidr: 10.1.6.0/24}
""",
    # While they move from one kind to the other.
    "both-lanes": """
lanes:
  gatewaysUse: 2
  external:
    - {host: lane-1.us.internal}
networkPolicy:
  lanesTo:
    - ipBlock: {cidr: 10.1.6.0/24}
""",
    "ingress": """
gateway:
  ingress: {anyHost: true, annotations: {cert-manager.io/cluster-issuer: letsencrypt}}
admin:
  ingress: {enabled: true, className: internal, hosts: [hpns.us.internal], tlsSecret: hpns-admin-tls}
config:
  admin:
    trusted_proxies: [10.0.0.0/8]
    oidc: {issuer: "https://login.example.com", audience: hpns-admin, jwks_url: "https://login.example.com/keys"}
networkPolicy:
  adminFrom:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-internal}}
  oidcTo:
    - ipBlock: {cidr: 203.0.113.7/32}
""",
    "route": """
gateway:
  ingress: {enabled: false}
  httpRoute:
    enabled: true
    parentRefs: [{name: public, namespace: gateways, sectionName: https}]
""",
    "gateway-api": """
gateway:
  ingress: {enabled: false}
  httpRoute:
    enabled: true
    hostnames: [push.us.example.com, push.example.com]
    gateway: {create: true, className: cilium, tlsSecret: hpns-push-tls}
""",
    "monitoring": """
monitoring:
  serviceMonitor: {enabled: true, labels: {release: prometheus}}
  rules:
    enabled: true
    labels: {release: prometheus}
    text: |
"""
    + "".join(f"      {line}\n" for line in RULES.splitlines()),
    "own-tls": """
config:
  gateway: {trusted_proxies: []}
gateway:
  ingress: {enabled: false}
  tls: {existingSecret: hpns-push-tls}
  service: {type: LoadBalancer, port: 443, plainPort: 80, externalTrafficPolicy: Local}
listenAddress: "[::]"
services: {ipFamilyPolicy: PreferDualStack}
lanes:
  inCluster: {replicas: 3, tls: {existingSecret: hpns-lanes-tls}}
"""
    + ANYBODY,
    "proxy": """
worker:
  proxy:
    existingSecret: hpns-proxy
    noProxy: .internal
    to:
      - ipBlock: {cidr: 10.1.7.7/32}
tests: {dryRun: true}
""",
    "scaled-by-age": """
worker:
  autoscaling:
    oldestPush: {enabled: true, metricName: hpns_oldest_push_seconds, selector: {region: us}, target: "1"}
""",
    "still": """
gateway: {autoscaling: {enabled: false}, replicas: 5}
worker: {autoscaling: {enabled: false}, replicas: 4}
migration: {enabled: false}
tests: {credentials: false}
networkPolicy: {monitoringFrom: []}
apps: null
appCredentials: {existingSecrets: []}
""",
}


class Refused(Exception):
    """Helm did not render these values."""


def helm(*arguments, stdin=None):
    run = subprocess.run(["helm", *arguments], input=stdin, capture_output=True, text=True, cwd=ROOT)
    if run.returncode != 0:
        raise Refused(run.stderr.strip() or run.stdout.strip())
    return run.stdout


def region_file(chart, shape):
    return str(chart / f"values-{'de' if shape == 'de' else 'us'}.yaml")


@functools.lru_cache(maxsize=None)
def documents_of(chart, shape, more):
    """What `helm template` prints for a shape and more values. Nobody changes them."""
    arguments = ["--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--values", region_file(chart, shape)]
    text = helm("template", RELEASE, str(chart), *arguments, "--values", "-", stdin=merged(SHAPES[shape], more))
    return [it for it in yaml.load_all(text, Loader=LOADER) if it]


def merged(*texts):
    together = {}
    for text in texts:
        put_over(together, yaml.safe_load(text) or {})
    return yaml.safe_dump(together)


def put_over(under, over):
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            put_over(under[key], value)
        else:
            under[key] = value


class Rendered:
    """The documents of one shape."""

    def __init__(self, shape, more="", chart=CHART):
        self.shape, self.more, self.chart = shape, more, chart
        self.documents = documents_of(chart, shape, more)

    def all(self, *kinds):
        return [it for it in self.documents if it["kind"] in kinds]

    def one(self, kind, name):
        found = [it for it in self.all(kind) if it["metadata"]["name"] == f"{RELEASE}-{name}"]
        assert len(found) == 1, f"{kind} {RELEASE}-{name}: there are {len(found)}"
        return found[0]

    def has(self, kind, name):
        return any(it["metadata"]["name"] == f"{RELEASE}-{name}" for it in self.all(kind))

    def templates(self):
        """All pod templates, with the document that each is of."""
        for it in self.all("Deployment", "StatefulSet", "Job"):
            yield it, it["spec"]["template"]
        for it in self.all("Pod"):
            yield it, it

    def workloads(self):
        """Those that live on."""
        for it in self.all("Deployment", "StatefulSet"):
            yield it, it["spec"]["template"]

    def config(self, role):
        return tomllib.loads(self.one("ConfigMap", "config")["data"][f"{role}.toml"])

    def role(self, role):
        return self.one("Deployment", role)["spec"]["template"]["spec"]


def name_of(document):
    return f"{document['kind']} {document['metadata']['name']}"


def labels_of(template):
    return template["metadata"].get("labels", {})


def matches(selector, labels):
    """As Kubernetes reads a label selector; a plain map is what a Service has."""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        selector = {"matchLabels": selector}
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        value, operator = labels.get(rule["key"]), rule["operator"]
        if operator == "In" and value not in rule["values"]:
            return False
        if operator == "NotIn" and value in rule["values"]:
            return False
        if operator == "Exists" and value is None:
            return False
        if operator == "DoesNotExist" and value is not None:
            return False
        assert operator in ("In", "NotIn", "Exists", "DoesNotExist"), operator
    return True


def ports_of(spec):
    return {port["name"]: port["containerPort"] for it in spec["containers"] for port in it.get("ports", [])}


def resolved(port, spec):
    """The number of a port that is named or given."""
    ports = ports_of(spec)
    if isinstance(port, int):
        return port if port in ports.values() else None
    return ports.get(port)


def volume_sources(spec):
    """Every ConfigMap and Secret that is mounted: kind, name, its items or None for all of it, and the mode."""
    for volume in spec.get("volumes", []):
        mode = volume.get("projected", {}).get("defaultMode")
        for source in volume.get("projected", {}).get("sources", []) or [volume]:
            if "secret" in source:
                secret = source["secret"]
                name = secret.get("secretName") or secret["name"]
                yield "Secret", name, secret.get("items"), secret.get("defaultMode", mode)
            if "configMap" in source:
                it = source["configMap"]
                yield "ConfigMap", it["name"], it.get("items"), it.get("defaultMode", mode)


def secret_keys(spec):
    """Which keys of which Secrets a pod is given, by files and variables; None stands for the whole Secret."""
    for kind, name, items, _ in volume_sources(spec):
        if kind == "Secret":
            for key in [it["key"] for it in items] if items else [None]:
                yield name, key
    for container in spec["containers"]:
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield reference["name"], reference["key"]
