# syntax=docker/dockerfile:1

# One image for each of watcher, analyzer, actuator, notifier and selfheal:
#
#   docker build --build-arg SERVICE=watcher -t ghcr.io/selfheal/watcher:dev .
#
# The build needs no network but the Go module proxy. What it makes depends on
# the sources, the version of Go and the arguments alone: -trimpath and no cgo
# leave no trace of the machine. With --provenance=mode=max --sbom=true
# `docker buildx build` attests both; without Docker, `go version -m` lists
# every module in the binary.

ARG GO_VERSION=1.26.8
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
ARG SERVICE
ARG VERSION=dev
ARG COMMIT=unknown
ARG TARGETOS=linux
ARG TARGETARCH=amd64
WORKDIR /src
COPY pkg pkg
COPY services services
COPY cli cli
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    case "$SERVICE" in \
      watcher|analyzer|actuator|notifier) cd "services/$SERVICE" ;; \
      selfheal) cd cli ;; \
      *) echo "SERVICE: want watcher, analyzer, actuator, notifier or selfheal, got '$SERVICE'" >&2; exit 2 ;; \
    esac && \
    GOWORK=off CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags grpcnotrace -buildvcs=false \
      -ldflags "-s -w -X github.com/selfheal/selfheal/pkg/daemon.version=$VERSION -X github.com/selfheal/selfheal/pkg/daemon.commit=$COMMIT" \
      -o /out/selfhealing "./cmd/$SERVICE"

# Nothing but the binary and the public certificate authorities, for Slack,
# PagerDuty and mail: no shell, nothing to write to, and no user but a number.
FROM scratch
ARG SERVICE
ARG VERSION=dev
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="self-healing $SERVICE" \
      org.opencontainers.image.description="Sees what is broken in a Kubernetes cluster, decides, heals within limits, proves it and tells" \
      org.opencontainers.image.source="https://github.com/selfheal/selfheal" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/selfhealing /selfhealing
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/selfhealing"]
