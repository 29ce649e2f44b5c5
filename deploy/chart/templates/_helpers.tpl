{{/* Name of everything of this release. */}}
{{- define "bloctrain.name" -}}
{{- if contains "bloctrain" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-bloctrain" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "bloctrain.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: bloctrain
{{- end }}

{{- define "bloctrain.selector" -}}
app.kubernetes.io/name: bloctrain
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bloctrain.service" -}}
{{ include "bloctrain.name" . }}-coordinator
{{- end }}

{{/* Name of the coordinators in their certificate, and of their Service. */}}
{{- define "bloctrain.host" -}}
{{ include "bloctrain.service" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "bloctrain.serviceAccount" -}}
{{- default (ternary (include "bloctrain.name" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "bloctrain.tokens" -}}
{{ default (printf "%s-tokens" (include "bloctrain.name" .)) .Values.tokens.existingSecret }}
{{- end }}

{{- define "bloctrain.tlsSecret" -}}
{{- if eq .Values.tls.mode "existing" }}{{ required "tls.existingSecret names the Secret with tls.crt, tls.key and ca.crt; it is needed with tls.mode existing" .Values.tls.existingSecret }}{{ else }}{{ include "bloctrain.name" . }}-tls{{ end }}
{{- end }}

{{- define "bloctrain.scheme" -}}
{{ if eq .Values.tls.mode "none" }}http{{ else }}https{{ end }}
{{- end }}

{{/* An image: its context and the chart. */}}
{{- define "bloctrain.image" -}}
{{- $image := index . 0 }}{{- $root := index . 1 -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{/* A pool with what it does not say taken from poolDefaults: its name and the chart. */}}
{{- define "bloctrain.pool" -}}
{{- $name := index . 0 }}{{- $root := index . 1 -}}
{{- mergeOverwrite (deepCopy $root.Values.poolDefaults) (deepCopy (index $root.Values.pools $name)) | toYaml }}
{{- end }}

{{/* How every process finds and trusts the others. */}}
{{- define "bloctrain.env" -}}
- name: BLOCTRAIN_STORE
  value: {{ required "store.url names the bucket that holds everything, such as s3://BUCKET/PREFIX" .Values.store.url | quote }}
- {name: BLOCTRAIN_LOG_FORMAT, value: json}
- name: BLOCTRAIN_POD
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: BLOCTRAIN_HTTP, value: "0.0.0.0:9090"}
{{- with .Values.store.endpoint }}
{{- $azure := regexMatch "^(az|azure|adl|abfss?)://" $.Values.store.url }}
- name: {{ ternary "AZURE_STORAGE_ENDPOINT" "AWS_ENDPOINT" $azure }}
  value: {{ . | quote }}
{{- if hasPrefix "http://" . }}
- {name: {{ ternary "AZURE_ALLOW_HTTP" "AWS_ALLOW_HTTP" $azure }}, value: "true"}
{{- end }}
{{- end }}
{{- with .Values.store.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- range $name, $value := .Values.store.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- if ne .Values.tls.mode "none" }}
- {name: BLOCTRAIN_TLS_CERT, value: /etc/bloctrain/tls/tls.crt}
- {name: BLOCTRAIN_TLS_KEY, value: /etc/bloctrain/tls/tls.key}
- {name: BLOCTRAIN_TLS_CA, value: /etc/bloctrain/tls/ca.crt}
- {name: BLOCTRAIN_TLS_NAME, value: {{ include "bloctrain.host" . }}}
{{- else }}
- {name: BLOCTRAIN_INSECURE, value: "true"}
{{- end }}
{{- end }}

{{- define "bloctrain.envFrom" -}}
{{- with .Values.store.existingSecret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* Mounts of Secrets: whole volumes, so that a change arrives without a restart. */}}
{{- define "bloctrain.mounts" -}}
- {name: tokens, mountPath: /etc/bloctrain/tokens, readOnly: true}
{{- if ne .Values.tls.mode "none" }}
- {name: tls, mountPath: /etc/bloctrain/tls, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "bloctrain.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "bloctrain.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "bloctrain.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Where processes may go: names, the storage, coordinators. Ports of the storage and the chart. */}}
{{- define "bloctrain.egress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- ports:
    {{- range uniq (index . 0) }}
    - {port: {{ . }}}
    {{- end }}
- ports: [{port: 7070}]
  to:
    - podSelector:
        matchLabels:
          {{- include "bloctrain.selector" (index . 1) | nindent 10 }}
{{- end }}
