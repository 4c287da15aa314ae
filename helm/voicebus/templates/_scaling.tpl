{{/* What autoscalers are told, whichever they are. */}}

{{/* Scaling up at once and by as much as there is, down slowly: (dict "down" values.scaling.scaleDown). */}}
{{- define "voicebus.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 4, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: {{ .down.stabilizationSeconds }}
  selectPolicy: Max
  policies:
    - {type: Pods, value: {{ .down.pods }}, periodSeconds: {{ .down.periodSeconds }}}
{{- end -}}

{{- define "voicebus.target" -}}
apiVersion: apps/v1
kind: Deployment
name: {{ include "voicebus.objectName" (dict "root" .root "suffix" .suffix) }}
{{- end -}}

{{/*
Sessions that there should be room for: those held, and in reserve what comes while a pod starts (also of those that
were turned away), at least reserveSessions. No `or vector(0)` on the first: no answer must not look like no calls.
*/}}
{{- define "voicebus.gateway.query" -}}
{{- $pods := printf "namespace=%q,pod=~%q" .Release.Namespace (printf "%s-.*" (include "voicebus.objectName" (dict "root" . "suffix" "gateway"))) -}}
{{- $scaling := .Values.gateway.scaling -}}
sum(voicebus_sessions_active{ {{- $pods -}} })
+ clamp_min({{ $scaling.startSeconds }} * (
(sum(rate(voicebus_sessions_started_total{ {{- $pods -}} }[2m])) or vector(0))
+ (sum(rate(voicebus_admission_rejected_total{ {{- $pods -}} ,reason="full"}[2m])) or vector(0))
), {{ $scaling.reserveSessions }})
{{- end -}}

{{/* Sessions that one gateway is meant to hold. */}}
{{- define "voicebus.gateway.threshold" -}}
{{- mulf .Values.gateway.maxSessions .Values.gateway.scaling.targetUtilization | floor | int | max 1 -}}
{{- end -}}

{{/*
The streams that a component reads, as text lines: of a tool worker its scaling.queues; else its own queue; else what
its targets' tools are in: `default` for plain modules, else the top-level package.
*/}}
{{- define "voicebus.streams" -}}
{{- $prefix := .root.Values.redis.streamPrefix -}}
{{- if eq .component "guardrail-worker" -}}
{{- range $shard := until (int .root.Values.redis.guardrailShards) }}
{{ printf "%s:guardrails:{%d}" $prefix $shard }}
{{- end -}}
{{- else -}}
{{- $queues := .values.scaling.queues | default list -}}
{{- if and (not $queues) .values.queue -}}
{{- $queues = list .values.queue -}}
{{- else if not $queues -}}
{{- range .values.targets | default .root.Values.targets -}}
{{- $module := first (splitList ":" .) -}}
{{- $queues = append $queues (contains "." $module | ternary (first (splitList "." $module)) "default") -}}
{{- end -}}
{{- end -}}
{{- range $queues | uniq }}
{{ printf "%s:tools:{%s}" $prefix . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Entries in work that one pod is meant to have. */}}
{{- define "voicebus.pendingTarget" -}}
{{- mulf .concurrency .scaling.occupancy | floor | int | max 1 -}}
{{- end -}}
