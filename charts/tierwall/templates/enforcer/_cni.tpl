{{/*
Fails where the CNI plugin would stay in the nodes' networks without an agent that
answers it: pods that are not exempt could not start any more.
*/}}
{{- define "tierwall.checkCNI" -}}
{{- $cni := .Values.enforcer.cni -}}
{{- if and $cni.enabled $cni.remove -}}
{{- fail "enforcer.cni.enabled and enforcer.cni.remove contradict each other" -}}
{{- end -}}
{{- if not (or $cni.enabled $cni.remove) -}}
{{- $live := lookup "apps/v1" "DaemonSet" .Release.Namespace (printf "%s-enforcer" (include "tierwall.fullname" .)) -}}
{{- range dig "spec" "template" "spec" "containers" list $live -}}
{{- if and (eq .name "cni") (has "install" .args) -}}
{{- fail "enforcer.cni.enabled=false would leave the CNI plugin on the nodes, where new pods would wait in vain for an agent that answers it: set enforcer.cni.remove=true, too, at least until the DaemonSet is rolled out" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
