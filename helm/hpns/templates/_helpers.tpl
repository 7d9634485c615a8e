{{/* What all names of a release begin with. */}}
{{- define "hpns.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The labels that choose all pods of the release. */}}
{{- define "hpns.releaseLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The labels that choose the pods of one part of it. Call it with (dict "root" $ "component" "gateway"). */}}
{{- define "hpns.selectorLabels" -}}
{{ include "hpns.releaseLabels" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "hpns.labels" -}}
{{ include "hpns.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hpns
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
hpns/region: {{ .root.Values.region | quote }}
{{- end -}}

{{/* An image by digest, or by tag. Call it with (dict "image" … "tag" …). */}}
{{- define "hpns.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Of every pod, as Pod Security "restricted" asks. The group lets the process read Secrets, which are root's. */}}
{{- define "hpns.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "hpns.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Of every pod: no token of the cluster, and no variables about Services. Kubernetes would tell a pod of a Service
     hpns-gateway in HPNS_GATEWAY_PORT=tcp://…, which begins as the settings of hpns do. */}}
{{- define "hpns.podIdentity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where pods may run. Call it with the values of a part. */}}
{{- define "hpns.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Call it with (dict "root" $ "component" "gateway" "spread" … "revision" "pod-template-hash"): pods of a new revision are
     spread among themselves, so that the old ones, which go, do not count. */}}
{{- define "hpns.topologySpread" -}}
{{- $call := . -}}
{{- range $topology, $strictness := dict "topology.kubernetes.io/zone" .spread.zone "kubernetes.io/hostname" .spread.host }}
{{- if $strictness }}
- maxSkew: 1
  topologyKey: {{ $topology }}
  whenUnsatisfiable: {{ $strictness }}
  labelSelector:
    matchLabels:
      {{- include "hpns.selectorLabels" $call | nindent 6 }}
  matchLabelKeys: [{{ $call.revision }}]
{{- end }}
{{- end }}
{{- end -}}

{{/* How long Kubernetes waits for a role after SIGTERM: the drain, the grace, 10 s for the last writes to the registry,
     and some more. */}}
{{- define "hpns.terminationGrace" -}}
{{- $server := .root.Values.config.server -}}
{{- $drain := ternary 0 (int $server.drain_seconds) (eq .role "worker") -}}
{{- add $drain (int $server.shutdown_grace_seconds) 15 -}}
{{- end -}}

{{/* The lanes as a list of (dict "host" "port" "tls"), as JSON. */}}
{{- define "hpns.lanes" -}}
{{- $root := . -}}
{{- $lanes := list -}}
{{- with .Values.lanes.inCluster -}}
{{- if .enabled -}}
{{- $tls := ne .tls.existingSecret "" -}}
{{- range $number := until (int .replicas) -}}
{{- $lanes = append $lanes (dict "host" (printf "%s-lane-%d" (include "hpns.fullname" $root) $number) "port" 6379 "tls" $tls) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.lanes.external -}}
{{- $lanes = append $lanes (dict "host" .host "port" (int (default 6379 .port)) "tls" (default false .tls)) -}}
{{- end -}}
{{- dict "lanes" $lanes | toJson -}}
{{- end -}}

{{/* The setting dispatch.lanes of a role, with its user; Kubernetes puts the password in. */}}
{{- define "hpns.laneAddresses" -}}
{{- $role := .role -}}
{{- $lanes := (include "hpns.lanes" .root | fromJson).lanes -}}
{{- $use := int .root.Values.lanes.gatewaysUse -}}
{{- if and (eq $role "gateway") (gt $use 0) -}}
{{- $lanes = slice $lanes 0 (min $use (len $lanes)) -}}
{{- end -}}
{{- $addresses := list -}}
{{- range $lanes -}}
{{- $scheme := ternary "rediss" "redis" .tls -}}
{{- $addresses = append $addresses (printf "%q" (printf "%s://hpns-%s:$(LANE_PASSWORD)@%s:%d" $scheme $role .host (int .port))) -}}
{{- end -}}
[{{ join ", " $addresses }}]
{{- end -}}

{{/* The Secret and the key with the authority of the lanes' certificates, as "SECRET/KEY"; nothing if there is none. */}}
{{- define "hpns.lanesAuthority" -}}
{{- with .Values.lanes -}}
{{- if .caSecret -}}
{{- printf "%s/%s" .caSecret .caKey -}}
{{- else if and .inCluster.enabled .inCluster.tls.existingSecret -}}
{{- printf "%s/ca.crt" .inCluster.tls.existingSecret -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The registry's address for a login; its password comes as PGPASSWORD. */}}
{{- define "hpns.registryUrl" -}}
{{- $database := .root.Values.database -}}
{{- $url := printf "postgres://%s@%s:%d/%s?sslmode=%s" .user $database.host (int $database.port) $database.name $database.sslMode -}}
{{- if $database.caSecret -}}
{{- $url = printf "%s&sslrootcert=/etc/hpns/database-ca/ca.crt" $url -}}
{{- end -}}
{{- $url -}}
{{- end -}}

{{/* The files of the service's own keys that a role has, as a list in JSON. Each role has its own Secret, because a node may
     read every Secret that one of its pods mounts, whole. */}}
{{- define "hpns.keyFiles" -}}
{{- $files := dict
  "gateway" (list "control.keys" "devices.keys" "log.keys" "rights-check.keys")
  "worker" (list)
  "admin" (list "control.keys" "devices.keys" "log.keys" "operators.keys" "rights.keys") -}}
{{- get $files . | toJson -}}
{{- end -}}

{{/* The file with the keys of the lanes: the admin role reads what the others tell, and opens no push. */}}
{{- define "hpns.keyRing" -}}
{{- ternary "board.keys" "dispatch.keys" (eq . "admin") -}}
{{- end -}}

{{/* Which IP families a Service has. */}}
{{- define "hpns.ipFamilies" -}}
{{- with .Values.services.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.services.ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
