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
{{- end -}}

{{/* DatabaseSettings. */}}
{{- define "voicebus.env.database" -}}
- name: VOICEBUS_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret | quote }}, key: {{ .Values.database.urlKey | quote }}}}
{{- end -}}
