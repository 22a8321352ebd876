package httpapi

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// sealer keeps the secrets that callers entrust to waits: encrypted with AES-256-GCM where the server has a key, as they
// are where it has none. What is stored says which.
type sealer struct{ aead cipher.AEAD }

const (
	sealedPrefix = "aes256gcm:"
	plainPrefix  = "plain:"
)

// newSealer takes a key of 32 bytes, or nil for none.
func newSealer(key []byte) (sealer, error) {
	if key == nil {
		return sealer{}, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("secret key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead}, err
}

func (s sealer) seal(secret string) string {
	if s.aead == nil {
		return plainPrefix + secret
	}
	return sealedPrefix + base64.StdEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(secret), nil))
}

// open reads what seal wrote. It fails where the key is another, or missing.
func (s sealer) open(stored string) (string, error) {
	if secret, plain := strings.CutPrefix(stored, plainPrefix); plain {
		return secret, nil
	}
	encoded, sealed := strings.CutPrefix(stored, sealedPrefix)
	if !sealed || s.aead == nil {
		return "", errors.New("the secret is sealed with a key this server does not have")
	}
	box, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", fmt.Errorf("a sealed secret: %w", err)
	}
	secret, err := s.aead.Open(nil, nil, box, nil)
	if err != nil {
		return "", fmt.Errorf("a sealed secret: %w", err)
	}
	return string(secret), nil
}
