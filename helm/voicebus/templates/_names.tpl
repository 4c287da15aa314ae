{{/* Names, labels and the image: what every object says about itself. */}}

{{- define "voicebus.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* The name of one component's objects: (dict "root" $ "suffix" "gateway"). Cut at the head, so that the suffix tells them apart. */}}
{{- define "voicebus.objectName" -}}
{{- $room := int (sub 62 (len .suffix)) -}}
{{- printf "%s-%s" (include "voicebus.fullname" .root | trunc $room | trimSuffix "-") .suffix -}}
{{- end -}}

{{/* What selects the pods of one component: (dict "root" $ "component" "tool-worker" "worker" "billing"). */}}
{{- define "voicebus.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .worker }}
voicebus/tool-worker: {{ . }}
{{- end }}
{{- end -}}

{{- define "voicebus.labels" -}}
{{ include "voicebus.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "voicebus.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
