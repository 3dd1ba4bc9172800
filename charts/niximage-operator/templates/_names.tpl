{{/* The first part of all names: the release's, with "niximage" in it once. */}}
{{- define "niximage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "niximage" .Release.Name -}}
{{- .Release.Name | trimSuffix "-operator" | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-niximage" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a part; takes (dict "root" $ "component" "operator"). */}}
{{- define "niximage.selectorLabels" -}}
app.kubernetes.io/name: niximage
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of an object; takes the same. */}}
{{- define "niximage.labels" -}}
{{ include "niximage.selectorLabels" . }}
app.kubernetes.io/part-of: niximage
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image by digest or tag; takes (dict "root" $ "image" .Values.image). */}}
{{- define "niximage.image" -}}
{{- $repository := required "image.repository is not set: say where your nodes can pull the image of images/Containerfile, registry.example/team/niximage-operator" .image.repository -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The ServiceAccount of a part; takes (dict "root" $ "component" "operator" "account" .Values.operator.serviceAccount). */}}
{{- define "niximage.serviceAccountName" -}}
{{- if .account.create -}}
{{- .account.name | default (printf "%s-%s" (include "niximage.fullname" .root) .component) -}}
{{- else -}}
{{- .account.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* What nodes pull from, the first part of status.image. */}}
{{- define "niximage.registry" -}}
{{- $gateway := .Values.gateway -}}
{{- if $gateway.registry -}}
{{- $gateway.registry -}}
{{- else if not $gateway.enabled -}}
{{- fail "gateway.registry is not set: without the chart's gateway, say which host nodes pull images from" -}}
{{- else if eq $gateway.kind "DaemonSet" -}}
{{- printf "127.0.0.1:%d" (int $gateway.hostPort) -}}
{{- else if $gateway.ingress.enabled -}}
{{- $gateway.ingress.host | required "gateway.ingress.host is not set: it is the name that nodes pull images from" -}}
{{- else -}}
{{- fail "gateway.registry is not set: a gateway of kind Deployment is pulled from by the name that nodes know its Service by, registry.example" -}}
{{- end -}}
{{- end -}}
