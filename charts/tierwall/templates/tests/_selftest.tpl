{{/*
The annotations of a hook of "helm test". Takes its weight. Helm shows what the
pod says by itself: nothing has to stay for that.
*/}}
{{- define "tierwall.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end -}}
