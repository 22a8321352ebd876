// Package authtest is an issuer of tokens for tests: it answers OpenID Connect discovery, publishes its keys, rotates them,
// and signs whatever claims a test wants, also such as no honest issuer would.
package authtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Audience is the audience of the tokens.
const Audience = "taskflow-test"

// Issuer is a server of its own, until its test ends.
type Issuer struct {
	URL string

	t      testing.TB
	server *httptest.Server

	mu   sync.Mutex // guards the rest
	keys []signer   // published; the first signs
	made int
	down bool
	// keysURL is where discovery says the keys are, and keysDown has that answer nothing but 502.
	keysURL  string
	keysDown bool
	served   map[string]int
}

type signer struct {
	id        string
	algorithm jose.SignatureAlgorithm
	key       crypto.Signer
}

// signingKey is what signs with it; the tokens say which key it is.
func (s signer) signingKey() jose.SigningKey {
	return jose.SigningKey{Algorithm: s.algorithm, Key: jose.JSONWebKey{Key: s.key, KeyID: s.id}}
}

// Start starts an issuer with one key.
func Start(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t, served: map[string]int{}}
	i.mu.Lock()
	i.server = httptest.NewServer(http.HandlerFunc(i.serve))
	i.URL, i.keysURL = i.server.URL, i.server.URL+"/keys"
	i.mu.Unlock()
	t.Cleanup(i.server.Close)
	i.Rotate()
	return i
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.served[r.URL.Path]++
	var answer any
	switch {
	case i.down || i.keysDown && r.URL.Path == "/keys":
		w.WriteHeader(http.StatusBadGateway)
		return
	case r.URL.Path == "/.well-known/openid-configuration":
		answer = map[string]any{
			"issuer": i.server.URL, "jwks_uri": i.keysURL, "authorization_endpoint": i.server.URL + "/authorize",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}, // what it says does not widen what is taken
		}
	case r.URL.Path == "/keys":
		var set jose.JSONWebKeySet
		for _, s := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: string(s.algorithm), Use: "sig"})
		}
		answer = set
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// Rotate makes a new key, publishes it alone and signs with it from now on. It returns the new key's id.
func (i *Issuer) Rotate() string {
	i.t.Helper()
	key := i.newKey(jose.RS256)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []signer{i.named(jose.RS256, key)}
	return i.keys[0].id
}

// named gives a key an id. i.mu is held.
func (i *Issuer) named(algorithm jose.SignatureAlgorithm, key crypto.Signer) signer {
	i.made++
	return signer{fmt.Sprintf("key-%d", i.made), algorithm, key}
}

// newKey makes a key that signs by an algorithm.
func (i *Issuer) newKey(algorithm jose.SignatureAlgorithm) (key crypto.Signer) {
	i.t.Helper()
	var err error
	switch algorithm {
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return key
}

// SetDown has it answer nothing but 502, or answer again.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// SetKeysDown has it answer discovery and no longer its keys, or its keys again.
func (i *Issuer) SetKeysDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keysDown = down
}

// SetKeysURL changes where discovery says the keys are.
func (i *Issuer) SetKeysURL(url string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keysURL = url
}

// Served is how often a path was asked for.
func (i *Issuer) Served(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.served[path]
}

// Claims are those of a good token, with changes; a nil value leaves a claim out.
func (i *Issuer) Claims(changes map[string]any) map[string]any {
	claims := map[string]any{
		"iss": i.server.URL, "aud": Audience, "sub": "tester", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"scope": "openid flows:read flows:write events:write", "taskflow_owner": "*",
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// Token is a good token with changes to its claims.
func (i *Issuer) Token(changes map[string]any) string {
	i.t.Helper()
	return i.sign(i.signer().signingKey(), changes)
}

// SignedBy is a good token signed by another algorithm, with a key of its own that is published beside the others.
func (i *Issuer) SignedBy(algorithm jose.SignatureAlgorithm) string {
	i.t.Helper()
	key := i.newKey(algorithm)
	i.mu.Lock()
	s := i.named(algorithm, key)
	i.keys = append(i.keys, s)
	i.mu.Unlock()
	return i.sign(s.signingKey(), nil)
}

// Nameless is a good token that does not say which key it is signed with.
func (i *Issuer) Nameless() string {
	i.t.Helper()
	s := i.signer()
	s.id = ""
	return i.sign(s.signingKey(), nil)
}

// Stranger is a token whose key was never published, under the id that is given, "" for none.
func (i *Issuer) Stranger(keyID string) string {
	i.t.Helper()
	return i.sign(signer{keyID, jose.RS256, i.newKey(jose.RS256)}.signingKey(), nil)
}

// Symmetric is a token signed by HS256, with the text of the published key as the secret.
func (i *Issuer) Symmetric() string {
	i.t.Helper()
	s := i.signer()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		i.t.Fatal(err)
	}
	secret := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return i.sign(jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: secret, KeyID: s.id}}, nil)
}

// Unsigned is a token of the algorithm none.
func (i *Issuer) Unsigned() string {
	i.t.Helper()
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			i.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]string{"alg": "none", "kid": i.signer().id}) + "." + part(i.Claims(nil)) + "."
}

func (i *Issuer) signer() signer {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0]
}

func (i *Issuer) sign(key jose.SigningKey, changes map[string]any) string {
	i.t.Helper()
	claims, err := json.Marshal(i.Claims(changes))
	if err != nil {
		i.t.Fatal(err)
	}
	s, err := jose.NewSigner(key, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := s.Sign(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}
