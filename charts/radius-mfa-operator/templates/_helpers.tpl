{{/* The name of the release's objects. */}}
{{- define "radius-mfa-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "radius-mfa-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "radius-mfa-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name must be set when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The labels that select the operator's pods; they never change. */}}
{{- define "radius-mfa-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "radius-mfa-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "radius-mfa-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: radius-mfa-operator
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image by digest or tag: (dict "image" … "root" $) */}}
{{- define "radius-mfa-operator.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "radius-mfa-operator.clusterName" -}}
{{- required "clusterName must be set, such as --set clusterName=production: it marks directories as this cluster's, so it must not be another cluster's in the same AWS account" .Values.clusterName -}}
{{- end -}}

{{- /*
Whether the pods have the user and group of their image. OpenShift assigns them.
*/ -}}
{{- define "radius-mfa-operator.fixedIds" -}}
{{- if eq .Values.platform "Auto" -}}
{{- not (.Capabilities.APIVersions.Has "security.openshift.io/v1") -}}
{{- else -}}
{{- ne .Values.platform "OpenShift" -}}
{{- end -}}
{{- end -}}
