{{/* The environment, in the groups of services/voicebus_services/settings.py: a service composes what its class has. */}}

{{/*
All of a container's: (dict "own" the-chart's-as-text "further" values). Of a name in both the values' counts, and stands
alone: a server-side apply, as Helm 4's, refuses a list that has one twice.
*/}}
{{- define "voicebus.env" -}}
{{- $further := .further | default list -}}
{{- $given := list -}}
{{- range $further -}}
{{- $given = append $given .name -}}
{{- end -}}
{{- $all := list -}}
{{- range .own | fromYamlArray -}}
{{- if not (has .name $given) -}}
{{- $all = append $all . -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $all $further) -}}
{{- end -}}

{{/* ServiceSettings: (dict "root" $ "drainSeconds" 60). */}}
{{- define "voicebus.env.service" -}}
- {name: VOICEBUS_LOG_LEVEL, value: {{ .root.Values.logLevel }}}
- {name: VOICEBUS_LOG_FORMAT, value: json}
- {name: VOICEBUS_OPS_HOST, value: "::"}
{{- /* Else OpenTelemetry's own variables count, where env or an operator sets them. */}}
{{- with .root.Values.tracing }}
{{- if .endpoint }}
- {name: VOICEBUS_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: VOICEBUS_TRACE_RATIO, value: {{ .ratio | quote }}}
{{- end }}
{{- end }}
- {name: VOICEBUS_DRAIN_TIMEOUT, value: {{ printf "%ds" (int .drainSeconds) }}}
{{- end -}}

{{/* BusSettings: (dict "root" $ "user" values-of-the-user). The user is this service's own, else the one of all. */}}
{{- define "voicebus.env.bus" -}}
{{- $redis := dict -}}
{{- include "voicebus.redis" (dict "root" .root "out" $redis) -}}
{{- $values := .root.Values.redis -}}
{{- $user := .user | default dict -}}
- {name: VOICEBUS_REDIS_URL, value: {{ $redis.url | quote }}}
{{- with $user.username | default $values.username }}
- {name: VOICEBUS_REDIS_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- if $values.existingSecret }}
- name: VOICEBUS_REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $values.existingSecret | quote }}, key: {{ $user.passwordKey | default $values.passwordKey | quote }}}}
{{- if and (eq $redis.mode "sentinel") $values.sentinelPasswordKey }}
- name: VOICEBUS_REDIS_SENTINEL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $values.existingSecret | quote }}, key: {{ $values.sentinelPasswordKey | quote }}}}
{{- end }}
{{- end }}
{{- if $values.tls.existingSecret }}
- {name: VOICEBUS_REDIS_TLS_CA, value: /etc/voicebus-redis/ca.crt}
{{- end }}
- {name: VOICEBUS_STREAM_PREFIX, value: {{ $values.streamPrefix | quote }}}
- {name: VOICEBUS_EVENT_SHARDS, value: {{ $values.eventShards | int | quote }}}
- {name: VOICEBUS_GUARDRAIL_SHARDS, value: {{ $values.guardrailShards | int | quote }}}
{{- end -}}

{{/* ApiSettings, for the ports that callers reach; the file comes with the volume "api-keys". */}}
{{- define "voicebus.env.http" -}}
- {name: VOICEBUS_HTTP_HOST, value: "::"}
- {name: VOICEBUS_API_KEYS_FILE, value: /etc/voicebus/api-keys}
- {name: VOICEBUS_ALLOWED_ORIGINS, value: {{ join "," .Values.access.allowedOrigins | quote }}}
- {name: VOICEBUS_MAX_REQUESTS_PER_MINUTE, value: {{ .Values.access.requestsPerMinute | int | quote }}}
- {name: VOICEBUS_MAX_FAILED_CREDENTIALS_PER_MINUTE, value: {{ .Values.access.failedCredentialsPerMinute | int | quote }}}
- {name: VOICEBUS_MAX_SILENT_CONNECTIONS, value: {{ .Values.access.silentConnections | int | quote }}}
- {name: VOICEBUS_JWT_ISSUER, value: {{ .Values.access.jwt.issuer | quote }}}
- {name: VOICEBUS_JWT_AUDIENCE, value: {{ .Values.access.jwt.audience | quote }}}
- {name: VOICEBUS_JWT_JWKS, value: {{ .Values.access.jwt.jwks | quote }}}
- {name: VOICEBUS_JWT_ALGORITHMS, value: {{ join "," .Values.access.jwt.algorithms | quote }}}
- {name: VOICEBUS_JWT_LEEWAY, value: {{ .Values.access.jwt.leeway | quote }}}
- {name: VOICEBUS_JWT_TENANT_CLAIM, value: {{ .Values.access.jwt.tenantClaim | quote }}}
- {name: VOICEBUS_JWT_AGENTS_CLAIM, value: {{ .Values.access.jwt.agentsClaim | quote }}}
{{- end -}}

{{/* RecordingsSettings. */}}
{{- define "voicebus.env.recordings" -}}
- {name: VOICEBUS_RECORDINGS_URL, value: {{ .Values.recordings.url | quote }}}
{{- end -}}

{{/* PrivacySettings; the file comes with the volume "privacy". */}}
{{- define "voicebus.env.privacy" -}}
- {name: VOICEBUS_PRIVACY_FILE, value: {{ .Values.privacy.existingConfigMap | empty | ternary "" "/etc/voicebus-privacy/privacy.yaml" | quote }}}
{{- end -}}

{{/* DatabaseSettings. The password and the certificates are libpq's own variables, so the address has nothing secret. */}}
{{- define "voicebus.env.database" -}}
{{- if .Values.trial.postgresql.enabled }}
- {name: VOICEBUS_DATABASE_URL, value: "postgresql+psycopg://voicebus@{{ include "voicebus.trial.name" (dict "root" . "suffix" "postgresql") }}:5432/voicebus"}
{{- else }}
- {name: VOICEBUS_DATABASE_URL, value: {{ .Values.database.url | quote }}}
{{- with .Values.database.existingSecret }}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $.Values.database.passwordKey | quote }}}}
{{- end }}
{{- if .Values.database.tls.existingSecret }}
- {name: PGSSLMODE, value: verify-full}
- {name: PGSSLROOTCERT, value: /etc/voicebus-database/ca.crt}
{{- end }}
{{- end }}
{{- end -}}
