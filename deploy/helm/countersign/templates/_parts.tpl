{{/* What the service and its verification replicas have in common. Each part takes
     (list . SUFFIX); the suffix is "" for the service and "-verify" for the replicas.
     It is in the name label too: no selector of one may find pods of the other, and
     that of a StatefulSet cannot change. */}}

{{- define "countersign.selector" -}}
{{- $suffix := index . 1 }}
{{- with index . 0 -}}
app.kubernetes.io/name: {{ include "countersign.name" . }}{{ $suffix }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- end }}

{{- define "countersign.labels" -}}
{{ include "countersign.selector" . }}
{{- with index . 0 }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- end }}

{{- define "countersign.metadata" -}}
{{- $suffix := index . 1 }}
{{- with index . 0 -}}
name: {{ include "countersign.fullname" . }}{{ $suffix }}
namespace: {{ .Release.Namespace }}
{{- end }}
labels:
  {{- include "countersign.labels" . | nindent 2 }}
{{- end }}

{{/* Do the pods get a token of their service account? Replicas neither scan nor write
     webhook configurations. */}}
{{- define "countersign.usesAPI" -}}
{{- $suffix := index . 1 }}
{{- with (index . 0).Values.kubernetes }}
{{- if or .pullSecrets (and (not $suffix) (or .scan .writeCaBundle)) }}true{{ end }}
{{- end }}
{{- end }}

{{- define "countersign.serviceAccount" -}}
{{- $account := (index . 0).Values.serviceAccount }}
{{- if index . 1 }}{{ $account = (index . 0).Values.verifiers.serviceAccount }}{{ end -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "countersign.metadata" . | nindent 2 }}
  {{- with ($account).annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}

{{- define "countersign.rbac" -}}
{{- $suffix := index . 1 }}
{{- $labels := include "countersign.labels" . }}
{{- with index . 0 }}
{{- $name := printf "%s%s" (include "countersign.fullname" .) $suffix -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
rules:
  {{- if .Values.kubernetes.pullSecrets }}
  - apiGroups: [""]
    resources: [secrets, serviceaccounts]
    verbs: [get]
  {{- end }}
  {{- if and .Values.kubernetes.scan (not $suffix) }}
  - apiGroups: [""]
    resources: [pods]
    verbs: [list]
  - apiGroups: [apps]
    resources: [replicasets]
    verbs: [list]
  - apiGroups: [batch]
    resources: [jobs]
    verbs: [list]
  {{- end }}
  {{- if and .Values.kubernetes.writeCaBundle (not $suffix) }}
  - apiGroups: [admissionregistration.k8s.io]
    resources: [validatingwebhookconfigurations, mutatingwebhookconfigurations]
    resourceNames: [{{ include "countersign.fullname" . }}]
    verbs: [get, patch]
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ .Release.Namespace }}
{{- end }}
{{- end }}

{{- define "countersign.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "countersign.metadata" . | nindent 2 }}
spec:
  {{- $service := (index . 0).Values.service }}
  type: {{ $service.type }}
  selector:
    {{- include "countersign.selector" . | nindent 4 }}
  ports:
    - {name: https, port: {{ $service.port }}, targetPort: https, protocol: TCP}
{{- end }}

{{- define "countersign.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "countersign.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "countersign.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with (index . 0).Values.networkPolicy }}
  ingress:
    - ports:
        - {port: 8181, protocol: TCP}
      {{- with .from }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
        - {port: 443, protocol: TCP}
    {{- with .egress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}

{{- define "countersign.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "countersign.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ ternary 1 (index . 0).Values.podDisruptionBudget.maxUnavailable (eq (index . 1) "-verify") }}
  selector:
    matchLabels:
      {{- include "countersign.selector" . | nindent 6 }}
{{- end }}

{{/* The template of the pods: everything that is not about data or keys is the same. */}}
{{- define "countersign.pod" -}}
{{- $suffix := index . 1 }}
{{- $labels := include "countersign.labels" . }}
{{- $selector := include "countersign.selector" . }}
{{- $usesAPI := include "countersign.usesAPI" . }}
{{- $verify := eq $suffix "-verify" }}
{{- with index . 0 -}}
metadata:
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    checksum/config: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "countersign.fullname" . }}{{ $suffix }}
  automountServiceAccountToken: {{ if $usesAPI }}true{{ else }}false{{ end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # The delay, and what running requests may take.
  terminationGracePeriodSeconds: {{ add (trimSuffix "s" .Values.shutdownDelay | int) 30 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: countersign
      image: {{ include "countersign.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- if $verify }}
      args:
        - serve
        - --config
        - /etc/countersign/config.yaml
        - --role
        - verify
        - --replica-key-file
        - /etc/countersign/replica/replica.key
        - --listen
        - 0.0.0.0:8181
        {{- if and (not $usesAPI) (include "countersign.usesAPI" (list . "")) }}
        # The configuration is the service's, which has a token and these tasks.
        - --kubernetes-in-cluster=false
        - --kubernetes-scan-interval=0s
        - --kubernetes-webhook-configurations=
        {{- end }}
      {{- else }}
      args: [serve, --config, /etc/countersign/config.yaml, --data-dir, /data, --listen, "0.0.0.0:8181"]
      {{- end }}
      env:
        # Below that limit memory is collected seldom: a collection is what the slowest of
        # a hundred reviews waits for.
        - {name: GOMEMLIMIT, value: {{ .Values.goMemoryLimit }}}
        - {name: GOGC, value: "400"}
        {{- $database := .Values.database.secretName }}
        {{- if $verify }}{{ $database = default $database .Values.verifiers.databaseSecretName }}{{ end }}
        {{- with $database }}
        - name: COUNTERSIGN_DATABASE
          valueFrom: {secretKeyRef: {name: {{ . }}, key: url}}
        {{- end }}
      ports:
        - {name: https, containerPort: 8181}
      startupProbe:
        httpGet: {path: /healthz, port: https, scheme: HTTPS}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: https, scheme: HTTPS}
        periodSeconds: 10
        timeoutSeconds: 5
      # Not before the policies can be read, and not while it stops.
      readinessProbe:
        httpGet: {path: /readyz, port: https, scheme: HTTPS}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 1
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        runAsNonRoot: true
        capabilities: {drop: [ALL]}
        seccompProfile: {type: RuntimeDefault}
      resources:
        {{- if $verify }}
        {{- toYaml .Values.verifiers.resources | nindent 8 }}
        {{- else }}
        {{- toYaml .Values.resources | nindent 8 }}
        {{- end }}
      volumeMounts:
        {{- if $verify }}
        - {name: replica, mountPath: /etc/countersign/replica, readOnly: true}
        {{- else }}
        - {name: data, mountPath: /data}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
        - {name: config, mountPath: /etc/countersign/config.yaml, subPath: config.yaml, readOnly: true}
        {{- if ne .Values.certificates.mode "selfSigned" }}
        - {name: tls, mountPath: /etc/countersign/tls, readOnly: true}
        {{- end }}
  volumes:
    {{- if $verify }}
    - name: replica
      secret: {secretName: {{ .Values.verifiers.keySecretName }}, defaultMode: 0440, items: [{key: replica.key, path: replica.key}]}
    {{- end }}
    - name: tmp
      emptyDir: {}
    - name: config
      configMap: {name: {{ include "countersign.fullname" . }}}
    {{- if ne .Values.certificates.mode "selfSigned" }}
    - name: tls
      secret: {secretName: {{ include "countersign.tlsSecret" . }}, defaultMode: 0440}
    {{- end }}
  {{- if $verify }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- $selector | nindent 10 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
