{{/* What every pod has in common, whichever service it runs. */}}

{{- define "voicebus.podSecurity" -}}
automountServiceAccountToken: false
# Else a Service called voicebus-http would appear as VOICEBUS_HTTP_PORT=tcp://..., and be read as a setting.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "voicebus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/*
One service's Deployment:
  root       $
  component  gateway, tool-worker, ...
  worker     the key under toolWorkers, else nothing
  values     the service's own values
  args       what follows `voicebus`
  env        the environment as a YAML list
  ops        the ops port
  http       the port that callers reach, else nothing
  apiKeys    true: callers are checked, so the file of API keys is mounted
  privacy    the config map with the privacy file, else nothing
  tlsSecret  the secret with the http port's certificate and key, else nothing
  strategy   the rolling update
*/}}
{{- define "voicebus.deployment" -}}
{{- $labels := dict "root" .root "component" .component "worker" .worker -}}
{{- $suffix := empty .worker | ternary .component (printf "%s-%s" .component .worker) -}}
{{- $preStop := int (.values.preStopSeconds | default 0) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "voicebus.objectName" (dict "root" .root "suffix" $suffix) }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "voicebus.labels" $labels | nindent 4 }}
spec:
  replicas: {{ .values.replicas }}
  minReadySeconds: 10
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- toYaml .strategy | nindent 6 }}
  selector:
    matchLabels:
      {{- include "voicebus.selectorLabels" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "voicebus.selectorLabels" $labels | nindent 8 }}
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "voicebus.podSecurity" .root | nindent 6 }}
      # preStop and drain both count, and the last minute is for closing what is left: a gateway ends its last sessions
      # (10 s) and waits for Redis to take what they said (30 s) before it closes its ports and connections.
      terminationGracePeriodSeconds: {{ add $preStop (int .values.drainSeconds) 60 }}
      containers:
        - name: {{ .component }}
          image: {{ include "voicebus.image" .root | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [voicebus]
          args: {{ toJson .args }}
          env:
            {{- .env | nindent 12 }}
          {{- with .values.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- with .http }}
            - {name: http, containerPort: {{ . }}}
            {{- end }}
            - {name: ops, containerPort: {{ .ops }}}
          # Importing agents and their libraries may take a minute; from then on the two others decide.
          startupProbe:
            httpGet: {path: /livez, port: ops}
            periodSeconds: 1
            failureThreshold: 60
          readinessProbe:
            httpGet: {path: /readyz, port: ops}
            periodSeconds: 5
            timeoutSeconds: 2
            failureThreshold: 2
          # Only a stuck event loop fails it, never an outage of Redis or of the model.
          livenessProbe:
            httpGet: {path: /livez, port: ops}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          {{- if $preStop }}
          lifecycle:
            preStop:
              sleep: {seconds: {{ $preStop }}}
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "voicebus.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if .apiKeys }}
            - {name: api-keys, mountPath: /etc/voicebus, readOnly: true}
            {{- end }}
            {{- if .privacy }}
            - {name: privacy, mountPath: /etc/voicebus-privacy, readOnly: true}
            {{- end }}
            {{- if .tlsSecret }}
            - {name: tls, mountPath: /etc/voicebus-tls, readOnly: true}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
        {{- if .apiKeys }}
        - name: api-keys
          secret:
            secretName: {{ .root.Values.apiKeys.existingSecret | quote }}
            defaultMode: 0440
            items: [{key: {{ .root.Values.apiKeys.fileKey | quote }}, path: api-keys}]
        {{- end }}
        {{- with .privacy }}
        - name: privacy
          configMap:
            name: {{ . | quote }}
            items: [{key: {{ $.root.Values.privacy.fileKey | quote }}, path: privacy.yaml}]
        {{- end }}
        {{- with .tlsSecret }}
        - name: tls
          secret: {secretName: {{ . | quote }}, defaultMode: 0440}
        {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* A Service for the port that callers reach; the ops port is never in one: (dict "root" $ "component" "gateway" "port" 8080 "service" values). */}}
{{- define "voicebus.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "voicebus.objectName" (dict "root" .root "suffix" .component) }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "voicebus.labels" . | nindent 4 }}
  {{- with .service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .service.type }}
  selector:
    {{- include "voicebus.selectorLabels" . | nindent 4 }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http}
{{- end -}}
