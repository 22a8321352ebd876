package dashboard_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"taskflow/internal/dashboard"
)

func pages(t *testing.T) map[string]http.Handler {
	t.Helper()
	all, err := dashboard.Pages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func ask(t *testing.T, page http.Handler, method string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, request)
	return answer
}

// TestPages_AreServedStrictly looks at the headers of every file, as it is and compressed.
func TestPages_AreServedStrictly(t *testing.T) {
	t.Parallel()
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	types := map[string]string{"/": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	for name, page := range pages(t) {
		want := types[path.Ext(name)]
		if name == "/" {
			want = types["/"]
		}
		plain := ask(t, page, http.MethodGet)
		header := plain.Header()
		if plain.Code != http.StatusOK || header.Get("Content-Type") != want || header.Get("Content-Security-Policy") != policy ||
			header.Get("Cache-Control") != "no-cache" || header.Get("X-Content-Type-Options") != "nosniff" || plain.Body.Len() == 0 {
			t.Errorf("%s: status %d, %v", name, plain.Code, header)
		}
		if again := ask(t, page, http.MethodGet, "If-None-Match", header.Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s: asked again with its tag it is %d", name, again.Code)
		}
		if tagged := ask(t, page, http.MethodGet, "If-Match", `"3"`); tagged.Code != http.StatusOK {
			t.Errorf("%s: with If-Match it is %d", name, tagged.Code)
		}
		if head := ask(t, page, http.MethodHead); head.Code != http.StatusOK || head.Body.Len() > 0 {
			t.Errorf("%s: HEAD is %d with %d bytes", name, head.Code, head.Body.Len())
		}
		zipped := ask(t, page, http.MethodGet, "Accept-Encoding", "br, gzip;q=0.8")
		reader, err := gzip.NewReader(zipped.Body)
		if err != nil || zipped.Header().Get("Content-Encoding") != "gzip" || zipped.Header().Get("ETag") == header.Get("ETag") || zipped.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: compressed: %v, %v", name, err, zipped.Header())
			continue
		}
		if text, err := io.ReadAll(reader); err != nil || string(text) != plain.Body.String() {
			t.Errorf("%s: compressed it is another file, %v", name, err)
		}
		if refused := ask(t, page, http.MethodGet, "Accept-Encoding", "gzip;q=0, br"); refused.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed for a browser that refuses it", name)
		}
	}
}

// TestPages_NeedNothingElse follows every file that another one names, and finds no outside host, no inline script or
// style, and none that nobody names.
func TestPages_NeedNothingElse(t *testing.T) {
	t.Parallel()
	all := pages(t)
	named := map[string]bool{"/": true}
	imports := regexp.MustCompile(`from "\./([a-z]+\.js)"|(?:src|href)="(/dashboard/[a-z.]+)"`)
	outside := regexp.MustCompile(`(?:https?:)?//[A-Za-z0-9-]+\.[A-Za-z.]{2,}`)
	forbidden := regexp.MustCompile(`<script>|<style|style="|onclick="|innerHTML|insertAdjacentHTML|document\.write|eval\(|new Function`)
	for name, page := range all {
		text := ask(t, page, http.MethodGet).Body.String()
		for _, match := range imports.FindAllStringSubmatch(text, -1) {
			target := match[2]
			if match[1] != "" {
				target = "/dashboard/" + match[1]
			}
			named[target] = true
			if all[target] == nil {
				t.Errorf("%s names %s, which is not there", name, target)
			}
		}
		for _, host := range outside.FindAllString(text, -1) {
			if host != "http://www.w3.org" { // the name of SVG, which nobody loads
				t.Errorf("%s names %s", name, host)
			}
		}
		if found := forbidden.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
		if lines := strings.Count(text, "\n"); lines > 300 {
			t.Errorf("%s has %d lines", name, lines)
		}
	}
	index := ask(t, all["/"], http.MethodGet).Body.String()
	for name := range all {
		if !named[name] {
			t.Errorf("nobody loads %s", name)
		}
		// Modules that name one another would else be loaded one after another.
		if path.Ext(name) == ".js" && name != "/dashboard/main.js" && !strings.Contains(index, `<link rel="modulepreload" href="`+name+`">`) {
			t.Errorf("%s is not loaded in advance", name)
		}
	}
}
