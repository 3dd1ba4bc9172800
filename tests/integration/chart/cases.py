"""Sets of values that between them render everything the chart can make."""

import json
from typing import Any, Final

Json = dict[str, Any]

FEDERATION: Final[Json] = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/"
    "workloadIdentityPools/a/providers/b",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "token", "format": {"type": "json"}},
}

CASES: Final[dict[str, Json]] = {
    "defaults": {},
    "bucket": {
        "bucket": {"url": "gs://images/team", "credentialConfiguration": json.dumps(FEDERATION)},
        "gc": {
            "enabled": True,
            "dryRun": True,
            "timeZone": "Europe/Berlin",
            "clusters": {"secretName": "clusters"},
        },
        "builds": {
            "serviceAccount": {"create": True, "annotations": {"iam.gke.io/x": "y"}},
            "insecureRegistries": ["registry.lan:5000"],
            "popularityUrl": "https://example.org/popularity.json",
            "image": {"repository": "registry.example/builder", "tag": "v2"},
        },
        "buildNamespaces": ["team-a", "team-b"],
        "imagePullSecrets": [{"name": "pull"}],
        "commonLabels": {"team": "platform"},
    },
    "claim": {
        "bucket": {"url": "file:///srv/images", "claimName": "images"},
        "gc": {"enabled": True},
        "metrics": {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "serviceMonitor": {"enabled": True, "relabelings": [{"action": "labeldrop"}]},
            "prometheusRule": {"enabled": True, "extraGroups": [{"name": "own", "rules": []}]},
            "dashboard": {"enabled": True, "namespace": "monitoring"},
        },
        "defaultBuildClass": {"enabled": True, "spec": {"localBuilds": "Forbidden"}},
    },
    "replicas": {
        "bucket": {"url": "gs://images"},
        "operator": {
            "replicas": 2,
            "extraArgs": ["--help"],
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example"}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "podAffinityTerm": {
                                "topologyKey": "kubernetes.io/hostname",
                                "labelSelector": {
                                    "matchLabels": {"app.kubernetes.io/name": "niximage"}
                                },
                            },
                        }
                    ]
                }
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                }
            ],
            "dnsPolicy": "Default",
            "dnsConfig": {"searches": ["example"]},
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["git.example"]}],
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "annotations": {"e": "f"},
            "serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "x@y.example"}},
        },
        "gateway": {
            "kind": "Deployment",
            "replicas": 3,
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "images.example",
                "tlsSecretName": "images-tls",
                "annotations": {"a": "b"},
            },
            "url": "https://images.example",
            "auth": {
                "mode": "htpasswd",
                "htpasswd": {"secretName": "users"},
                "tokenKey": {"secretName": "token-key"},
            },
        },
    },
    "kubernetes": {
        "bucket": {"url": "gs://images"},
        "gateway": {
            "kind": "Deployment",
            "replicas": 1,
            "registry": "images.example",
            "tls": {"secretName": "images-tls"},
            "auth": {"mode": "kubernetes", "audience": "niximage"},
            "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}},
        },
        "metrics": {
            "podMonitor": {"enabled": True},
            "serviceMonitor": {"enabled": True},
        },
        "networkPolicies": {
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "extraEgress": [{"to": [{"namespaceSelector": {"matchLabels": {"name": "git"}}}]}],
            "builds": {"allowMetadataServer": True},
        },
    },
    "namespaced": {
        "bucket": {"url": "gs://images"},
        "watchNamespaces": ["team-a", "team-b"],
        "aggregateRoles": {"enabled": False},
        "crds": {"enabled": False},
        "operator": {
            "replicas": 2,
            "workers": 4,
            "retryDelaySeconds": 5,
            "resyncIntervalSeconds": 300,
            "logFormat": "json",
        },
        "builds": {
            "nixpkgsUrl": "https://git.example/nixpkgs",
            "substituters": ["https://cache.example?priority=10", "https://cache.nixos.org"],
            "trustedPublicKeys": ["cache.example-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="],
            "localBuilds": "Forbidden",
            "max": 7,
            "maxPerNamespace": 3,
        },
        "gateway": {
            "drainSeconds": 5,
            "memoryMiB": 32,
            "tagLifetimeSeconds": 9,
            "redirect": False,
            "accessLog": False,
        },
    },
    "without gateway": {
        "bucket": {"url": "gs://images"},
        "gateway": {"enabled": False, "registry": "registry.example:5000"},
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-extra"},
            },
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}",
        ],
    },
}
