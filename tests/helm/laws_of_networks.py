"""Laws of who reaches whom."""

from chart import COMPONENT, RELEASE, ROLES, labels_of, matches, name_of, ports_of
from laws_of_secrets import lanes_of
from registered import each_shape


def policies_of(chart, labels, direction):
    return [
        it
        for it in chart.all("NetworkPolicy")
        if matches(it["spec"]["podSelector"], labels) and direction in it["spec"]["policyTypes"]
    ]


@each_shape
def everything_is_denied_but_what_is_named(chart):
    deny = chart.one("NetworkPolicy", "deny-all")["spec"]
    is_all = set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert is_all and not deny.get("ingress") and not deny.get("egress"), f"it does not deny all: {deny}"
    for document, template in chart.templates():
        assert matches(deny["podSelector"], labels_of(template)), f"{name_of(document)} is denied nothing"
    for policy in chart.all("NetworkPolicy"):
        assert policy["spec"]["podSelector"], f"{name_of(policy)} is for all pods of the namespace"
        for rule in policy["spec"].get("ingress", []) or []:
            assert rule.get("from") and rule.get("ports"), f"{name_of(policy)}: {rule}"
        for rule in policy["spec"].get("egress", []) or []:
            assert rule.get("to") and rule.get("ports"), f"{name_of(policy)}: {rule}"
            assert all("port" in port for port in rule["ports"]), f"{name_of(policy)}: {rule}"


def own_component(peer):
    """The component of the release that a peer names, or None for others."""
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    is_own = "namespaceSelector" not in peer and labels.get("app.kubernetes.io/instance") == RELEASE
    return labels.get(COMPONENT) if is_own else None


def reaches(chart, template):
    """Where a pod may go: components of the release with a port, `public`, `dns` and `other`."""
    found = set()
    for policy in policies_of(chart, labels_of(template), "Egress"):
        for rule in policy["spec"].get("egress", []) or []:
            for peer in rule["to"]:
                cidr = peer.get("ipBlock", {}).get("cidr", "")
                where = own_component(peer) or ("public" if cidr.endswith("/0") else "other")
                for port in rule["ports"]:
                    found.add(("dns", 53) if port["port"] == 53 else (where, port["port"]))
    return found


def expected_reach(chart):
    """By component, from docs/OPERATIONS.md: what each role needs."""
    database, dns = {("other", 5432)}, {("dns", 53)}
    addresses = lanes_of(chart, "worker")
    in_cluster = {("lane", 6379)} if chart.has("StatefulSet", "lane") else set()
    lanes = in_cluster | {("other", port) for _, host, port in addresses if not host.startswith(RELEASE)}
    public = {("public", 443), ("public", 2197)}
    out = {("other", 3128)} if chart.shape == "proxy" else public
    admin = {"own-tls": {("public", 443)}, "ingress": {("other", 443)}}.get(chart.shape, set())
    return {
        "gateway": database | dns | lanes,
        "worker": database | dns | lanes | out,
        "admin": database | dns | lanes | {("gateway", 8066)} | admin,
        "lane": set(),
        "migrate": database | dns,
        "test": {("gateway", 8066)} | dns,
        "test-credentials": dns | (out if chart.shape == "proxy" else set()),
    }


@each_shape
def each_role_reaches_what_it_needs_and_no_more(chart):
    expected = expected_reach(chart)
    for document, template in chart.templates():
        component = labels_of(template)[COMPONENT]
        found = reaches(chart, template)
        assert found == expected[component], f"{name_of(document)} reaches {found}, needs {expected[component]}"
    for policy in chart.all("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []) or []:
            for block in (it["ipBlock"] for it in rule["to"] if "ipBlock" in it):
                if block["cidr"] == "0.0.0.0/0":
                    # The metadata service of clouds, and everything private.
                    assert {"169.254.0.0/16", "10.0.0.0/8", "192.168.0.0/16"} <= set(block["except"]), name_of(policy)


@each_shape
def the_private_port_is_for_monitoring_alone_and_lanes_for_the_roles(chart):
    for document, template in chart.templates():
        labels = labels_of(template)
        component, came = labels[COMPONENT], {}
        for policy in policies_of(chart, labels, "Ingress"):
            for rule in policy["spec"].get("ingress", []) or []:
                for port in rule["ports"]:
                    came.setdefault(port["port"], []).extend(rule["from"])
        wanted = set(ports_of(template["spec"]).values())
        if not any("namespaceSelector" in peer for peer in came.get(8068, [])):
            wanted -= {8068}
            assert chart.shape == "still" or component in ("lane", "migrate", "test", "test-credentials"), name_of(
                document
            )
        if component == "admin" and chart.shape != "ingress":
            wanted -= {8067}
        assert came.keys() == wanted, f"{name_of(document)}: {came.keys()} are open, {wanted} are there"
        for peer in came.get(8068, []):
            names = peer.get("namespaceSelector", {}).get("matchLabels")
            assert names == {"kubernetes.io/metadata.name": "monitoring"}, f"{name_of(document)}: {peer}"
        assert {own_component(it) for it in came.get(6379, [])} <= set(ROLES), name_of(document)
        for peer in came.get(8067, []):
            assert "ipBlock" not in peer, "operators come by an ingress"
