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

{{/* The configuration of workload identity federation, with the token where it is in pods; as JSON. */}}
{{- define "niximage.federation" -}}
{{- $given := .Values.bucket.credentialConfiguration | fromJson -}}
{{- if or (ne (get $given "type") "external_account") (not (hasPrefix "//iam.googleapis.com/" (get $given "audience"))) -}}
{{- fail "bucket.credentialConfiguration is no configuration of workload identity federation; keys do not belong into pods. Make it with: gcloud iam workload-identity-pools create-cred-config PROVIDER --credential-source-file=token --output-file=credentials.json" -}}
{{- end -}}
{{- $source := dict "file" "/var/run/niximage/token" "format" (dict "type" "text") -}}
{{- merge (dict "credential_source" $source) (omit $given "credential_source") | toJson -}}
{{- end -}}

{{/* The environment that names the bucket, and opens it. */}}
{{- define "niximage.bucketEnv" -}}
- name: NIXIMAGE_BUCKET
  value: {{ include "niximage.bucketUrl" . | quote }}
{{- with .Values.bucket.emulatorHost }}
- name: STORAGE_EMULATOR_HOST
  value: {{ . | quote }}
{{- end }}
{{- if .Values.bucket.credentialConfiguration }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: /var/run/niximage/credentials.json
{{- end }}
{{- end -}}

{{/* Where a bucket in a folder, or what opens one at Google's, is mounted; takes (dict "root" $ "readOnly" true). */}}
{{- define "niximage.bucketMount" -}}
{{- if include "niximage.bucketIsFolder" .root -}}
- name: bucket
  mountPath: {{ include "niximage.bucketUrl" .root | trimPrefix "file://" }}
  readOnly: {{ .readOnly }}
{{- end }}
{{- if .root.Values.bucket.credentialConfiguration -}}
- name: federation
  mountPath: /var/run/niximage
  readOnly: true
{{- end }}
{{- end -}}

{{/* The volume of that. */}}
{{- define "niximage.bucketVolume" -}}
{{- with include "niximage.bucketClaim" . -}}
- name: bucket
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- if .Values.bucket.credentialConfiguration -}}
- name: federation
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: {{ printf "https:%s" (include "niximage.federation" . | fromJson).audience }}
          expirationSeconds: 3600
          path: token
      - configMap:
          name: {{ include "niximage.fullname" . }}-federation
{{- end }}
{{- end -}}

{{/* The namespaces that the chart prepares for builds, as a JSON list. */}}
{{- define "niximage.buildNamespaces" -}}
{{- .Values.buildNamespaces | default .Values.watchNamespaces | default (list "default") | uniq | toJson -}}
{{- end -}}
