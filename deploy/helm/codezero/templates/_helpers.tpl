{{- define "codezero.teamspaceImage" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "codezero.routerImage" -}}
{{ .Values.router.image.repository }}:{{ .Values.router.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* By which pods are found. Never changed, because selectors of Deployments cannot be. Given the component's name. */}}
{{- define "codezero.selectorLabels" -}}
app.kubernetes.io/name: {{ . }}
app.kubernetes.io/part-of: codezero
{{- end }}

{{- /* Given the root and the component's name. Pods do not get those that change with each release, or every upgrade would restart them. */}}
{{- define "codezero.labels" -}}
{{- $root := index . 0 }}
{{- $name := index . 1 }}
{{- include "codezero.selectorLabels" $name }}
app.kubernetes.io/component: {{ $name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- /* The names of the pull secrets, as a list of CEL has them. */}}
{{- define "codezero.pullSecretNames" -}}
{{- range $number, $secret := .Values.imagePullSecrets }}{{ if $number }}, {{ end }}'{{ $secret.name }}'{{ end }}
{{- end }}

{{- /* What the System reads once, at its start: see docs/reference/environment.md. */}}
{{- define "codezero.settings" -}}
CODEZERO_ALLOWED_DOMAINS: {{ join "," .Values.allowedDomains | quote }}
CODEZERO_ALLOWED_NETWORKS: {{ join "," .Values.allowedNetworks | quote }}
CODEZERO_LOG_LEVEL: {{ .Values.system.logLevel | quote }}
CODEZERO_ROUTER_IMAGE: {{ include "codezero.routerImage" . | quote }}
CODEZERO_ROUTER_LINGER: {{ .Values.router.linger | int | quote }}
CODEZERO_ROUTER_REPLICAS: {{ .Values.router.replicas | int | quote }}
CODEZERO_ROUTER_RESOURCES: {{ .Values.router.resources | toJson | quote }}
CODEZERO_SERVE_NAMESPACES: {{ join "," .Values.serve.namespaces | quote }}
{{- end }}

{{- /* What both parts are told about the Hub. */}}
{{- define "codezero.hub" -}}
{{- if .Values.hub.url }}
- name: CODEZERO_HUB_URL
  value: {{ .Values.hub.url | quote }}
{{- end }}
{{- if .Values.hub.caBundle }}
- name: CODEZERO_HUB_CA
  value: {{ .Values.hub.caBundle | quote }}
{{- end }}
{{- end }}

{{- /* Whom both parts ask besides the policy. */}}
{{- define "codezero.opa" -}}
{{- if .Values.opa.enabled }}
- name: CODEZERO_OPA_URL
  value: {{ .Values.opa.url | quote }}
{{- end }}
{{- end }}

{{- /* Where pods of System and Orchestrator run, and what pulls their image. */}}
{{- define "codezero.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Pods over nodes and zones; those of the last release, which are about to go, do not count. Given the component's name. */}}
{{- define "codezero.spread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "codezero.selectorLabels" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{- define "codezero.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "codezero.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "codezero.probes" -}}
startupProbe:
  httpGet:
    path: /healthz
    port: probes
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /healthz
    port: probes
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: /readyz
    port: probes
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}
