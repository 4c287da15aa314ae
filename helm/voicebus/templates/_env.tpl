{{/* The environment, in the groups of services/voicebus_services/settings.py: a service composes what its class has. */}}

{{/* ServiceSettings: (dict "root" $ "drainSeconds" 60). */}}
{{- define "voicebus.env.service" -}}
- {name: VOICEBUS_LOG_LEVEL, value: {{ .root.Values.logLevel }}}
- {name: VOICEBUS_LOG_FORMAT, value: json}
- {name: VOICEBUS_OPS_HOST, value: 0.0.0.0}
- {name: VOICEBUS_DRAIN_TIMEOUT, value: {{ printf "%ds" (int .drainSeconds) }}}
{{- end -}}

{{/* BusSettings. */}}
{{- define "voicebus.env.bus" -}}
- name: VOICEBUS_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.existingSecret | quote }}, key: {{ .Values.redis.urlKey | quote }}}}
- {name: VOICEBUS_STREAM_PREFIX, value: {{ .Values.redis.streamPrefix | quote }}}
- {name: VOICEBUS_EVENT_SHARDS, value: {{ .Values.redis.eventShards | int | quote }}}
- {name: VOICEBUS_GUARDRAIL_SHARDS, value: {{ .Values.redis.guardrailShards | int | quote }}}
{{- end -}}

{{/* ApiSettings, for the ports that callers reach; the file comes with the volume "api-keys". */}}
{{- define "voicebus.env.http" -}}
- {name: VOICEBUS_HTTP_HOST, value: 0.0.0.0}
- {name: VOICEBUS_API_KEYS_FILE, value: /etc/voicebus/api-keys}
- {name: VOICEBUS_ALLOWED_ORIGINS, value: {{ join "," .Values.access.allowedOrigins | quote }}}
- {name: VOICEBUS_MAX_FAILED_CREDENTIALS_PER_MINUTE, value: {{ .Values.access.failedCredentialsPerMinute | int | quote }}}
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

{{/* DatabaseSettings. */}}
{{- define "voicebus.env.database" -}}
- name: VOICEBUS_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret | quote }}, key: {{ .Values.database.urlKey | quote }}}}
{{- end -}}
