{{- define "strata.labels" -}}
app.kubernetes.io/name: strata
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "strata.selector" -}}
app.kubernetes.io/name: strata
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "strata.kafka" -}}
- name: STRATA_KAFKA_BOOTSTRAP
  value: {{ required "kafka.bootstrap: the brokers, host:port with commas between" .Values.kafka.bootstrap | quote }}
- name: STRATA_KAFKA_SECURITY
  value: {{ .Values.kafka.security }}
{{- with .Values.kafka.sasl }}
- name: STRATA_KAFKA_SASL
  value: {{ . }}
{{- end }}
{{- range $key, $name := dict "username" "STRATA_KAFKA_USERNAME" "password" "STRATA_KAFKA_PASSWORD" }}
{{- if has $key $.Values.kafka.keys }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ required "kafka.secret: the secret that holds kafka.keys" $.Values.kafka.secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- range $key, $name := dict "ca.crt" "STRATA_KAFKA_CA" "tls.crt" "STRATA_KAFKA_CERTIFICATE" "tls.key" "STRATA_KAFKA_KEY" }}
{{- if has $key $.Values.kafka.keys }}
- name: {{ $name }}
  value: /etc/strata/kafka/{{ $key }}
{{- end }}
{{- end }}
{{- end }}

{{- define "strata.files" -}}
{{- range .Values.kafka.keys }}{{ if hasPrefix "ca." . | or (hasPrefix "tls." .) }}{{ . }} {{ end }}{{ end -}}
{{- end }}
