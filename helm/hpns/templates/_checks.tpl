{{/* What no schema can tell: rules between values, each with the way out. */}}
{{- define "hpns.checks" -}}
{{- $values := .Values -}}
{{- $lanes := (include "hpns.lanes" . | fromJson).lanes -}}
{{- if lt (len $lanes) 2 -}}
{{- fail "lanes: two or more are needed (lanes.inCluster.replicas, lanes.external)" -}}
{{- end -}}
{{- if gt (int $values.lanes.gatewaysUse) (len $lanes) -}}
{{- fail "lanes.gatewaysUse: there are not so many lanes" -}}
{{- end -}}
{{- $tls := ne $values.gateway.tls.existingSecret "" -}}
{{- $ways := or $values.gateway.ingress.enabled $values.gateway.httpRoute.enabled -}}
{{- if and $ways (empty $values.config.gateway.trusted_proxies) -}}
{{- fail "config.gateway.trusted_proxies: with an Ingress or HTTPRoute it has to name the network of the controller's pods; gateways refuse licence keys over plain HTTP from others, and would take the controller for every caller" -}}
{{- end -}}
{{- if and $values.gateway.ingress.enabled (empty $values.gateway.ingress.hosts) -}}
{{- fail "gateway.ingress.hosts: at least one" -}}
{{- end -}}
{{- with $values.gateway.httpRoute -}}
{{- if .enabled -}}
{{- if and .gateway.create (or (empty .gateway.className) (empty .gateway.tlsSecret)) -}}
{{- fail "gateway.httpRoute.gateway: className and tlsSecret are needed; licence keys do not travel in the clear" -}}
{{- end -}}
{{- if and (not .gateway.create) (empty .parentRefs) -}}
{{- fail "gateway.httpRoute.parentRefs: the HTTPS listener of a Gateway, or gateway.httpRoute.gateway.create" -}}
{{- end -}}
{{- if and .gateway.create (empty .hostnames) -}}
{{- fail "gateway.httpRoute.hostnames: a Gateway of the chart needs one at least" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.gateway.service.plainPort (not $tls) -}}
{{- fail "gateway.service.plainPort: the first port is plain already without gateway.tls" -}}
{{- end -}}
{{- with $values.admin.ingress -}}
{{- if .enabled -}}
{{- if empty $values.config.admin.trusted_proxies -}}
{{- fail "config.admin.trusted_proxies: with an Ingress it has to name the network of the controller's pods; tokens are taken over plain HTTP from nobody else" -}}
{{- end -}}
{{- if empty .hosts -}}
{{- fail "admin.ingress.hosts: at least one" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $values.networkPolicy.enabled -}}
{{- with $values.networkPolicy -}}
{{- if empty .databaseTo -}}
{{- fail "networkPolicy.databaseTo: say where PostgreSQL is; nothing else of it is let through" -}}
{{- end -}}
{{- if and $values.lanes.external (empty .lanesTo) -}}
{{- fail "networkPolicy.lanesTo: say where the external lanes are" -}}
{{- end -}}
{{- if and (or $ways (ne $values.gateway.service.type "ClusterIP")) (empty .gatewayFrom) -}}
{{- fail "networkPolicy.gatewayFrom: say who reaches gateways: the ingress controller's namespace, or 0.0.0.0/0 and ::/0 behind a LoadBalancer" -}}
{{- end -}}
{{- if and $values.admin.ingress.enabled (empty .adminFrom) -}}
{{- fail "networkPolicy.adminFrom: say who reaches the admin role: the ingress controller's namespace" -}}
{{- end -}}
{{- end -}}
{{- if and $values.worker.proxy.existingSecret (empty $values.worker.proxy.to) -}}
{{- fail "worker.proxy.to: say where the proxy is" -}}
{{- end -}}
{{- end -}}
{{- if and $values.worker.autoscaling.oldestPush.enabled (empty $values.worker.autoscaling.oldestPush.metricName) -}}
{{- fail "worker.autoscaling.oldestPush.metricName: the external metric, as the adapter of the cluster calls it" -}}
{{- end -}}
{{- if and $values.monitoring.rules.enabled (empty $values.monitoring.rules.text) -}}
{{- fail "monitoring.rules.text: hpns sla rules --config FILE > rules.yaml, then --set-file monitoring.rules.text=rules.yaml" -}}
{{- end -}}
{{- range $name, $app := $values.apps -}}
{{- $fcm := eq $app.provider "fcm" -}}
{{- if and $fcm (or (empty $app.project) (empty $app.service_account_file)) -}}
{{- fail (printf "apps.%s: fcm needs project and service_account_file" $name) -}}
{{- end -}}
{{- if and (not $fcm) (empty $app.topic) -}}
{{- fail (printf "apps.%s: apns needs topic" $name) -}}
{{- end -}}
{{- if and (not $fcm) (empty $app.certificate_file) (or (empty $app.key_file) (empty $app.team_id) (empty $app.key_id)) -}}
{{- fail (printf "apps.%s: apns needs team_id, key_id and key_file, or certificate_file" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $values.apps (empty $values.appCredentials.existingSecrets) -}}
{{- fail "appCredentials.existingSecrets: apps need credentials" -}}
{{- end -}}
{{- end -}}
