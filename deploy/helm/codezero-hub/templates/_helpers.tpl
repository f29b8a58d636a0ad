{{- define "codezero-hub.selectorLabels" -}}
app.kubernetes.io/name: hub
app.kubernetes.io/part-of: codezero-hub
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Pods do not get those that change with each release, or every upgrade would restart them. */}}
{{- define "codezero-hub.labels" -}}
{{ include "codezero-hub.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
