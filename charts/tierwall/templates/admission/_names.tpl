{{/*
The user that the webhook is to the API server.
*/}}
{{- define "tierwall.webhookUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tierwall.fullname" . }}-webhook
{{- end -}}

{{/*
The user that the enforcers are to the API server.
*/}}
{{- define "tierwall.enforcerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tierwall.fullname" . }}-enforcer
{{- end -}}

{{/*
Selects every namespace that is not exempt, by the label that nobody can set.
*/}}
{{- define "tierwall.guardedNamespaces" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ include "tierwall.exemptNamespaces" . | splitList "," | toJson }}
{{- end -}}

{{/*
How the API server reaches a handler of the webhook. Takes (dict "context" $ "path" "/policies").
*/}}
{{- define "tierwall.webhookClient" -}}
service:
  name: {{ include "tierwall.fullname" .context }}-webhook
  namespace: {{ .context.Release.Namespace }}
  port: 443
  path: {{ .path }}
{{- end -}}
