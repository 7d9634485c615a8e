"""Ways to break the chart, and the law that has to notice each: laws that can not fail prove nothing."""

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import chart as charts


class Mutation(NamedTuple):
    what: str
    # A file of the chart, what stands in it (once at least), and what stands there then.
    file: str
    old: str
    new: str
    law: str
    shape: str = "us"


DEPLOYMENT, LANES, NETWORK = "templates/_deployment.tpl", "templates/lanes.yaml", "templates/networkpolicies.yaml"
HELPERS, SCALING, SERVICES = "templates/_helpers.tpl", "templates/scaling.yaml", "templates/services.yaml"

MUTATIONS = [
    Mutation(
        "a key that Kubernetes does not know",
        DEPLOYMENT,
        "revisionHistoryLimit: 5",
        "revisionHistory: 5",
        "every_document_fits_the_schemas_of_kubernetes",
    ),
    Mutation(
        "two documents of one name",
        "templates/worker.yaml",
        '"role" "worker"',
        '"role" "gateway"',
        "every_document_has_a_name_of_its_own_in_the_namespace_of_the_release",
    ),
    Mutation(
        "a password in plain text",
        DEPLOYMENT,
        "          ports:",
        "            - {name: PGPASSWORD2, value: secret}\n          ports:",
        "no_secret_is_made_and_none_stands_in_plain_text",
    ),
    Mutation(
        "a password in an address",
        HELPERS,
        '"postgres://%s@%s',
        '"postgres://%s:hunter2@%s',
        "no_secret_is_made_and_none_stands_in_plain_text",
    ),
    Mutation(
        "a Secret with content",
        "templates/serviceaccounts.yaml",
        "kind: ServiceAccount",
        "kind: Secret",
        "no_secret_is_made_and_none_stands_in_plain_text",
    ),
    Mutation(
        "a root file system that can be written",
        HELPERS,
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "every_container_is_restricted",
    ),
    Mutation(
        "a capability that is left",
        HELPERS,
        "drop: [ALL]",
        "drop: [ALL]\n  add: [NET_BIND_SERVICE]",
        "every_container_is_restricted",
    ),
    Mutation(
        "no seccomp profile",
        HELPERS,
        "seccompProfile:\n  type: RuntimeDefault",
        "supplementalGroups: [1]",
        "every_container_is_restricted",
    ),
    Mutation(
        "a volume on the machine",
        LANES,
        "emptyDir:\n            medium: Memory\n            sizeLimit: 1Mi",
        "hostPath: {path: /var/lib/redis}",
        "every_container_is_restricted",
    ),
    Mutation(
        "variables about Services",
        HELPERS,
        "enableServiceLinks: false",
        "enableServiceLinks: true",
        "no_pod_has_a_token_of_the_cluster_or_variables_about_services",
    ),
    Mutation(
        "a token of the cluster",
        HELPERS,
        "automountServiceAccountToken: false",
        "automountServiceAccountToken: true",
        "no_pod_has_a_token_of_the_cluster_or_variables_about_services",
    ),
    Mutation(
        "a probe at a port that is not there",
        DEPLOYMENT,
        "httpGet: {path: /health/ready, port: health}",
        "httpGet: {path: /health/ready, port: healthz}",
        "probes_ask_a_port_and_a_path_that_are_there",
    ),
    Mutation(
        "a probe at a path that is not there",
        DEPLOYMENT,
        "path: /health/ready",
        "path: /ready",
        "probes_ask_a_port_and_a_path_that_are_there",
    ),
    Mutation(
        "a port that nobody listens on",
        DEPLOYMENT,
        "containerPort: 8066",
        "containerPort: 8080",
        "probes_ask_a_port_and_a_path_that_are_there",
    ),
    Mutation(
        "no time for the last writes",
        HELPERS,
        "shutdown_grace_seconds) 15",
        "shutdown_grace_seconds) 5",
        "there_is_time_to_drain_and_nobody_goes_before_another_is_ready",
    ),
    Mutation(
        "an upgrade that takes one away first",
        DEPLOYMENT,
        "maxUnavailable: 0",
        "maxUnavailable: 1",
        "there_is_time_to_drain_and_nobody_goes_before_another_is_ready",
    ),
    Mutation(
        "a selector that chooses every role",
        DEPLOYMENT,
        '    matchLabels:\n      {{- include "hpns.selectorLabels" $part | nindent 6 }}',
        '    matchLabels:\n      {{- include "hpns.releaseLabels" $root | nindent 6 }}',
        "every_selector_chooses_its_own_pods_and_no_others",
    ),
    Mutation(
        "a Service that chooses nobody",
        SERVICES,
        '"component" "admin") | nindent 4 }}\n  ports',
        '"component" "operators") | nindent 4 }}\n  ports',
        "every_service_has_pods_with_its_port",
    ),
    Mutation(
        "a Service with a port that no pod has",
        SERVICES,
        "targetPort: push",
        "targetPort: pushes",
        "every_service_has_pods_with_its_port",
    ),
    Mutation(
        "a lane's Service for a pod that does not come",
        LANES,
        "pod-name: {{ $name }}-lane-",
        "pod-name: {{ $name }}-lanes-",
        "every_service_has_pods_with_its_port",
    ),
    Mutation(
        "an Ingress to a port that is not there",
        "templates/ingress.yaml",
        '"gateway" "push"',
        '"gateway" "http"',
        "every_service_has_pods_with_its_port",
    ),
    Mutation(
        "a Gateway without TLS",
        "templates/httproute.yaml",
        "protocol: HTTPS",
        "protocol: HTTP",
        "every_way_in_has_tls",
        "gateway-api",
    ),
    Mutation(
        "an autoscaler of nobody",
        SCALING,
        "name: {{ $name }}-{{ $role }}\n  minReplicas",
        "name: {{ $name }}-{{ $role }}s\n  minReplicas",
        "every_budget_and_every_scaler_has_what_it_counts",
    ),
    Mutation(
        "a count beside an autoscaler",
        DEPLOYMENT,
        '{{- if not (dig "autoscaling" "enabled" false $own) }}',
        "{{- if true }}",
        "every_budget_and_every_scaler_has_what_it_counts",
    ),
    Mutation(
        "a budget of nobody",
        SCALING,
        '"component" $role) | nindent 6',
        '"component" "pods") | nindent 6',
        "every_budget_and_every_scaler_has_what_it_counts",
    ),
    Mutation(
        "what goes out is not denied",
        NETWORK,
        '      {{- include "hpns.releaseLabels" . | nindent 6 }}\n  policyTypes: [Ingress, Egress]',
        '      {{- include "hpns.releaseLabels" . | nindent 6 }}\n  policyTypes: [Ingress]',
        "everything_is_denied_but_what_is_named",
    ),
    Mutation(
        "DNS on all ports",
        NETWORK,
        "      ports:\n        - {protocol: UDP, port: 53}\n        - {protocol: TCP, port: 53}\n---",
        "---",
        "everything_is_denied_but_what_is_named",
    ),
    Mutation(
        "gateways in the internet",
        NETWORK,
        '    {{- include "hpns.toLanes" . | trim | nindent 4 }}\n',
        '    {{- include "hpns.toLanes" . | trim | nindent 4 }}\n'
        '    {{- include "hpns.toProviders" . | trim | nindent 4 }}\n',
        "each_role_reaches_what_it_needs_and_no_more",
    ),
    Mutation(
        "workers at the cloud's metadata service",
        "values.yaml",
        "169.254.0.0/16, ",
        "",
        "each_role_reaches_what_it_needs_and_no_more",
    ),
    Mutation(
        "lanes for everybody of the release",
        NETWORK,
        'range $component := list "gateway" "worker" "admin"',
        'range $component := list "gateway" "worker" "admin" "test"',
        "the_private_port_is_for_monitoring_alone_and_lanes_for_the_roles",
    ),
    Mutation(
        "metrics for customers' ingress",
        NETWORK,
        "        - {protocol: TCP, port: 8066}\n        {{- if",
        "        - {protocol: TCP, port: 8066}\n        - {protocol: TCP, port: 8068}\n        {{- if",
        "the_private_port_is_for_monitoring_alone_and_lanes_for_the_roles",
    ),
    Mutation(
        "operators' keys at gateways",
        HELPERS,
        '"gateway" (list "control.keys"',
        '"gateway" (list "operators.keys" "control.keys"',
        "each_role_has_its_own_keys_and_no_others",
    ),
    Mutation(
        "the key ring at the admin role",
        HELPERS,
        'ternary "board.keys" "dispatch.keys" (eq . "admin")',
        'ternary "board.keys" "dispatch.keys" (eq . "operators")',
        "each_role_has_its_own_keys_and_no_others",
    ),
    Mutation(
        "apps' credentials at gateways",
        DEPLOYMENT,
        '{{- if eq .role "worker" -}}\n- name: apps',
        '{{- if ne .role "admin" -}}\n- name: apps',
        "each_role_has_its_own_keys_and_no_others",
    ),
    Mutation(
        "key files that everybody may read",
        DEPLOYMENT,
        "defaultMode: 0440",
        "defaultMode: 0444",
        "key_files_are_readable_for_the_pods_group_and_nobody_else",
    ),
    Mutation(
        "a lane's scratch on a disk",
        LANES,
        "            medium: Memory\n",
        "",
        "key_files_are_readable_for_the_pods_group_and_nobody_else",
    ),
    Mutation(
        "a ConfigMap's key that is not there",
        DEPLOYMENT,
        "- {key: {{ $role }}.toml",
        "- {key: {{ $role }}.tml",
        "whatever_is_mounted_is_there",
    ),
    Mutation(
        "all of a role's Secret as files",
        DEPLOYMENT,
        '      {{- range append (include "hpns.keyFiles" $role | fromJsonArray) (include "hpns.keyRing" $role) }}',
        "      {{- range list }}",
        "whatever_is_mounted_is_there",
    ),
    Mutation(
        "a key file that is named and not mounted",
        "templates/_config.tpl",
        '"/etc/hpns/keys/%s" .)',
        '"/etc/hpns/key/%s" .)',
        "every_file_of_the_configuration_is_mounted",
    ),
    Mutation(
        "the administrator's login for every role",
        "templates/_config.tpl",
        "(get $values.database.users $role)",
        "$values.database.users.owner",
        "the_configuration_holds_the_region_and_no_secret",
    ),
    Mutation(
        "the gateway's user for every role",
        HELPERS,
        'hpns-%s:$(LANE_PASSWORD)@%s:%d" $scheme $role',
        'hpns-%s:$(LANE_PASSWORD)@%s:%d" $scheme "gateway"',
        "lanes_are_those_that_are_there_and_two_at_least",
    ),
    Mutation(
        "a lane that is not there",
        HELPERS,
        '"%s-lane-%d" (include "hpns.fullname" $root) $number',
        '"%s-lane-%d" (include "hpns.fullname" $root) (add 1 $number)',
        "lanes_are_those_that_are_there_and_two_at_least",
    ),
    Mutation(
        "a Job that waits for the chart",
        "templates/migrate.yaml",
        "      restartPolicy: Never",
        "      restartPolicy: Never\n      serviceAccountName: hpns-admin",
        "hooks_stand_on_their_own",
    ),
    Mutation(
        "a Job before it is let out",
        NETWORK,
        'helm.sh/hook-weight: "-10"',
        'helm.sh/hook-weight: "10"',
        "hooks_stand_on_their_own",
    ),
    Mutation(
        "a monitor of no Service",
        "templates/monitoring.yaml",
        '"component" "metrics") | nindent 6',
        '"component" "health") | nindent 6',
        "monitoring_finds_every_role",
        "monitoring",
    ),
]


def is_noticed(mutation, laws):
    """Breaks a copy of the chart; the law has to fail, or Helm to refuse."""
    laws[mutation.law](charts.Rendered(mutation.shape))
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "hpns"
        shutil.copytree(charts.CHART, copy)
        file = copy / mutation.file
        text = file.read_text()
        assert mutation.old in text, f"{mutation.file} does not say {mutation.old!r} any more"
        file.write_text(text.replace(mutation.old, mutation.new))
        broken = charts.Rendered(mutation.shape, chart=copy)
        try:
            laws[mutation.law](broken)
        except AssertionError as error:
            return f"noticed: {str(error)[:120]}"
    raise AssertionError(f"{mutation.law} does not notice")
