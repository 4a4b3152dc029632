{{/*
The annotations of a hook. Takes (dict "events" "pre-delete" "weight" "0").
*/}}
{{- define "tierwall.uninstallHook" -}}
helm.sh/hook: {{ .events }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/*
The names of all webhook configurations and admission policies, as a list.
*/}}
{{- define "tierwall.admissionNames" -}}
- {{ include "tierwall.fullname" . }}
- {{ include "tierwall.fullname" . }}-webhook
- {{ include "tierwall.fullname" . }}-templates
- {{ include "tierwall.fullname" . }}-configurations
- {{ include "tierwall.fullname" . }}-events
- {{ include "tierwall.fullname" . }}-exempt
{{- end -}}

{{/*
Secrets and leases that are made on the release's behalf, separated by commas.
*/}}
{{- define "tierwall.leftoverSecrets" -}}
{{ include "tierwall.certificateSecret" . }},{{ include "tierwall.fullname" . }}-webhook-ca
{{- end -}}

{{- define "tierwall.leftoverLeases" -}}
{{ include "tierwall.fullname" . }}-webhook
{{- end -}}

{{/*
The Job of one step. A step waits and tries again by itself until its timeout, in
seconds; retries are for what went wrong in it.
Takes (dict "context" $ "step" "prepare" "event" "pre-delete" "timeout" 240 "retries" 0).
*/}}
{{- define "tierwall.uninstallJob" -}}
{{- $ := .context -}}
{{- $name := include "tierwall.fullname" $ -}}
{{- $labels := include "tierwall.labels" (dict "context" $ "component" "uninstall") -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}-uninstall-{{ .step }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    {{- include "tierwall.uninstallHook" (dict "events" .event "weight" "0") | nindent 4 }}
    helm.sh/hook-output-log-policy: hook-failed
spec:
  backoffLimit: {{ .retries }}
  template:
    metadata:
      labels:
        {{- $labels | nindent 8 }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ $name }}-uninstall
      enableServiceLinks: false
      # A pod on the network of a node whose enforcer is dead may reach nothing,
      # and then most of all tierwall has to go.
      hostNetwork: true
      dnsPolicy: Default
      {{- with $.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "tierwall.restrictedPodSecurityContext" $ | nindent 8 }}
      nodeSelector:
        {{- include "tierwall.nodeSelector" $.Values.webhook.nodeSelector | nindent 8 }}
      {{- with $.Values.webhook.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: uninstall
          image: {{ include "tierwall.image" (dict "context" $ "image" $.Values.enforcer.image) }}
          imagePullPolicy: {{ $.Values.enforcer.image.pullPolicy | default "IfNotPresent" }}
          command: [/tierwall-hooks]
          args:
            - uninstall
            - {{ .step }}
            - --release={{ $.Release.Name }}
            - --namespace={{ $.Release.Namespace }}
            - --daemonset={{ $name }}-enforcer
            - --secrets={{ include "tierwall.leftoverSecrets" $ }}
            - --leases={{ include "tierwall.leftoverLeases" $ }}
            - --keep-crds={{ $.Values.uninstall.keepCRDs }}
            - --timeout={{ .timeout }}s
          terminationMessagePolicy: FallbackToLogsOnError
          securityContext:
            {{- include "tierwall.restrictedSecurityContext" $ | nindent 12 }}
          resources:
            requests:
              cpu: 10m
              memory: 32Mi
            limits:
              memory: 256Mi
{{- end -}}
