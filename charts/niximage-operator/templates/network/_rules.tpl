{{/* Names are looked up: in the cluster's DNS, or at its cache on each node. */}}
{{- define "niximage.egressDns" -}}
- to:
    - namespaceSelector: {}
    - ipBlock:
        cidr: 169.254.20.10/32
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* Buckets, Git servers, the API server: anywhere, at these ports; and the metadata server, which gives tokens of workload identity. */}}
{{- define "niximage.egressServers" -}}
- ports:
    {{- range .Values.networkPolicies.ports }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
- to:
    - ipBlock:
        cidr: 169.254.169.252/30
{{- end -}}

{{- define "niximage.egressExtra" -}}
{{- with .Values.networkPolicies.extraEgress }}
{{- toYaml . }}
{{- end }}
{{- end -}}
