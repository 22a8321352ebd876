package telemetry

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// The standard variables of OpenTelemetry that are looked at here; the libraries read the others (headers, certificates,
// timeouts, samplers, the size of batches).
const (
	endpointVariable       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesEndpointVariable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	protocolVariable       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	tracesProtocolVariable = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
)

// exporting reports whether traces are to be sent, to endpoint or where the variables say.
func exporting(endpoint string) bool {
	return (endpoint != "" || os.Getenv(tracesEndpointVariable) != "") &&
		os.Getenv("OTEL_SDK_DISABLED") != "true" && os.Getenv("OTEL_TRACES_EXPORTER") != "none"
}

// CheckEndpoint refuses what is no URL that traces could be sent to. The libraries would send them somewhere else.
func CheckEndpoint(endpoint string) error {
	for name, value := range map[string]string{endpointVariable: endpoint, tracesEndpointVariable: os.Getenv(tracesEndpointVariable)} {
		if u, err := url.Parse(value); value != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return fmt.Errorf("%s must be a URL like http://localhost:4318", name) // it may hold a password, so it is not repeated
		}
	}
	_, err := protocol()
	return err
}

// protocol is http/protobuf, which is also the default, or grpc.
func protocol() (string, error) {
	for _, name := range []string{tracesProtocolVariable, protocolVariable} {
		switch value := os.Getenv(name); value {
		case "":
		case "grpc", "http/protobuf":
			return value, nil
		default:
			return "", fmt.Errorf("%s: %q is not grpc or http/protobuf", name, value)
		}
	}
	return "http/protobuf", nil
}

// newExporter sends spans to endpoint, where that is not what the variables say already.
func newExporter(ctx context.Context, endpoint string) (sdktrace.SpanExporter, error) {
	chosen, err := protocol()
	if err != nil {
		return nil, err
	}
	given := endpoint != "" && os.Getenv(endpointVariable) == "" && os.Getenv(tracesEndpointVariable) == ""
	if chosen == "grpc" {
		var options []otlptracegrpc.Option
		if given {
			options = append(options, otlptracegrpc.WithEndpointURL(endpoint))
		}
		return otlptrace.New(ctx, otlptracegrpc.NewClient(options...))
	}
	var options []otlptracehttp.Option
	if given {
		whole, err := url.JoinPath(endpoint, "v1/traces")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", endpointVariable, err)
		}
		options = append(options, otlptracehttp.WithEndpointURL(whole))
	}
	return otlptrace.New(ctx, otlptracehttp.NewClient(options...))
}

// describe is what every span says of this process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come last and win.
func describe(ctx context.Context, version string) (*resource.Resource, error) {
	return resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("taskflow"), semconv.ServiceVersion(version)),
		resource.WithHost(), resource.WithProcessPID(), resource.WithTelemetrySDK(), resource.WithFromEnv())
}
