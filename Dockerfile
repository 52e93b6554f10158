# Veneer as an image: built in one stage, the service without root in the next.
# The base is the Node that package-lock.json pins. A tag can move: pin what you have looked at, with
# --build-arg BASE=node:26.10.0-slim@sha256:<digest>, which `docker buildx imagetools inspect node:26.10.0-slim` tells.
ARG BASE=node:26.10.0-slim

# What is built is JavaScript alone, so one build serves every platform.
FROM --platform=$BUILDPLATFORM ${BASE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Both secrets are optional, for a package registry of one's own: an npmrc, and the CA bundle that it may name as
# cafile=/run/secrets/ca. The one workspace is Node itself, which is the base's.
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc --mount=type=secret,id=ca \
    npm ci --workspaces=false --ignore-scripts --no-audit --no-fund && mkdir /data
COPY rolldown.config.ts ./
COPY src src
RUN npm run build

FROM ${BASE}
WORKDIR /app
# Each thread takes memory from the system by itself, and gives little of it back: two such pools take 10 to 20 MiB less than eight.
ENV VENEER_LISTEN=0.0.0.0:8080 \
    VENEER_DATA_DIR=/data \
    MALLOC_ARENA_MAX=2
COPY --from=build --chown=10001:10001 /data /data
COPY --from=build /app/dist dist
COPY LICENSE ./
# What /service-info says that this image was built from.
ARG VENEER_COMMIT=unknown
ENV VENEER_COMMIT=${VENEER_COMMIT}
USER 10001:10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.VENEER_LISTEN.split(':').pop() + '/health/live').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Exec form: node is process 1 and gets SIGTERM itself.
ENTRYPOINT ["node", "dist/veneer.mjs"]
