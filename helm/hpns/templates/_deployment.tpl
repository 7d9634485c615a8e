{{/* The Deployment of a role. Call it with (dict "root" $ "role" "gateway"). */}}
{{- define "hpns.deployment" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := $root.Values -}}
{{- $own := get $values $role -}}
{{- $name := printf "%s-%s" (include "hpns.fullname" $root) $role -}}
{{- $part := dict "root" $root "component" $role -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "hpns.labels" $part | nindent 4 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $own) }}
  replicas: {{ $own.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # Nobody goes before somebody else is ready: an upgrade costs no push.
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 25%
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "hpns.selectorLabels" $part | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "hpns.selectorLabels" $part | nindent 8 }}
        hpns/region: {{ $values.region | quote }}
        hpns/health: "true"
        {{- with $own.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # Settings are read at the start: a change of them makes new pods. Apps and certificates are watched.
        checksum/config: {{ include "hpns.config" . | sha256sum }}
        {{- with $own.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      {{- include "hpns.podIdentity" $root | nindent 6 }}
      securityContext:
        {{- include "hpns.podSecurity" $root | nindent 8 }}
      # No preStop: SIGTERM itself begins the drain. The process is not ready from then on, still takes what comes to it
      # for config.server.drain_seconds, and ends when pushes under way are answered.
      terminationGracePeriodSeconds: {{ include "hpns.terminationGrace" . }}
      {{- with include "hpns.placement" $own | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with include "hpns.topologySpread" (dict "root" $root "component" $role "spread" $own.topologySpread "revision" "pod-template-hash") }}
      topologySpreadConstraints:
        {{- . | trim | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ $role }}
          image: {{ include "hpns.image" (dict "image" $values.image "tag" $root.Chart.AppVersion) | quote }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          # What the image starts is hpns.
          args: [{{ $role }}, --config, /etc/hpns/config/hpns.toml]
          env:
            - name: PGPASSWORD
              valueFrom:
                secretKeyRef: {name: {{ $own.existingSecret }}, key: postgres-password}
            # Not HPNS_…: it is no setting. Kubernetes puts it into the addresses below.
            - name: LANE_PASSWORD
              valueFrom:
                secretKeyRef: {name: {{ $own.existingSecret }}, key: lane-password}
            - name: HPNS_DISPATCH__LANES
              value: {{ include "hpns.laneAddresses" . | squote }}
            {{- if eq $role "worker" }}
            {{- with $own.proxy.existingSecret }}
            - name: HPNS_OUTBOUND__PROXY
              valueFrom:
                secretKeyRef: {name: {{ . }}, key: {{ $own.proxy.key }}}
            {{- end }}
            {{- end }}
          ports:
            {{- if eq $role "gateway" }}
            - name: push
              containerPort: 8066
            {{- if $own.service.plainPort }}
            - name: push-plain
              containerPort: 8065
            {{- end }}
            {{- end }}
            {{- if eq $role "admin" }}
            - name: admin
              containerPort: 8067
            {{- end }}
            - name: health
              containerPort: 8068
          # A gateway reads all licences before it answers: four seconds for 100,000 tenants. PostgreSQL may keep it waiting.
          startupProbe:
            httpGet: {path: /health/live, port: health}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 60
          # A thread that is stuck is told after 15 s by the process itself.
          livenessProbe:
            httpGet: {path: /health/live, port: health}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          # Licences are known and a lane is up; Apple, Google and PostgreSQL may be down.
          readinessProbe:
            httpGet: {path: /health/ready, port: health}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 2
          resources:
            {{- toYaml $own.resources | nindent 12 }}
          securityContext:
            {{- include "hpns.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "hpns.volumeMounts" . | nindent 12 }}
      volumes:
        {{- include "hpns.volumes" . | nindent 8 }}
{{- end -}}

{{/* What a role mounts, all of it to read. It writes nothing: no emptyDir is needed. */}}
{{- define "hpns.volumeMounts" -}}
{{- $values := .root.Values -}}
- {name: config, mountPath: /etc/hpns/config, readOnly: true}
- {name: keys, mountPath: /etc/hpns/keys, readOnly: true}
- {name: apps, mountPath: /etc/hpns/apps, readOnly: true}
{{- if and (eq .role "gateway") $values.gateway.tls.existingSecret }}
- {name: tls, mountPath: /etc/hpns/tls, readOnly: true}
{{- end }}
{{- if $values.database.caSecret }}
- {name: database-ca, mountPath: /etc/hpns/database-ca, readOnly: true}
{{- end }}
{{- if include "hpns.lanesAuthority" .root }}
- {name: lanes-ca, mountPath: /etc/hpns/lanes-ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "hpns.volumes" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := $root.Values -}}
{{- $name := include "hpns.fullname" $root -}}
- name: config
  configMap:
    name: {{ $name }}-config
    items:
      - {key: {{ $role }}.toml, path: hpns.toml}
# Mode 0440: root's, and readable for the group of the pod. hpns refuses key files that others may read.
- name: keys
  secret:
    secretName: {{ (get $values $role).existingSecret }}
    defaultMode: 0440
    items:
      {{- range append (include "hpns.keyFiles" $role | fromJsonArray) (include "hpns.keyRing" $role) }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{ include "hpns.appsVolume" . }}
{{- if eq $role "gateway" }}
{{- with $values.gateway.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- end }}
{{- with $values.database.caSecret }}
- name: database-ca
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: {{ $values.database.caKey }}, path: ca.crt}
{{- end }}
{{- with include "hpns.lanesAuthority" $root }}
{{- $place := splitList "/" . }}
- name: lanes-ca
  secret:
    secretName: {{ index $place 0 }}
    defaultMode: 0440
    items:
      - {key: {{ index $place 1 }}, path: ca.crt}
{{- end }}
{{- end -}}

{{/* The apps: their descriptions for gateways and the admin role, the credentials beside them for workers alone. */}}
{{- define "hpns.appsVolume" -}}
{{- $values := .root.Values -}}
{{- $name := include "hpns.fullname" .root -}}
{{- if eq .role "worker" -}}
- name: apps
  projected:
    defaultMode: 0440
    sources:
      - configMap: {name: {{ $name }}-worker-apps}
      {{- range $values.appCredentials.existingSecrets }}
      - secret: {name: {{ . }}}
      {{- end }}
{{- else -}}
- name: apps
  configMap:
    name: {{ $name }}-apps
{{- end -}}
{{- end -}}
