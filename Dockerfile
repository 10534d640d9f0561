# For pipelines that watch and wait:
#   docker build --build-arg VERSION=1.2.3 -t homelab .
# There is neither git nor a shell in the image, so a commit is given as a hash.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/homelab ./cmd/homelab

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/homelab /usr/local/bin/homelab
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/homelab"]
