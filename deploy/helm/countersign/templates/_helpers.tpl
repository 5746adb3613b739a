{{- define "countersign.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "countersign.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "countersign.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "countersign.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "countersign.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Are there verification replicas? A value of before there were any has no such key. */}}
{{- define "countersign.verifiers" -}}
{{- if (.Values.verifiers).replicas }}true{{ end }}
{{- end }}

{{- define "countersign.host" -}}
{{- printf "%s.%s.svc" (include "countersign.fullname" .) .Release.Namespace }}
{{- end }}

{{/* The names that callers inside the cluster use, which the certificate must have. */}}
{{- define "countersign.hosts" -}}
{{- $hosts := list (include "countersign.host" .) }}
{{- if include "countersign.verifiers" . }}
{{- $hosts = append $hosts (printf "%s-verify.%s.svc" (include "countersign.fullname" .) .Release.Namespace) }}
{{- end }}
{{- range $i, $host := $hosts }}{{ if $i }},{{ end }}{{ $host }},{{ $host }}.cluster.local{{ end }}
{{- end }}

{{- define "countersign.publicUrl" -}}
{{- default (printf "https://%s" (include "countersign.host" .)) .Values.publicUrl }}
{{- end }}

{{- define "countersign.tlsSecret" -}}
{{- default (printf "%s-tls" (include "countersign.fullname" .)) .Values.certificates.secretName }}
{{- end }}

{{/* countersign.clientConfig (list . "validate"): where a webhook is called. Neither a
     path nor a URL of a webhook may have a query, so the cluster is in the path. */}}
{{- define "countersign.clientConfig" -}}
{{- $root := index . 0 }}
{{- $w := $root.Values.webhooks }}
{{- $path := printf "/v1/admission/%s" (index . 1) }}
{{- if $w.cluster }}{{ $path = printf "/clusters/%s%s" $w.cluster $path }}{{ end }}
{{- if $w.url }}
url: {{ printf "%s%s" $w.url $path | quote }}
{{- else }}
service:
  name: {{ include "countersign.fullname" $root }}{{ if include "countersign.verifiers" $root }}-verify{{ end }}
  namespace: {{ $root.Release.Namespace }}
  port: {{ $root.Values.service.port }}
  path: {{ $path }}
{{- end }}
{{- if $w.caBundle }}
caBundle: {{ $w.caBundle | trim | printf "%s\n" | b64enc }}
{{- end }}
{{- end }}

{{/* What is asked about: everything that holds a pod template, so that a refusal is
     seen where it was written, and pods themselves, which nobody gets round. Scale and
     status are subresources that are not listed. */}}
{{- define "countersign.rules" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: {{ .pods }}
  scope: Namespaced
- apiGroups: [apps]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [deployments, replicasets, statefulsets, daemonsets]
  scope: Namespaced
- apiGroups: [batch]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [jobs, cronjobs]
  scope: Namespaced
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Everything but namespaces by their own names: the API server sets this label and
     nobody else can, so no label that a tenant may edit takes enforcement away. */}}
{{- define "countersign.namespaces" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ concat (list .Release.Namespace) .Values.webhooks.excludedNamespaces | uniq | toJson }}
{{- end }}
