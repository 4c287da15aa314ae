{{/* What every pod has in common, whichever service it runs. */}}

{{- define "voicebus.podSecurity" -}}
automountServiceAccountToken: false
# Else a Service called voicebus-http would appear as VOICEBUS_HTTP_PORT=tcp://..., and be read as a setting.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .Values.pods.securityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- include "voicebus.pullSecrets" . }}
{{- with .Values.pods.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.pods.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "voicebus.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod: (dict "root" $ "values" … "selector" labels-as-text). */}}
{{- define "voicebus.podMetadata" -}}
labels:
  {{- .selector | nindent 2 }}
  {{- with merge dict (.values.podLabels | default dict) .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* On which nodes pods may be: of the service's values. */}}
{{- define "voicebus.nodes" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "voicebus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where pods may be placed: (dict "root" $ "values" … "selector" labels-as-text). */}}
{{- define "voicebus.placement" -}}
{{- with .root.Values.priorityClass }}
{{- if or .name .create }}
priorityClassName: {{ include "voicebus.priorityClassName" $.root | quote }}
{{- end }}
{{- end }}
{{- $spread := .root.Values.topologySpread }}
{{- if or (ne $spread.zones "off") (ne $spread.nodes "off") }}
topologySpreadConstraints:
  {{- range $key, $how := dict "topology.kubernetes.io/zone" $spread.zones "kubernetes.io/hostname" $spread.nodes }}
  {{- if ne $how "off" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: {{ eq $how "hard" | ternary "DoNotSchedule" "ScheduleAnyway" }}
    labelSelector:
      matchLabels:
        {{- $.selector | nindent 8 }}
    # Each rollout is spread by itself: the pods that it replaces do not count.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- end }}
{{- end }}
{{- include "voicebus.nodes" .values }}
{{- end -}}

{{/*
The volumes of a service, and with "mounts" true their mounts:
(dict "root" $ "apiKeys" bool "privacy" name "bus" bool "database" bool "tlsSecret" name "values" …).
*/}}
{{- define "voicebus.volumes" -}}
{{- $redisCa := and .bus .root.Values.redis.tls.existingSecret -}}
{{- $databaseCa := and .database .root.Values.database.tls.existingSecret -}}
{{- if .mounts -}}
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
{{- if $redisCa }}
- {name: redis-ca, mountPath: /etc/voicebus-redis, readOnly: true}
{{- end }}
{{- if $databaseCa }}
- {name: database-ca, mountPath: /etc/voicebus-database, readOnly: true}
{{- end }}
{{- with .values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- else -}}
{{- $named := list -}}
{{- range .values.volumes -}}
{{- $named = append $named .name -}}
{{- end -}}
{{- if not (has "tmp" $named) }}
- {name: tmp, emptyDir: {sizeLimit: 64Mi}}
{{- end }}
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
{{- if $redisCa }}
- name: redis-ca
  secret: {secretName: {{ $redisCa | quote }}, defaultMode: 0440, items: [{key: {{ .root.Values.redis.tls.caKey | quote }}, path: ca.crt}]}
{{- end }}
{{- if $databaseCa }}
- name: database-ca
  secret: {secretName: {{ $databaseCa | quote }}, defaultMode: 0440, items: [{key: {{ .root.Values.database.tls.caKey | quote }}, path: ca.crt}]}
{{- end }}
{{- with .values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The image does not run before this: a pod that stops is told a little later than others stop sending to it. */}}
{{- define "voicebus.preStop" -}}
preStop:
  {{- if semverCompare ">=1.30.0-0" .root.Capabilities.KubeVersion.Version }}
  sleep: {seconds: {{ .seconds }}}
  {{- else }}
  # What sleeps by itself from Kubernetes 1.30 on.
  exec: {command: [python, -c, "import time; time.sleep({{ .seconds }})"]}
  {{- end }}
{{- end -}}

{{/*
One service's Deployment:
  root       $
  component  gateway, tool-worker, ...; `worker` the key under toolWorkers, else nothing; `suffix` of its name
  values     the service's own values
  scaled     true: an autoscaler sets the replicas
  args       what follows `voicebus`
  env        the environment as a YAML list
  ops, http  the ops port, and the port that callers reach, else 0
  apiKeys    true: callers are checked, so the file of API keys is mounted
  privacy    the config map with the privacy file, else nothing
  bus        true: it meets the others on Redis; `database`: it writes to PostgreSQL
  tlsSecret  the secret with the http port's certificate and key, else nothing
  strategy   the rolling update
  init       init containers as a YAML list, else nothing
*/}}
{{- define "voicebus.deployment" -}}
{{- $labels := dict "root" .root "component" .component "worker" .worker "suffix" .suffix -}}
{{- $selector := include "voicebus.selectorLabels" $labels -}}
{{- $preStop := int (.values.preStopSeconds | default 0) -}}
{{- /*
An autoscaler's Deployment says nothing of its replicas, and is annotated so. Where the field goes away in an upgrade or a
rollback, Kubernetes makes it 1 and ends all other pods: one that has had it keeps it, with as many as there are.
*/ -}}
{{- $replicas := list .values.replicas -}}
{{- $annotations := dict -}}
{{- if .scaled -}}
{{- $there := lookup "apps/v1" "Deployment" .root.Release.Namespace (include "voicebus.objectName" (dict "root" .root "suffix" .suffix)) -}}
{{- if and $there (not (dig "metadata" "annotations" "voicebus/replicas" "" $there)) -}}
{{- $replicas = list $there.spec.replicas -}}
{{- else -}}
{{- $replicas = list -}}
{{- $annotations = dict "voicebus/replicas" "autoscaler" -}}
{{- end -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "voicebus.metadata" $labels | nindent 2 }}
  {{- with merge $annotations (.values.annotations | default dict) }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- range $replicas }}
  replicas: {{ . }}
  {{- end }}
  minReadySeconds: 10
  revisionHistoryLimit: {{ .root.Values.revisionHistoryLimit }}
  # A pod that is replaced may take its whole grace period to go, and counts until then where no surplus is allowed.
  progressDeadlineSeconds: {{ add 600 $preStop (int .values.drainSeconds) }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- toYaml .strategy | nindent 6 }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      {{- include "voicebus.podMetadata" (dict "root" .root "values" .values "selector" $selector) | nindent 6 }}
    spec:
      serviceAccountName: {{ include "voicebus.serviceAccountName" (dict "root" .root "values" .values "suffix" .suffix) | quote }}
      {{- include "voicebus.podSecurity" .root | nindent 6 }}
      {{- include "voicebus.placement" (dict "root" .root "values" .values "selector" $selector) | nindent 6 }}
      # preStop and drain both count, and the last minute is for closing what is left: a gateway ends its last sessions
      # (10 s) and waits for Redis to take what they said (30 s) before it closes its ports and connections.
      terminationGracePeriodSeconds: {{ add $preStop (int .values.drainSeconds) 60 }}
      {{- if or .init .values.initContainers }}
      initContainers:
        {{- with .values.initContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with .init }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "voicebus.image" (dict "root" .root "image" .values.image) | quote }}
          imagePullPolicy: {{ (.values.image | default dict).pullPolicy | default .root.Values.image.pullPolicy }}
          command: [voicebus]
          args: {{ toJson .args }}
          env:
            {{- include "voicebus.env" (dict "own" .env "further" .values.env) | nindent 12 }}
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
            timeoutSeconds: 2
            failureThreshold: {{ .root.Values.startupSeconds }}
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
            {{- include "voicebus.preStop" (dict "root" .root "seconds" $preStop) | nindent 12 }}
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "voicebus.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            {{- include "voicebus.volumes" (merge (dict "mounts" true) .) | nindent 12 }}
        {{- with .values.sidecars }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "voicebus.volumes" . | nindent 8 }}
{{- end -}}

{{/* A Service for the port that callers reach; the ops port is never in one: (dict "root" $ "component" "gateway" "port" 8080 "service" values). */}}
{{- define "voicebus.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "voicebus.metadata" (merge (dict "suffix" .component) .) | nindent 2 }}
  {{- with .service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .service.type }}
  {{- with .service.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- if eq .service.type "LoadBalancer" }}
  {{- with .service.loadBalancerClass }}
  loadBalancerClass: {{ . | quote }}
  {{- end }}
  {{- with .service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges: {{ toJson . }}
  {{- end }}
  {{- end }}
  {{- if ne .service.type "ClusterIP" }}
  {{- with .service.externalTrafficPolicy }}
  externalTrafficPolicy: {{ . }}
  {{- end }}
  {{- end }}
  selector:
    {{- include "voicebus.selectorLabels" . | nindent 4 }}
  ports:
    - name: http
      port: {{ .service.port | default .port }}
      targetPort: http
      {{- with .appProtocol }}
      appProtocol: {{ . }}
      {{- end }}
{{- end -}}
