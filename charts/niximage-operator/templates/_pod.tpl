{{/* The Restricted profile, with fsGroup for volumes that are written. */}}
{{- define "niximage.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "niximage.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What admins may say of any pod here; takes (dict "root" $ "component" "operator" "part" .Values.operator). */}}
{{- define "niximage.podSettings" -}}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .part.affinity }}
affinity:
  {{- toYaml .part.affinity | nindent 2 }}
{{- else if and (gt (int .part.replicas) 1) (ne (.part.kind | default "") "DaemonSet") }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "niximage.selectorLabels" . | nindent 14 }}
{{- end }}
{{- with .part.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $ours := dict "labelSelector" (dict "matchLabels" (include "niximage.selectorLabels" $ | fromYaml)) }}
  - {{- toYaml (merge (dict) . $ours) | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .part.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .part.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pods' labels and annotations; takes (dict "root" $ "component" "operator" "part" .Values.operator). */}}
{{- define "niximage.podMetadata" -}}
labels:
  {{- include "niximage.selectorLabels" . | nindent 2 }}
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .part.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .part.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The folders that a program with a read-only root may write. */}}
{{- define "niximage.scratchMounts" -}}
- name: home
  mountPath: /home/niximage
- name: tmp
  mountPath: /tmp
{{- end -}}

{{- define "niximage.scratchVolumes" -}}
- name: home
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- end -}}

{{/* A ServiceAccount; takes (dict "root" $ "component" "operator" "part" .Values.operator). Tokens are mounted by the pods that use one. */}}
{{- define "niximage.serviceAccount" -}}
{{- if .part.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "niximage.serviceAccountName" (dict "root" .root "component" .component "account" .part.serviceAccount) }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "niximage.labels" . | nindent 4 }}
  {{- with .part.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
