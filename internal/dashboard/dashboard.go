// Package dashboard owns the web page at /: its files, and how they are served. The page is plain HTML, CSS and ES
// modules; it talks to nothing but the public API of the server it came from, by the browser, so this package imports
// nothing of the project and knows no flow. cmd/server hands its files to the HTTP interface.
package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

//go:embed page
var files embed.FS

// Policy is the Content-Security-Policy of the page: scripts, styles and connections of its own server, and nothing else.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Pages returns a handler of GET and HEAD for each path of the dashboard: / for the page itself, /dashboard/<name> for what
// it loads. An error means that a file was embedded that this package does not know how to serve.
func Pages() (map[string]http.Handler, error) {
	pages := map[string]http.Handler{}
	err := fs.WalkDir(files, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := newAsset(path.Ext(name), body)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		route := "/dashboard/" + strings.TrimPrefix(name, "page/")
		if name == "page/index.html" {
			route = "/"
		}
		pages[route] = file
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the dashboard: %w", err)
	}
	return pages, nil
}

// asset is one file, ready to be sent, as it is and compressed.
type asset struct {
	contentType string
	plain       []byte
	zipped      func() ([]byte, error) // made when a browser first asks: to compress all takes a third of a server's start
	tag         string                 // of the plain form, without quotes
}

func newAsset(extension string, body []byte) (*asset, error) {
	contentType, err := contentTypeOf(extension)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	zipped := sync.OnceValues(func() ([]byte, error) { return zip(body) })
	return &asset{contentType, body, zipped, hex.EncodeToString(sum[:8])}, nil
}

func zip(body []byte) ([]byte, error) {
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return zipped.Bytes(), nil
}

// contentTypeOf knows the page's own files. The machine's table of types would differ from one to the next.
func contentTypeOf(extension string) (string, error) {
	switch extension {
	case ".html":
		return "text/html; charset=utf-8", nil
	case ".css":
		return "text/css; charset=utf-8", nil
	case ".js":
		return "text/javascript; charset=utf-8", nil
	case ".svg":
		return "image/svg+xml", nil
	}
	return "", fmt.Errorf("no content type for %q", extension)
}

// ServeHTTP sends the file, or 304 to a browser that has it. The names stay the same from release to release, so a
// browser asks each time, and is mostly told that it has the file.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", a.contentType)
	header.Set("Content-Security-Policy", Policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-cache")
	header.Set("Vary", "Accept-Encoding")
	body, tag := a.plain, a.tag
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		if zipped, err := a.zipped(); err == nil { // or it is sent as it is
			header.Set("Content-Encoding", "gzip")
			body, tag = zipped, a.tag+"-gzip"
		}
	}
	header.Set("ETag", `"`+tag+`"`)
	r.Header.Del("If-Match") // a page is not changed, and its refusal would be no problem of the contract
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reads an Accept-Encoding header. A weight of zero refuses; other weights do not matter with one choice.
func acceptsGzip(header string) bool {
	for _, part := range strings.Split(header, ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			weight = strings.ReplaceAll(weight, " ", "")
			return strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" || weight == ""
		}
	}
	return false
}
