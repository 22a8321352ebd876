# A static binary in an empty image, as a user without rights.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What the log and taskflow_build_info call this program: .git, by which Go would know, is not copied.
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X main.release=$VERSION" -o /out/server ./cmd/server && mkdir -p /out/data

FROM scratch
# For TLS to the database.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/server /server
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /
VOLUME /data
EXPOSE 8080
# All addresses: the server starts so only with authentication, or TASKFLOW_ALLOW_UNAUTHENTICATED=true.
ENV TASKFLOW_LISTEN=:8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/server", "healthcheck"]
ENTRYPOINT ["/server"]
