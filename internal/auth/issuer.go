package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// issuerPause is the least time between two requests for one document of the issuer: a token that names an unknown key,
	// or whose signature does not hold, has the keys looked at again, and anybody can send such tokens.
	issuerPause = time.Second
	// issuerTimeout bounds a request to the issuer.
	issuerTimeout = 5 * time.Second
	// maxDocument bounds what is read of its answer, in bytes.
	maxDocument = 1 << 20
)

// errIssuer: the issuer gave no answer, or not the document that was asked for.
var errIssuer = errors.New("the issuer cannot be asked")

// issuerTransport asks the issuer of tokens, each document at most once in issuerPause: in between, the answer is what it
// was.
type issuerTransport struct {
	base *http.Transport

	mu    sync.Mutex // guards known
	known map[string]*document
}

// document is what the issuer answered to one URL.
type document struct {
	mu    sync.Mutex // held while it is asked for; guards the rest
	asked time.Time
	body  []byte
	err   error
}

func newIssuerTransport() *issuerTransport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	return &issuerTransport{base: base, known: map[string]*document{}}
}

// RoundTrip answers with a JSON document, or errIssuer.
func (t *issuerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	d := t.known[r.URL.String()] // there are two: discovery, and the keys
	if d == nil {
		d = &document{}
		t.known[r.URL.String()] = d
	}
	t.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked.IsZero() || time.Since(d.asked) >= issuerPause {
		d.body, d.err = t.read(r)
		d.asked = time.Now()
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", errIssuer, d.err)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(d.body)),
	}, nil
}

func (t *issuerTransport) read(r *http.Request) ([]byte, error) {
	response, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return nil, err
	}
	if !json.Valid(body) {
		return nil, errors.New("the answer is not JSON")
	}
	return body, nil
}

func (t *issuerTransport) close() { t.base.CloseIdleConnections() }

// awayKey is where a context holds a *bool, which is set where the issuer's keys could not be had.
type awayKey struct{}

// issuerKeys tells a signature that does not hold from one that cannot be checked: the library's verifier does not wrap
// what its keys say.
type issuerKeys struct{ remote oidc.KeySet }

// VerifySignature is the library's question.
func (k issuerKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, token)
	if away, asked := ctx.Value(awayKey{}).(*bool); asked && errors.Is(err, errIssuer) {
		*away = true
	}
	return payload, err
}
