{{/* Names. */}}
{{- define "self-healing.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "self-healing.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "self-healing.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "self-healing.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "self-healing.keysSecret" -}}
{{- default (printf "%s-nats" (include "self-healing.fullname" .)) .Values.nats.keysSecret }}
{{- end }}

{{- define "self-healing.peopleSecret" -}}
{{- default (printf "%s-people" (include "self-healing.fullname" .)) .Values.nats.peopleSecret }}
{{- end }}

{{/* Empty if decisions go unsigned. */}}
{{- define "self-healing.signingSecret" -}}
{{- if .Values.signing.enabled }}{{ default (printf "%s-signing" (include "self-healing.fullname" .)) .Values.signing.keysSecret }}{{ end -}}
{{- end }}

{{/* The Secrets that are made before an install, as a JSON list. */}}
{{- define "self-healing.provisioned" -}}
{{- $all := list }}
{{- if .Values.nats.bundled }}{{ $all = append $all (include "self-healing.keysSecret" .) }}{{ $all = append $all (include "self-healing.peopleSecret" .) }}{{ end }}
{{- with include "self-healing.signingSecret" . }}{{ $all = append $all . }}{{ end }}
{{- $all | toJson }}
{{- end }}

{{/* An image; called as the labels are. */}}
{{- define "self-healing.image" -}}
{{- $i := .root.Values.image -}}
{{ printf "%s/%s/%s:%s" $i.registry $i.repository .component (default .root.Chart.AppVersion $i.tag) | quote }}
{{- end }}

{{/* The four services, as a JSON list: fromJsonArray. */}}
{{- define "self-healing.services" -}}
["watcher","analyzer","actuator","notifier"]
{{- end }}

{{/* Labels; called with (dict "root" $ "component" "watcher"). */}}
{{- define "self-healing.selector" -}}
app.kubernetes.io/name: {{ include "self-healing.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "self-healing.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "self-healing.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: self-healing
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* A cluster's name as a token of a subject. */}}
{{- define "self-healing.cluster" -}}
{{- .Values.settings.cluster | default "default" | replace "." "_" }}
{{- end }}

{{- define "self-healing.natsURL" -}}
{{- if .Values.nats.bundled -}}
nats://{{ include "self-healing.fullname" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ .Values.nats.external.url }}
{{- end -}}
{{- end }}

{{/* How the services prove who they are: nkey, creds or none. */}}
{{- define "self-healing.natsAuth" -}}
{{- if .Values.nats.bundled }}nkey{{ else }}{{ .Values.nats.external.auth }}{{ end -}}
{{- end }}

{{/* A quantity of memory in MiB: 512Mi, 1Gi. */}}
{{- define "self-healing.mebibytes" -}}
{{- if hasSuffix "Gi" . }}{{ trimSuffix "Gi" . | int | mul 1024 }}{{ else }}{{ trimSuffix "Mi" . | int }}{{ end -}}
{{- end }}

{{/* A duration in seconds: 30, 30s, 1m30s, 2h. */}}
{{- define "self-healing.seconds" -}}
{{- $text := toString . -}}
{{- if regexMatch "^[0-9]+$" $text -}}
{{ $text }}
{{- else -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(h|ms|m|s)" $text -1 -}}
{{- $n := regexFind "[0-9]+" . | int -}}
{{- if hasSuffix "h" . }}{{ $sum = add $sum (mul $n 3600) }}{{ else if hasSuffix "ms" . }}{{ else if hasSuffix "m" . }}{{ $sum = add $sum (mul $n 60) }}{{ else }}{{ $sum = add $sum $n }}{{ end -}}
{{- end -}}
{{ $sum }}
{{- end -}}
{{- end }}

{{- define "self-healing.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "self-healing.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What pods that run once have in common. */}}
{{- define "self-healing.oncePod" -}}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "self-healing.podSecurity" . | nindent 2 }}
{{- with .Values.defaults.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.defaults.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where pods may connect to, in NetworkPolicies: names, and the API server. */}}
{{- define "self-healing.toNames" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{- define "self-healing.toAPIServer" -}}
- to:
    {{- range .Values.networkPolicy.apiServer.cidrs }}
    - ipBlock:
        cidr: {{ . | quote }}
    {{- end }}
  ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - port: {{ . }}
    {{- end }}
{{- end }}

{{/* The actuator's rules of one scope: of the strategies that are enabled. Called with (dict "root" $ "scope" "cluster"). */}}
{{- define "self-healing.actuatorRules" -}}
{{- $all := (.root.Files.Get "files/rbac.yaml" | fromYaml).actuator }}
{{- $rules := index $all.always .scope | default list }}
{{- range $strategy, $needs := $all.strategies }}
{{- if or (not $.root.Values.actuator.strategies) (has $strategy $.root.Values.actuator.strategies) }}
{{- $rules = concat $rules (index $needs $.scope | default list) }}
{{- end }}
{{- end }}
{{- $rules | uniq | toJson }}
{{- end }}

{{/* Spread over zones and nodes; called as the labels are. */}}
{{- define "self-healing.spread" -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "self-healing.selector" $ | nindent 6 }}
{{- end }}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "self-healing.check" -}}
{{- $v := .Values -}}
{{- if contains "@" $v.nats.external.url -}}
{{- fail "nats.external.url: must not contain credentials, which every log would show; put them into nats.keysSecret" -}}
{{- end -}}
{{- if and $v.nats.bundled $v.nats.external.url -}}
{{- fail (printf "nats.external.url: is %q, but nats.bundled is true; set it to false to use a server of your own" $v.nats.external.url) -}}
{{- end -}}
{{- if and (not $v.nats.bundled) (not $v.nats.external.url) -}}
{{- fail "nats.external.url: want the address of your NATS server, because nats.bundled is false" -}}
{{- end -}}
{{- if and $v.nats.bundled (lt (include "self-healing.mebibytes" $v.nats.storage.size | int) 6144) -}}
{{- fail (printf "nats.storage.size: %s is less than 6Gi, which the streams may grow to" $v.nats.storage.size) -}}
{{- end -}}
{{- range $i, $ns := $v.namespaces -}}
{{- if has $ns (list "kube-system" "kube-public" "kube-node-lease" $.Release.Namespace) -}}
{{- fail (printf "namespaces[%d]: %q is protected, nothing is ever done there; leave it out" $i $ns) -}}
{{- end -}}
{{- end -}}
{{- range $i, $ns := $v.actuator.bareNamespaces -}}
{{- if has $ns (list "kube-system" "kube-public" "kube-node-lease" $.Release.Namespace) -}}
{{- fail (printf "actuator.bareNamespaces[%d]: %q is protected, nothing is ever done there; leave it out" $i $ns) -}}
{{- end -}}
{{- end -}}
{{- with $v.settings.verify_window -}}
{{- $limit := $v.settings.recovery_timeout | default 300 -}}
{{- if gt (include "self-healing.seconds" . | int) (include "self-healing.seconds" $limit | int) -}}
{{- fail (printf "settings.verify_window: %v is longer than recovery_timeout, which is %v; no recovery could ever be verified in time" . $limit) -}}
{{- end -}}
{{- end -}}
{{- if and $v.settings.email_smtp_server (not $v.settings.email_recipients) -}}
{{- fail (printf "settings.email_recipients: want at least one address, because email_smtp_server is %q" $v.settings.email_smtp_server) -}}
{{- end -}}
{{- range $service := list "analyzer" "actuator" -}}
{{- $a := (index $v $service).autoscaling -}}
{{- if and (ne $a.kind "none") (lt ($a.maxReplicas | int) ($a.minReplicas | int)) -}}
{{- fail (printf "%s.autoscaling.maxReplicas: %v is less than minReplicas, which is %v" $service $a.maxReplicas $a.minReplicas) -}}
{{- end -}}
{{- if and (eq $a.kind "keda") (not $a.prometheus) -}}
{{- fail (printf "%s.autoscaling.prometheus: want the address of Prometheus, which KEDA asks how much waits" $service) -}}
{{- end -}}
{{- end -}}
{{- if and $v.monitoring.serviceMonitor.enabled $v.monitoring.podMonitor.enabled -}}
{{- fail "monitoring: serviceMonitor and podMonitor are both enabled; every figure would be counted twice" -}}
{{- end -}}
{{- end }}
