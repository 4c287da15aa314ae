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

{{/*
The name of one component's objects: (dict "root" $ "suffix" "gateway"), of at most 63 letters, or `most`. Cut at the head, so that
the suffix tells them apart.
*/}}
{{- define "voicebus.objectName" -}}
{{- $room := int (sub (.most | default 63) (add1 (len .suffix))) -}}
{{- printf "%s-%s" (include "voicebus.fullname" .root | trunc $room | trimSuffix "-") .suffix -}}
{{- end -}}

{{/* What selects the pods of one component: (dict "root" $ "component" "tool-worker" "worker" "billing"). */}}
{{- define "voicebus.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .worker }}
voicebus/tool-worker: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* What selects the pods of a whole release. */}}
{{- define "voicebus.releaseLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* What every object has of a release, without a component: of $. */}}
{{- define "voicebus.commonLabels" -}}
{{ include "voicebus.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The same with labels of an object's own, which count before commonLabels: (dict "root" $ "further" labels). */}}
{{- define "voicebus.labelsWith" -}}
{{- toYaml (merge (deepCopy .further) (include "voicebus.commonLabels" .root | fromYaml)) -}}
{{- end -}}

{{- define "voicebus.labels" -}}
{{ include "voicebus.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The head of an object: (dict "root" $ "component" … "worker" … "suffix" …), to stand under `metadata:`. */}}
{{- define "voicebus.metadata" -}}
name: {{ include "voicebus.objectName" . }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "voicebus.labels" . | nindent 2 }}
{{- end -}}

{{/*
The image of a service: (dict "root" $ "image" values-or-nothing), the one of all where those name none. A tag or a digest
alone is of the same repository; a digest names the very one.
*/}}
{{- define "voicebus.image" -}}
{{- $image := include "voicebus.image.over" (dict "own" .image "base" .root.Values.image) | fromYaml -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Values of an image over those they begin with: (dict "own" values-or-nothing "base" values), as YAML. */}}
{{- define "voicebus.image.over" -}}
{{- $own := .own | default dict -}}
{{- $named := coalesce $own.repository $own.tag $own.digest -}}
{{- toYaml (mergeOverwrite (empty $named | ternary (deepCopy .base) (pick .base "repository")) $own) -}}
{{- end -}}
