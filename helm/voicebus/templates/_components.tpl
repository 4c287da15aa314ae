{{/*
What is deployed, in one place for everything that goes over all of it (policies, budgets, accounts):
(dict "root" $ "out" (dict)) fills `out` with suffix -> {suffix, component, worker, values, http, ops, scaled}.
`scaled`: the component has `scaling` in its values, and an autoscaler sets its replicas.
*/}}
{{- define "voicebus.components" -}}
{{- $root := .root -}}
{{- $out := .out -}}
{{- $auto := ne $root.Values.autoscaling.engine "none" -}}
{{- $_ := set $out "gateway" (dict "suffix" "gateway" "component" "gateway" "worker" "" "values" $root.Values.gateway "http" 8080 "ops" 9460 "scaled" $auto) -}}
{{- $_ := set $out "guardrail-worker" (dict "suffix" "guardrail-worker" "component" "guardrail-worker" "worker" "" "values" $root.Values.guardrailWorker "http" 0 "ops" 9462 "scaled" $auto) -}}
{{- $_ := set $out "transcript-archiver" (dict "suffix" "transcript-archiver" "component" "transcript-archiver" "worker" "" "values" $root.Values.transcriptArchiver "http" 8081 "ops" 9463 "scaled" false) -}}
{{- range $worker, $own := $root.Values.toolWorkers -}}
{{- /* Not mergeOverwrite: it takes a 0 or an empty list for "not given". */ -}}
{{- $values := deepCopy $root.Values.toolWorkerDefaults -}}
{{- range $key, $value := $own -}}
{{- if eq $key "scaling" -}}
{{- range $name, $setting := $value -}}
{{- $_ := set $values.scaling $name $setting -}}
{{- end -}}
{{- else if eq $key "image" -}}
{{- $_ := set $values $key (include "voicebus.image.over" (dict "own" $value "base" $values.image) | fromYaml) -}}
{{- else -}}
{{- $_ := set $values $key $value -}}
{{- end -}}
{{- end -}}
{{- $suffix := printf "tool-worker-%s" $worker -}}
{{- $_ := set $out $suffix (dict "suffix" $suffix "component" "tool-worker" "worker" $worker "values" $values "http" 0 "ops" 9461 "scaled" $auto) -}}
{{- end -}}
{{- if $root.Values.modelSimulator.enabled -}}
{{- $_ := set $out "model-simulator" (dict "suffix" "model-simulator" "component" "model-simulator" "worker" "" "values" $root.Values.modelSimulator "http" 8090 "ops" 9464 "scaled" false) -}}
{{- end -}}
{{- end -}}

{{/* How many pods of a component there are at least. */}}
{{- define "voicebus.leastReplicas" -}}
{{- if .scaled -}}{{ .values.scaling.minReplicas | int }}{{- else -}}{{ .values.replicas | int }}{{- end -}}
{{- end -}}

{{/* A duration such as 500ms, 30s, 2m, 1h or 1d in whole seconds, rounded up. */}}
{{- define "voicebus.seconds" -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $factor := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0) $unit -}}
{{- mulf $number $factor | ceil | int -}}
{{- end -}}

{{/* A quantity of Kubernetes, such as 250m, 1.5Gi or 2, as a number. */}}
{{- define "voicebus.quantity" -}}
{{- $factors := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- $unit := regexFind "([kMGTPE]i?|m|Ki)$" (toString .) -}}
{{- mulf (toString . | trimSuffix $unit | float64) (get $factors $unit | default 1.0) -}}
{{- end -}}

{{/*
Where Redis is: (dict "root" $ "out" (dict)) fills `out` with {url, mode, tls, hosts (of "host:port"), ports, master,
database (text)} out of redis.url, or of the trial's own.
*/}}
{{- define "voicebus.redis" -}}
{{- $url := .root.Values.redis.url -}}
{{- if .root.Values.trial.redis.enabled -}}
{{- $url = printf "redis://%s:6379/0" (include "voicebus.trial.name" (dict "root" .root "suffix" "redis")) -}}
{{- end -}}
{{- $scheme := regexFind "^[a-z+]+" $url -}}
{{- $path := splitList "/" (trimPrefix (printf "%s://" $scheme) $url) -}}
{{- $mode := contains "+" $scheme | ternary (regexReplaceAll "^.*[+]" $scheme "") "standalone" -}}
{{- $default := eq $mode "sentinel" | ternary "26379" "6379" -}}
{{- $hosts := list -}}
{{- $ports := list -}}
{{- range splitList "," (first $path) -}}
{{- $host := regexMatch ":[0-9]+$" . | ternary . (printf "%s:%s" . $default) -}}
{{- $hosts = append $hosts $host -}}
{{- $ports = append $ports (regexFind "[0-9]+$" $host | int) -}}
{{- end -}}
{{- /* A sentinel only says where the master is. */ -}}
{{- if eq $mode "sentinel" -}}
{{- $ports = append $ports 6379 -}}
{{- end -}}
{{- $master := "" -}}
{{- $database := "0" -}}
{{- if eq $mode "sentinel" -}}
{{- $master = index (append $path "") 1 -}}
{{- $database = index (concat $path (list "" "")) 2 -}}
{{- else -}}
{{- $database = index (append $path "") 1 -}}
{{- end -}}
{{- $_ := set .out "url" $url -}}
{{- $_ := set .out "mode" $mode -}}
{{- $_ := set .out "tls" (hasPrefix "rediss" $scheme) -}}
{{- $_ := set .out "hosts" $hosts -}}
{{- $_ := set .out "ports" ($ports | uniq | sortAlpha) -}}
{{- $_ := set .out "master" $master -}}
{{- $_ := set .out "database" ($database | default "0") -}}
{{- end -}}
