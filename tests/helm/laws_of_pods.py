"""Laws of documents and pods: schemas, names, what a container may do, probes, the end of a pod."""

import re

import kubernetes_validate
import yaml

from chart import KUBERNETES, NAMESPACE, ROLES, ROOT, name_of, ports_of, resolved
from registered import each_shape

# The newest is what the schemas know.
VERSIONS = (KUBERNETES, kubernetes_validate.latest_version())
FOREIGN = ("monitoring.coreos.com/", "gateway.networking.k8s.io/")


@each_shape
def every_document_fits_the_schemas_of_kubernetes(chart):
    for document in chart.documents:
        if document["apiVersion"].startswith(FOREIGN):
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise AssertionError(f"{name_of(document)}, Kubernetes {version}: {error.message}") from error


@each_shape
def every_document_has_a_name_of_its_own_in_the_namespace_of_the_release(chart):
    names = [(it["apiVersion"], name_of(it)) for it in chart.documents]
    assert len(names) == len(set(names)), f"twice: {[it for it in names if names.count(it) > 1]}"
    for document in chart.documents:
        name = document["metadata"]["name"]
        assert document["metadata"]["namespace"] == NAMESPACE, name_of(document)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= 63, name


@each_shape
def no_secret_is_made_and_none_stands_in_plain_text(chart):
    for document in chart.documents:
        assert document["kind"] != "Secret", name_of(document)
        text = yaml.safe_dump(document)
        for word in ("PRIVATE KEY", "hpns_us_", "hpns_admin_"):
            assert word not in text, f"{name_of(document)}: {word}"
        # An address with a login: only Kubernetes may put a password in.
        for password in re.findall(r"[a-z]+://[^\s/:@\"]+:([^\s@\"]+)@", text):
            assert password == "$(LANE_PASSWORD)", f"{name_of(document)}: {password}"
    harmless = {"HPNS_DISPATCH__LANES", "HPNS_REGION", "HPNS_REGISTRY__URL", "HPNS_REGISTRY__KEY_FILES"}
    for document, template in chart.templates():
        for container in template["spec"]["containers"]:
            assert "envFrom" not in container, name_of(document)
            for variable in container.get("env", []):
                named = "secretKeyRef" in variable.get("valueFrom", {})
                assert named or variable["name"] in harmless, f"{name_of(document)}: {variable['name']}"


@each_shape
def every_container_is_restricted(chart):
    for document, template in chart.templates():
        spec, name = template["spec"], name_of(document)
        for forbidden in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"):
            assert not spec.get(forbidden), f"{name}: {forbidden}"
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] == pod["runAsGroup"] == pod["fsGroup"] == 65532, name
        assert pod.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{name}: no seccomp profile"
        for volume in spec.get("volumes", []):
            kind = next(key for key in volume if key != "name")
            assert kind in ("configMap", "secret", "projected", "emptyDir"), f"{name}: a volume of kind {kind}"
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["privileged"] is False, f"{name}: {own}"
            assert own["readOnlyRootFilesystem"] is True and own["runAsNonRoot"] is True, f"{name}: {own}"
            assert own["capabilities"] == {"drop": ["ALL"]}, f"{name}: {own}"
            assert not any("hostPort" in port for port in container.get("ports", [])), name
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys() and "memory" in resources["limits"], name


@each_shape
def no_pod_has_a_token_of_the_cluster_or_variables_about_services(chart):
    for document, template in chart.templates():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, name_of(document)
        # Kubernetes would set HPNS_GATEWAY_PORT for the Service hpns-gateway.
        assert spec["enableServiceLinks"] is False, name_of(document)
    accounts = {it["metadata"]["name"]: it for it in chart.all("ServiceAccount")}
    assert all(it["automountServiceAccountToken"] is False for it in accounts.values())
    for document, template in chart.workloads():
        assert template["spec"]["serviceAccountName"] in accounts, name_of(document)
    assert not chart.all("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


@each_shape
def images_are_named_by_tag_or_digest(chart):
    for document, template in chart.templates():
        for container in template["spec"]["containers"]:
            image = container["image"]
            assert re.search(r"(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})$", image), (
                f"{name_of(document)}: {image}"
            )
            assert not image.endswith(":latest"), image


@each_shape
def probes_ask_a_port_and_a_path_that_are_there(chart):
    served = set(re.findall(r'\.route\("(/[a-z/]+)"', (ROOT / "crates/hpns/src/serve/health.rs").read_text()))
    for role in ROLES:
        spec = chart.role(role)
        container, config = spec["containers"][0], chart.config(role)
        health = int(config["health"]["listen"].rsplit(":", 1)[1])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asks = container[probe]["httpGet"]
            assert resolved(asks["port"], spec) == health, f"{role}: {probe} does not ask port {health}"
            assert asks["path"] in served, f"{role}: {probe}: {asks['path']}"
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready", role
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live", role
        listens = {key: config.get(role, {}).get(key) for key in ("listen", "plain_listen")}
        wanted = {int(it.rsplit(":", 1)[1]) for it in listens.values() if it} | {health}
        assert set(ports_of(spec).values()) == wanted, f"{role}: ports {ports_of(spec)}, listens on {wanted}"
    if chart.has("StatefulSet", "lane"):
        spec = chart.one("StatefulSet", "lane")["spec"]["template"]["spec"]
        assert resolved(spec["containers"][0]["readinessProbe"]["tcpSocket"]["port"], spec) == 6379


@each_shape
def there_is_time_to_drain_and_nobody_goes_before_another_is_ready(chart):
    for role in ROLES:
        spec, server = chart.role(role), chart.config(role)["server"]
        # After both the last writes to the registry may take 10 s (crates/hpns/src/serve/mod.rs).
        needed = server["drain_seconds"] + server["shutdown_grace_seconds"] + 10
        assert spec["terminationGracePeriodSeconds"] > needed, f"{role}: not more than {needed} s"
        assert "lifecycle" not in spec["containers"][0], role
        assert (server["drain_seconds"] == 0) == (role == "worker"), role
        rolling = chart.one("Deployment", role)["spec"]["strategy"]["rollingUpdate"]
        assert rolling["maxUnavailable"] == 0 and rolling["maxSurge"] not in (0, "0%"), role
