{{/* A table of TOML. Call it with (dict "path" "gateway.limits" "table" …). JSON's texts, numbers, booleans and lists of texts
     are TOML's too. */}}
{{- define "hpns.tomlTable" -}}
{{- $path := .path -}}
{{- $head := true -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) -}}
{{- if and $head $path }}

[{{ $path }}]
{{- end -}}
{{- $head = false }}
{{ $key }} = {{ toRawJson $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- include "hpns.tomlTable" (dict "path" (ternary (printf "%s.%s" $path $key) $key (ne $path "")) "table" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The configuration of a role: the sections that it reads, and what the chart decides. */}}
{{- define "hpns.config" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := $root.Values -}}
{{- $own := get $values $role -}}
{{- $config := deepCopy $values.config -}}
{{- $table := dict "region" $values.region "data_dir" "/etc/hpns" "apps_dir" "/etc/hpns/apps" -}}
{{- range $section := list "log" "server" "registry" "dispatch" "credentials" -}}
{{- $_ := set $table $section (get $config $section) -}}
{{- end -}}
{{- $_ := set $table "health" (dict "listen" (printf "%s:8068" $values.listenAddress)) -}}
{{- $_ := set $table.server "threads" $own.threads -}}
{{- $_ := set $table.registry "url" (include "hpns.registryUrl" (dict "root" $root "user" (get $values.database.users $role))) -}}
{{- $_ := set $table.dispatch "key_ring_file" (printf "/etc/hpns/keys/%s" (include "hpns.keyRing" $role)) -}}
{{- if include "hpns.lanesAuthority" $root -}}
{{- $_ := set $table.dispatch "lanes_ca_file" "/etc/hpns/lanes-ca/ca.crt" -}}
{{- end -}}
{{- $keys := list -}}
{{- range include "hpns.keyFiles" $role | fromJsonArray -}}
{{- $keys = append $keys (printf "/etc/hpns/keys/%s" .) -}}
{{- end -}}
{{- if $keys -}}
{{- $_ := set $table.registry "key_files" $keys -}}
{{- end -}}
{{- if eq $role "gateway" -}}
{{- $gateway := $config.gateway -}}
{{- $_ := set $gateway "listen" (printf "%s:8066" $values.listenAddress) -}}
{{- if $own.service.plainPort -}}
{{- $_ := set $gateway "plain_listen" (printf "%s:8065" $values.listenAddress) -}}
{{- end -}}
{{- if $own.tls.existingSecret -}}
{{- $_ := set $gateway "tls" (dict "certificate_file" "/etc/hpns/tls/tls.crt" "key_file" "/etc/hpns/tls/tls.key") -}}
{{- end -}}
{{- /* Behind a proxy every caller has the proxy's address: one address may then hold all connections. */ -}}
{{- if and $gateway.trusted_proxies (not (hasKey $gateway.limits "connections_per_address")) -}}
{{- $_ := set $gateway.limits "connections_per_address" (default 20000 $gateway.limits.connections) -}}
{{- end -}}
{{- if $gateway.trusted_proxies -}}
{{- $_ := set $gateway "trusted_proxies" (concat (list "127.0.0.0/8" "::1/128") $gateway.trusted_proxies | uniq) -}}
{{- else -}}
{{- $_ := unset $gateway "trusted_proxies" -}}
{{- end -}}
{{- $_ := set $table "gateway" $gateway -}}
{{- $_ := set $table "service_level" $config.service_level -}}
{{- else if eq $role "worker" -}}
{{- $_ := set $table.server "drain_seconds" 0 -}}
{{- $_ := set $table "worker" $config.worker -}}
{{- /* Nothing of the environment counts; the address of a proxy comes as a variable, because it may hold a login. */ -}}
{{- if not $own.proxy.existingSecret -}}
{{- $_ := set $table "outbound" (dict "proxy" "none") -}}
{{- else if $own.proxy.noProxy -}}
{{- $_ := set $table "outbound" (dict "no_proxy" $own.proxy.noProxy) -}}
{{- end -}}
{{- else -}}
{{- $admin := $config.admin -}}
{{- $_ := set $admin "listen" (printf "%s:8067" $values.listenAddress) -}}
{{- if and (not $admin.gateway_url) (not $values.gateway.tls.existingSecret) -}}
{{- $_ := set $admin "gateway_url" (printf "http://%s-gateway:%d" (include "hpns.fullname" $root) (int $values.gateway.service.port)) -}}
{{- end -}}
{{- if $admin.trusted_proxies -}}
{{- $_ := set $admin "trusted_proxies" (concat (list "127.0.0.0/8" "::1/128") $admin.trusted_proxies | uniq) -}}
{{- else -}}
{{- $_ := unset $admin "trusted_proxies" -}}
{{- end -}}
{{- $_ := set $table "admin" $admin -}}
{{- $_ := set $table "service_level" $config.service_level -}}
{{- end -}}
# hpns {{ $role }}, region {{ $values.region }}: made by the chart, from its values. The lanes and all passwords come as
# variables (dispatch.lanes: HPNS_DISPATCH__LANES).
{{- include "hpns.tomlTable" (dict "path" "" "table" $table) }}
{{ end -}}

{{/* The files of apps_dir. Call it with (dict "root" $ "all" true) for those of workers too. */}}
{{- define "hpns.appFiles" -}}
{{- $all := .all -}}
{{- range $name, $app := .root.Values.apps }}
{{- if or $all (ne (toString $app.gateways) "false") }}
{{ $name }}.toml: |
  {{- include "hpns.tomlTable" (dict "path" "" "table" (omit $app "gateways")) | trim | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
