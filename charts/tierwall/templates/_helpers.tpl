{{/*
The name of everything that this chart makes: "tierwall", or
"<release>-tierwall" where the release's name does not say it already.
*/}}
{{- define "tierwall.fullname" -}}
{{- if contains "tierwall" .Release.Name -}}
tierwall
{{- else -}}
{{- printf "%s-tierwall" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/*
The labels that select the pods of a component.
Takes (dict "context" $ "component" "webhook").
*/}}
{{- define "tierwall.selectorLabels" -}}
app.kubernetes.io/name: tierwall
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/*
The labels of every object of a component.
Takes (dict "context" $ "component" "webhook").
*/}}
{{- define "tierwall.labels" -}}
{{ include "tierwall.selectorLabels" . }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tierwall
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version }}
{{- end -}}

{{/*
An image reference; the tag is the chart's appVersion unless the values say otherwise.
Takes (dict "context" $ "image" .Values.webhook.image).
*/}}
{{- define "tierwall.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .context.Chart.AppVersion) -}}
{{- end -}}

{{/*
The exempt namespaces, sorted and separated by commas: kube-system, the
release's own, and those of the values. Use (splitList ",") for a list.
*/}}
{{- define "tierwall.exemptNamespaces" -}}
{{- concat (list "kube-system" .Release.Namespace) .Values.exemptNamespaces | uniq | sortAlpha | join "," -}}
{{- end -}}

{{/*
The arguments of both programs that say what happens to traffic that no policy
decided. A namespace that is exempt and has a default action of its own fails:
the programs would not heed the latter.
*/}}
{{- define "tierwall.defaultActionArgs" -}}
{{- $exempt := include "tierwall.exemptNamespaces" . | splitList "," -}}
- --default-action={{ .Values.defaultAction }}
- --exempt-namespaces={{ $exempt | join "," }}
{{- range $namespace, $action := .Values.namespaceDefaultActions }}
{{- if has $namespace $exempt }}
{{- fail (printf "namespaceDefaultActions.%s=%s has no effect: %s is an exempt namespace (those of exemptNamespaces, kube-system and the release's own), which allows by default. Name it in one of the two alone" $namespace $action $namespace) }}
{{- end }}
- --namespace-default-action={{ $namespace }}={{ $action }}
{{- end }}
{{- end -}}

{{/*
The nodes that a pod may run on: those with Linux, and of them those that the
values select. Takes the values' map.
*/}}
{{- define "tierwall.nodeSelector" -}}
{{- toYaml (merge (dict "kubernetes.io/os" "linux") .) -}}
{{- end -}}

{{/*
"true" where cert-manager issues the webhook's certificate, else nothing.
*/}}
{{- define "tierwall.certManager" -}}
{{- $provider := .Values.certificates.provider -}}
{{- if or (eq $provider "cert-manager") (and (eq $provider "auto") (.Capabilities.APIVersions.Has "cert-manager.io/v1")) -}}
true
{{- end -}}
{{- end -}}

{{/*
The Secret with the webhook's serving certificate, whoever issues it.
*/}}
{{- define "tierwall.certificateSecret" -}}
{{ include "tierwall.fullname" . }}-webhook-tls
{{- end -}}

{{/*
What every container may do: nothing beyond its own files and sockets.
*/}}
{{- define "tierwall.restrictedSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/*
What every pod without work on the node may do.
*/}}
{{- define "tierwall.restrictedPodSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/*
The protocols and ports of the cluster's DNS, as a ClusterNetworkPolicy has them.
*/}}
{{- define "tierwall.dnsProtocols" -}}
{{- range .Values.dns.ports }}
- udp: {destinationPort: {number: {{ . }}}}
- tcp: {destinationPort: {number: {{ . }}}}
{{- end }}
{{- end -}}
