# The worker: one static binary, which executes no model and needs no Python. Build and run it with docker-compose.yml, or
#   docker build --build-arg VERSION=1.2.3 --tag registrar-worker .
FROM golang:1.26.8-trixie AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
# .dockerignore lets in the worker's packages alone, so that nothing else makes this layer anew.
COPY . .
ARG VERSION=development
# Without cgo the binary needs no C library, which scratch has not.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/cache \
    GOCACHE=/cache CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /worker ./worker

FROM scratch
# For https to MLflow and TLS to Temporal.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /worker /worker
# Nobody in particular: run it as the owner of the projects' folders, since it writes their decisions and receipts.
USER 65532:65532
# The worker serves its working folder, where nothing else is said: not the root of the file system.
WORKDIR /projects
ENTRYPOINT ["/worker"]
