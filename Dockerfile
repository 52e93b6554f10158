# Veneer as an image: dependencies in one stage, the service without root in the next.
ARG BASE=node:26-slim

FROM ${BASE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund && mkdir /data

FROM ${BASE}
WORKDIR /app
# The Node that package-lock.json pins, ahead of the base's own.
ENV PATH=/app/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    VENEER_LISTEN=0.0.0.0:8080 \
    VENEER_DATA_DIR=/data
COPY --from=build --chown=10001:10001 /data /data
COPY --from=build /app/node_modules node_modules
COPY package.json LICENSE ./
COPY src src
USER 10001:10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.VENEER_LISTEN.split(':').pop() + '/health/live').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Exec form: node is process 1 and gets SIGTERM itself.
ENTRYPOINT ["node", "src/main.ts"]
