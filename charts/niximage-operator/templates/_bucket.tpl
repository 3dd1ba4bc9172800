{{/* The bucket's URL. */}}
{{- define "niximage.bucketUrl" -}}
{{- .Values.bucket.url | default "file:///bucket" -}}
{{- end -}}

{{/* "true" for a bucket in a folder, else empty. */}}
{{- define "niximage.bucketIsFolder" -}}
{{- if hasPrefix "file://" (include "niximage.bucketUrl" .) }}true{{ end -}}
{{- end -}}

{{/* "true" where the chart makes the volumes for it, on the one node there is. */}}
{{- define "niximage.bucketIsOnNode" -}}
{{- if and (include "niximage.bucketIsFolder" .) (not .Values.bucket.claimName) }}true{{ end -}}
{{- end -}}

{{/* The claim of a bucket in a folder, of the same name in each namespace. */}}
{{- define "niximage.bucketClaim" -}}
{{- if include "niximage.bucketIsFolder" . -}}
{{- .Values.bucket.claimName | default (printf "%s-bucket" (include "niximage.fullname" .)) -}}
{{- end -}}
{{- end -}}

{{/* The environment that names the bucket. */}}
{{- define "niximage.bucketEnv" -}}
- name: NIXIMAGE_BUCKET
  value: {{ include "niximage.bucketUrl" . | quote }}
{{- with .Values.bucket.emulatorHost }}
- name: STORAGE_EMULATOR_HOST
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Where a bucket in a folder is mounted; takes (dict "root" $ "readOnly" true). */}}
{{- define "niximage.bucketMount" -}}
{{- if include "niximage.bucketIsFolder" .root -}}
- name: bucket
  mountPath: {{ include "niximage.bucketUrl" .root | trimPrefix "file://" }}
  readOnly: {{ .readOnly }}
{{- end }}
{{- end -}}

{{/* The volume of a bucket in a folder. */}}
{{- define "niximage.bucketVolume" -}}
{{- with include "niximage.bucketClaim" . -}}
- name: bucket
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- end -}}

{{/* The namespaces that the chart prepares for builds, as a JSON list. */}}
{{- define "niximage.buildNamespaces" -}}
{{- .Values.buildNamespaces | default .Values.watchNamespaces | default (list "default") | uniq | toJson -}}
{{- end -}}
