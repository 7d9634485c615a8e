{{/* Rules that several network policies have: who may come to the health port, and who may go where. */}}
{{- define "hpns.fromMonitoring" -}}
{{- with .Values.networkPolicy.monitoringFrom }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: TCP, port: 8068}
{{- end }}
{{- end }}

{{- define "hpns.toDatabase" }}
- to:
    {{- toYaml .Values.networkPolicy.databaseTo | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ .Values.database.port }}}
{{- end }}

{{- define "hpns.toLanes" }}
{{- if .Values.lanes.inCluster.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "hpns.selectorLabels" (dict "root" . "component" "lane") | nindent 10 }}
  ports:
    - {protocol: TCP, port: 6379}
{{- end }}
{{- if .Values.lanes.external }}
- to:
    {{- toYaml .Values.networkPolicy.lanesTo | nindent 4 }}
  ports:
    {{- range $port := include "hpns.externalPorts" . | fromJsonArray }}
    - {protocol: TCP, port: {{ $port }}}
    {{- end }}
{{- end }}
{{- end }}

{{- define "hpns.externalPorts" }}
{{- $ports := list }}
{{- range .Values.lanes.external }}
{{- $ports = append $ports (int (default 6379 .port)) }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{- define "hpns.toProviders" }}
{{- with .Values.worker.proxy }}
{{- if .existingSecret }}
- to:
    {{- toYaml .to | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ .port }}}
{{- else }}
- to:
    {{- toYaml $.Values.networkPolicy.publicTo | nindent 4 }}
  ports:
    - {protocol: TCP, port: 443}
    # Apple's other port. 5223 is for phones, not for us.
    - {protocol: TCP, port: 2197}
{{- end }}
{{- end }}
{{- end }}
