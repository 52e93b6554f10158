{{- define "veneer.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "veneer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: proxy
{{- end -}}

{{- define "veneer.labels" -}}
{{ include "veneer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "veneer.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "veneer.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "veneer.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "veneer.claim" -}}
{{- .Values.persistence.existingClaim | default (include "veneer.fullname" .) -}}
{{- end -}}

{{- /* Of the probes: with a certificate of its own Veneer speaks TLS and nothing else. */ -}}
{{- define "veneer.scheme" -}}
{{- if .Values.config.tls }}, scheme: HTTPS{{ end -}}
{{- end -}}

{{- /* "true" where there are several pods, which then share records and content; empty otherwise. */ -}}
{{- define "veneer.isFleet" -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled }}true{{ end -}}
{{- end -}}

{{- /* What several pods need. */ -}}
{{- define "veneer.checkFleet" -}}
{{- if not (((.Values.config.state).postgres).replicas) -}}
{{- fail "replicas: expected config.state.postgres with replicas: true, as several pods have the same records" -}}
{{- end -}}
{{- if not ((.Values.config.content).s3) -}}
{{- fail "replicas: expected config.content.s3, as several pods have the same content, and share no disk" -}}
{{- end -}}
{{- if .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim: expected nothing here with several pods: each has a claim of its own" -}}
{{- end -}}
{{- end -}}
