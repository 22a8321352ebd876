package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"taskflow/api"

	"github.com/getkin/kin-openapi/openapi3"
)

type healthcheckCommand struct {
	Listen string `env:"TASKFLOW_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where the server listens."`
}

// healthTimeout bounds the question and its answer.
const healthTimeout = 5 * time.Second

// Run asks the server on this machine whether it is ready.
func (c *healthcheckCommand) Run(ctx context.Context) error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("TASKFLOW_LISTEN: %q is not host:port", c.Listen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("TASKFLOW_LISTEN: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: status %d", response.StatusCode)
	}
	return nil
}

type openapiCommand struct {
	JSON bool `help:"As JSON instead of YAML."`
}

// Run prints the contract.
func (c *openapiCommand) Run(out io.Writer) error {
	if !c.JSON {
		_, err := out.Write(api.Spec)
		return err
	}
	doc, err := openapi3.NewLoader().LoadFromData(api.Spec)
	if err != nil {
		return fmt.Errorf("reading the contract: %w", err)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(doc)
}
