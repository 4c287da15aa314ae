{{/* Where pods may go, as rules of a NetworkPolicy. Policies know addresses and labels, not names of hosts. */}}

{{/* Addresses of the internet: neither the cluster's and the company's own, nor the metadata of the cloud. */}}
{{- define "voicebus.public" -}}
- ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, 127.0.0.0/8]}
- ipBlock: {cidr: "::/0", except: ["fc00::/7", "fe80::/10", "::1/128"]}
{{- end -}}

{{/* One rule: (dict "to" peers-or-nothing "ports" list-of-numbers). */}}
{{- define "voicebus.egress.rule" -}}
- {{ with .to }}to:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .ports }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
{{- end -}}

{{- define "voicebus.egress.dns" -}}
- {{ with .Values.networkPolicy.dns }}to:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {port: {{ int . }}, protocol: UDP}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
{{- end -}}

{{/* The pods of one component of this release: (dict "root" $ "component" "gateway" "port" 8080). */}}
{{- define "voicebus.egress.own" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "voicebus.selectorLabels" . | nindent 10 }}
  ports:
    - {port: {{ .port }}, protocol: TCP}
{{- end -}}

{{- define "voicebus.egress.redis" -}}
{{- if .Values.trial.redis.enabled -}}
{{ include "voicebus.egress.own" (dict "root" . "component" "redis" "port" 6379) }}
{{- else -}}
{{- $redis := dict -}}
{{- include "voicebus.redis" (dict "root" . "out" $redis) -}}
{{ include "voicebus.egress.rule" (dict "to" .Values.networkPolicy.redis.to "ports" (.Values.networkPolicy.redis.ports | default $redis.ports)) }}
{{- end -}}
{{- end -}}

{{/* HOST:PORT,HOST:PORT of a PostgreSQL address. */}}
{{- define "voicebus.databaseHosts" -}}
{{- regexReplaceAll "[/?].*$" (regexReplaceAll "^[^:]+://([^@/]*@)?" . "") "" -}}
{{- end -}}

{{- define "voicebus.egress.database" -}}
{{- if .Values.trial.postgresql.enabled -}}
{{ include "voicebus.egress.own" (dict "root" . "component" "postgresql" "port" 5432) }}
{{- else -}}
{{- $ports := list -}}
{{- range splitList "," (include "voicebus.databaseHosts" .Values.database.url) -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "5432") -}}
{{- end -}}
{{ include "voicebus.egress.rule" (dict "to" .Values.networkPolicy.database.to "ports" (uniq $ports)) }}
{{- end -}}
{{- end -}}

{{/* HOST:PORT of a URL. */}}
{{- define "voicebus.urlPlace" -}}
{{- regexReplaceAll "[/?#].*$" (regexReplaceAll "^[a-z+]+://" . "") "" -}}
{{- end -}}

{{/* The port of an address, by its scheme where it names none: of a URL. */}}
{{- define "voicebus.urlPort" -}}
{{- $place := include "voicebus.urlPlace" . -}}
{{- /* At its end: an IPv6 address has colons of its own. */ -}}
{{- regexFind ":[0-9]+$" $place | trimPrefix ":" | default (hasPrefix "http:" . | or (hasPrefix "ws:" .) | ternary "80" "443") -}}
{{- end -}}

{{/* The model; its HTTP interface, which WebRTC calls go through, is at the same address. */}}
{{- define "voicebus.egress.model" -}}
{{- if .Values.modelSimulator.enabled -}}
{{ include "voicebus.egress.own" (dict "root" . "component" "model-simulator" "port" 8090) }}
{{- else -}}
{{- $to := .Values.networkPolicy.model.to | default (include "voicebus.public" . | fromYamlArray) -}}
{{ include "voicebus.egress.rule" (dict "to" $to "ports" (list (include "voicebus.urlPort" .Values.model.url))) }}
{{- end -}}
{{- end -}}

{{/* The keys of an identity provider. */}}
{{- define "voicebus.egress.jwks" -}}
{{- if hasPrefix "http" .Values.access.jwt.jwks -}}
{{- $to := .Values.networkPolicy.jwks.to | default (include "voicebus.public" . | fromYamlArray) -}}
{{ include "voicebus.egress.rule" (dict "to" $to "ports" (list (include "voicebus.urlPort" .Values.access.jwt.jwks))) }}
{{- end -}}
{{- end -}}

{{- define "voicebus.egress.recordings" -}}
{{- if hasPrefix "s3:" .Values.recordings.url -}}
{{- $to := .Values.networkPolicy.recordings.to | default (include "voicebus.public" . | fromYamlArray) -}}
{{ include "voicebus.egress.rule" (dict "to" $to "ports" .Values.networkPolicy.recordings.ports) }}
{{- end -}}
{{- end -}}

{{- define "voicebus.egress.otlp" -}}
{{- $otlp := .Values.networkPolicy.otlp -}}
{{- if and $otlp.to .Values.tracing.endpoint -}}
{{ include "voicebus.egress.rule" (dict "to" $otlp.to "ports" ($otlp.ports | default (list (include "voicebus.urlPort" .Values.tracing.endpoint)))) }}
{{- end -}}
{{- end -}}
