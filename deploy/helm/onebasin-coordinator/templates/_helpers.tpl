{{- define "onebasin.name" -}}
{{- printf "%s-coordinator" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "onebasin.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "onebasin.labels" -}}
{{ include "onebasin.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "onebasin.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.name }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.name }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "onebasin.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Where a container finds the passphrase of the coordinator's keys, if they have one. */}}
{{- define "onebasin.passphrase.env" -}}
{{- if .Values.passphraseSecret -}}
env:
  - name: ONEBASIN_PASSPHRASE_FILE
    value: /run/secrets/onebasin/passphrase
{{- end -}}
{{- end }}

{{- define "onebasin.passphrase.mount" -}}
{{- if .Values.passphraseSecret -}}
- {name: passphrase, mountPath: /run/secrets/onebasin, readOnly: true}
{{- end -}}
{{- end }}
