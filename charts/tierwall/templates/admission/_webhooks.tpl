{{/*
What the webhook configurations are to hold, but for the authority. The webhook
fills them from a ConfigMap of this, and an admission policy pins them to it.
*/}}
{{- define "tierwall.webhooks" -}}
{{- $guarded := include "tierwall.guardedNamespaces" . | nindent 6 -}}
validating:
  - name: policies.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/policies") | nindent 6 }}
    rules:
      - apiGroups: [networking.k8s.io]
        apiVersions: [v1]
        resources: [networkpolicies]
        operations: [CREATE, UPDATE, DELETE]
        scope: Namespaced
      - apiGroups: [policy.networking.k8s.io]
        apiVersions: [v1alpha2]
        resources: [clusternetworkpolicies]
        operations: [CREATE, UPDATE, DELETE]
        scope: Cluster
    namespaceSelector: {{- $guarded }}
    objectSelector: {}
    failurePolicy: Fail
    matchPolicy: Equivalent
    sideEffects: None
    timeoutSeconds: 10
    admissionReviewVersions: [v1]
  - name: guardrails.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/guardrails") | nindent 6 }}
    rules:
      - apiGroups: [tierwall.io]
        apiVersions: [v1alpha1]
        resources: [guardrails]
        operations: [CREATE, UPDATE]
        scope: Cluster
    namespaceSelector: {}
    objectSelector: {}
    failurePolicy: Fail
    matchPolicy: Equivalent
    sideEffects: None
    timeoutSeconds: 10
    admissionReviewVersions: [v1]
  - name: tierroles.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/tierroles") | nindent 6 }}
    rules:
      - apiGroups: [tierwall.io]
        apiVersions: [v1alpha1]
        resources: [tierroles]
        operations: [CREATE, UPDATE, DELETE]
        scope: Cluster
    namespaceSelector: {}
    objectSelector: {}
    failurePolicy: Fail
    matchPolicy: Equivalent
    sideEffects: None
    timeoutSeconds: 10
    admissionReviewVersions: [v1]
  # What a label opens is judged as what a policy opens: only changes of labels come.
  - name: namespacelabels.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/namespaces") | nindent 6 }}
    rules:
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [namespaces, namespaces/status, namespaces/finalize]
        operations: [UPDATE]
        scope: Cluster
    matchConditions:
      - name: labels-change
        expression: object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({})
    namespaceSelector: {{- $guarded }}
    objectSelector: {}
    failurePolicy: Fail
    matchPolicy: Equivalent
    sideEffects: None
    timeoutSeconds: 10
    admissionReviewVersions: [v1]
  # The role of a running pod stays what it is, too.
  - name: podlabels.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/podlabels") | nindent 6 }}
    rules:
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [pods, pods/status, pods/ephemeralcontainers, pods/resize]
        operations: [UPDATE]
        scope: Namespaced
    matchConditions:
      - name: labels-change
        expression: object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({})
    namespaceSelector: {{- $guarded }}
    objectSelector: {}
    failurePolicy: Fail
    matchPolicy: Equivalent
    sideEffects: None
    timeoutSeconds: 10
    admissionReviewVersions: [v1]
  # The API server copies the labels of a Binding to the pod. Those of the
  # node's place are its own doing and come with every pod.
  - name: bindings.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/podlabels") | nindent 6 }}
    rules:
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [pods/binding, bindings]
        operations: [CREATE]
        scope: Namespaced
    matchConditions:
      - name: labels-beyond-the-place
        expression: >-
          object.metadata.?labels.orValue({}).exists(key,
          !(key in ['topology.kubernetes.io/zone', 'topology.kubernetes.io/region']))
    namespaceSelector: {{- $guarded }}
    objectSelector: {}
    failurePolicy: Fail
    matchPolicy: Equivalent
    sideEffects: None
    timeoutSeconds: 10
    admissionReviewVersions: [v1]
  # What another mutating webhook may have forged after ours, and what a pod
  # opens by its labels. Ignore: an outage stops no pod, a role label buys
  # nothing, and the audit finds what was opened.
  - name: newpods.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/podlabels") | nindent 6 }}
    rules:
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [pods]
        operations: [CREATE]
        scope: Namespaced
    matchConditions:
      - name: has-labels
        expression: object.metadata.?labels.orValue({}).size() > 0
    namespaceSelector: {{- $guarded }}
    objectSelector: {}
    failurePolicy: Ignore
    matchPolicy: Equivalent
    sideEffects: None
    timeoutSeconds: 5
    admissionReviewVersions: [v1]
mutating:
  - name: rolelabel.tierwall.io
    clientConfig:
      {{- include "tierwall.webhookClient" (dict "context" $ "path" "/rolelabel") | nindent 6 }}
    rules:
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [pods]
        operations: [CREATE]
        scope: Namespaced
    namespaceSelector: {{- $guarded }}
    objectSelector: {}
    failurePolicy: Ignore
    matchPolicy: Equivalent
    reinvocationPolicy: IfNeeded
    sideEffects: None
    timeoutSeconds: 5
    admissionReviewVersions: [v1]
{{- end -}}

{{/*
A value as a CEL expression. CEL takes lists and maps of one type alone, but for dyn.
*/}}
{{- define "tierwall.cel" -}}
{{- if kindIs "map" . -}}
{
{{- $first := true -}}
{{- range $key, $value := . -}}
{{- if not $first }}, {{ end }}{{ $first = false }}{{ $key | toJson }}: dyn({{ include "tierwall.cel" $value }})
{{- end -}}
}
{{- else if kindIs "slice" . -}}
[
{{- range $i, $value := . -}}
{{- if $i }}, {{ end }}dyn({{ include "tierwall.cel" $value }})
{{- end -}}
]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{/*
The webhooks of both configurations by kind and by name, as a CEL expression.
*/}}
{{- define "tierwall.pinnedWebhooks" -}}
{{- $hooks := include "tierwall.webhooks" . | fromYaml -}}
{{- $validating := dict -}}
{{- range $hooks.validating }}{{ $_ := set $validating .name . }}{{ end -}}
{{- $mutating := dict -}}
{{- range $hooks.mutating }}{{ $_ := set $mutating .name . }}{{ end -}}
{{ include "tierwall.cel" (dict "ValidatingWebhookConfiguration" $validating "MutatingWebhookConfiguration" $mutating) }}
{{- end -}}
