"""Laws of what belongs to what: selectors, Services, ways in, budgets, autoscalers, hooks, monitoring."""

import yaml

from chart import COMPONENT, RELEASE, ROLES, RULES, labels_of, matches, name_of, resolved, volume_sources
from registered import each_shape


@each_shape
def every_selector_chooses_its_own_pods_and_no_others(chart):
    workloads = list(chart.workloads())
    for document, template in workloads:
        chosen = [
            name_of(it) for it, other in chart.templates() if matches(document["spec"]["selector"], labels_of(other))
        ]
        assert chosen == [name_of(document)], f"{name_of(document)} chooses {chosen}"
        for spread in template["spec"].get("topologySpreadConstraints", []):
            assert matches(spread["labelSelector"], labels_of(template)), name_of(document)


@each_shape
def workloads_are_spread_over_zones_and_machines(chart):
    for document, template in chart.workloads():
        over = {it["topologyKey"] for it in template["spec"].get("topologySpreadConstraints", [])}
        assert over == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}, name_of(document)


@each_shape
def every_service_has_pods_with_its_port(chart):
    names = set()
    for service in chart.all("Service"):
        selector = dict(service["spec"]["selector"])
        # The controller gives each pod of a StatefulSet its name as a label.
        pod = selector.pop("statefulset.kubernetes.io/pod-name", None)
        chosen = [(it, template) for it, template in chart.workloads() if matches(selector, labels_of(template))]
        others = [name_of(it) for it, template in chart.templates() if matches(selector, labels_of(template))]
        assert chosen and len(others) == len(chosen), f"{name_of(service)} chooses {others}"
        for document, template in chosen:
            for port in service["spec"]["ports"]:
                assert resolved(port["targetPort"], template["spec"]), f"{name_of(service)}: {port['targetPort']}"
            if pod:
                numbers = range(document["spec"]["replicas"])
                assert pod in [f"{document['metadata']['name']}-{number}" for number in numbers], pod
        names.add(service["metadata"]["name"])
    for ingress in chart.all("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert_port_of_service(
                    chart, path["backend"]["service"]["name"], path["backend"]["service"]["port"]["name"]
                )
    for route in chart.all("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert_port_of_service(chart, backend["name"], backend["port"])


def assert_port_of_service(chart, name, port):
    service = next((it for it in chart.all("Service") if it["metadata"]["name"] == name), None)
    assert service, f"there is no Service {name}"
    assert any(port in (it["name"], it["port"]) for it in service["spec"]["ports"]), f"{name} has no port {port}"


@each_shape
def every_way_in_has_tls(chart):
    for ingress in chart.all("Ingress"):
        hosts = {rule["host"] for rule in ingress["spec"]["rules"] if "host" in rule}
        assert hosts and hosts == set(ingress["spec"]["tls"][0]["hosts"]), name_of(ingress)
    gateways = {it["metadata"]["name"]: it for it in chart.all("Gateway")}
    for gateway in gateways.values():
        for listener in gateway["spec"]["listeners"]:
            assert listener["protocol"] == "HTTPS" and listener["tls"]["certificateRefs"], name_of(gateway)
    for route in chart.all("HTTPRoute"):
        own = [it["name"] for it in route["spec"]["parentRefs"] if "namespace" not in it]
        assert all(name in gateways for name in own), f"{own} are not of the chart"
    # Over plain HTTP keys are believed from those networks alone.
    config = chart.config("gateway")["gateway"]
    if chart.has("Ingress", "gateway") or chart.has("HTTPRoute", "gateway"):
        assert len(config["trusted_proxies"]) > 2 and config["limits"]["connections_per_address"] >= 20000
    else:
        assert "tls" in config or not chart.all("Ingress", "HTTPRoute")


@each_shape
def every_budget_and_every_scaler_has_what_it_counts(chart):
    budgets = chart.all("PodDisruptionBudget")
    for document, template in chart.workloads():
        own = [it for it in budgets if matches(it["spec"]["selector"], labels_of(template))]
        assert len(own) == 1, f"{name_of(document)} has {len(own)} budgets"
    for budget in budgets:
        chosen = [
            name_of(it)
            for it, template in chart.templates()
            if matches(budget["spec"]["selector"], labels_of(template))
        ]
        assert len(chosen) == 1, f"{name_of(budget)} chooses {chosen}"
    scaled = set()
    for scaler in chart.all("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        found = [it for it in chart.all(target["kind"]) if it["metadata"]["name"] == target["name"]]
        assert len(found) == 1 and found[0]["apiVersion"] == target["apiVersion"], name_of(scaler)
        # A count of its own would be set back by every upgrade.
        assert "replicas" not in found[0]["spec"], name_of(scaler)
        assert 1 < scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"], name_of(scaler)
        kinds = {it["type"]: it for it in scaler["spec"]["metrics"]}
        by_age = chart.shape == "scaled-by-age" and target["name"] == f"{RELEASE}-worker"
        assert kinds.keys() == ({"Resource", "External"} if by_age else {"Resource"}), (
            f"{name_of(scaler)}: {kinds.keys()}"
        )
        assert not by_age or kinds["External"]["external"]["metric"]["name"] == "hpns_oldest_push_seconds"
        scaled.add(target["name"])
    for deployment in chart.all("Deployment"):
        counted = deployment["metadata"]["name"] in scaled or deployment["spec"].get("replicas", 0) > 1
        assert counted, f"{name_of(deployment)}: one pod alone is no service"
    assert f"{RELEASE}-admin" not in scaled


@each_shape
def hooks_stand_on_their_own(chart):
    hooks = [it for it in chart.documents if "helm.sh/hook" in it["metadata"].get("annotations", {})]
    before = [it for it in hooks if it["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"]
    if chart.shape == "still":
        assert not before
    else:
        assert sorted(name_of(it) for it in before) == [f"Job {RELEASE}-migrate", f"NetworkPolicy {RELEASE}-migrate"]
        weights = {it["kind"]: int(it["metadata"]["annotations"]["helm.sh/hook-weight"]) for it in before}
        assert weights["NetworkPolicy"] < weights["Job"], "the Job would not be let out"
        spec = chart.one("Job", "migrate")["spec"]["template"]["spec"]
        # Nothing else of the chart is there at the first install.
        needs = [it[1] for it in volume_sources(spec) if it[0] == "ConfigMap"] + [spec.get("serviceAccountName")]
        assert needs == [None], f"the Job needs {needs}"
        assert spec["containers"][0]["args"] == ["migrate"] and spec["restartPolicy"] == "Never"
    for pod in chart.all("Pod"):
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test" and pod["spec"]["restartPolicy"] == "Never"


@each_shape
def monitoring_finds_every_role(chart):
    assert bool(chart.all("ServiceMonitor", "PrometheusRule")) == (chart.shape == "monitoring")
    metrics = chart.one("Service", "metrics")
    chosen = {
        labels_of(it)[COMPONENT] for _, it in chart.workloads() if matches(metrics["spec"]["selector"], labels_of(it))
    }
    assert chosen == set(ROLES), chosen
    for monitor in chart.all("ServiceMonitor"):
        chosen = [it for it in chart.all("Service") if matches(monitor["spec"]["selector"], it["metadata"]["labels"])]
        assert chosen == [metrics], [name_of(it) for it in chosen]
        assert monitor["spec"]["endpoints"][0]["port"] in [it["name"] for it in metrics["spec"]["ports"]]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
    for rule in chart.all("PrometheusRule"):
        assert rule["spec"] == yaml.safe_load(RULES)
