{{- define "veneer.pod" -}}
metadata:
  labels:
    {{- include "veneer.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Rules are read again while it runs; all else takes a restart.
    checksum/config: {{ omit .Values.config "rules" | toYaml | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "veneer.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.builds.enabled }}
  # It answers what is under way before it ends.
  terminationGracePeriodSeconds: 35
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: veneer
      image: {{ include "veneer.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - { name: VENEER_CONFIG, value: /etc/veneer/veneer.yaml }
        - { name: VENEER_LISTEN, value: "0.0.0.0:8080" }
        - { name: VENEER_DATA_DIR, value: /data }
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - { name: http, containerPort: 8080 }
      startupProbe:
        httpGet: { path: /health/live, port: http{{ include "veneer.scheme" . }} }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /health/live, port: http{{ include "veneer.scheme" . }} }
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        {{- if include "veneer.isFleet" . }}
        # Not /health/ready: what all pods share, such as the database, would take them all out at once, and cached pulls go on without it.
        {{- end }}
        httpGet: { path: /health/{{ ternary "live" "ready" (eq (include "veneer.isFleet" .) "true") }}, port: http{{ include "veneer.scheme" . }} }
        periodSeconds: 5
        timeoutSeconds: 5
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext: {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - { name: data, mountPath: /data }
        # The whole directory: a file mounted by subPath would never change, and rules with it.
        - { name: config, mountPath: /etc/veneer, readOnly: true }
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- if not .Values.persistence.enabled }}
    - { name: data, emptyDir: {} }
    {{- else if not (include "veneer.isFleet" .) }}
    - name: data
      persistentVolumeClaim: { claimName: {{ include "veneer.claim" . }} }
    {{- end }}
    - name: config
      configMap: { name: {{ include "veneer.fullname" . }} }
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if include "veneer.isFleet" . }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "veneer.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end -}}
