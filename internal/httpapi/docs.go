package httpapi

import (
	"fmt"
	"net/http"

	contract "taskflow/api"

	"github.com/go-chi/chi/v5"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// routeDocs serves the contract, its viewer and the pages of the problems. None of them needs an outside host.
func (a *api) routeDocs(r chi.Router, asJSON func() ([]byte, error)) {
	r.Get("/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		body, err := asJSON()
		if err != nil {
			a.writeProblem(w, r, fmt.Errorf("writing the contract as JSON: %w", err))
			return
		}
		static("application/json", body)(w, r)
	})
	r.Get("/openapi.yaml", static("application/yaml", contract.Spec))
	// The viewer reads the YAML: it has the calls in the order in which they are written. The contract's extensions are for
	// programs that generate something.
	viewer := v5emb.NewWithConfig(swgui.Config{SettingsUI: map[string]string{"showExtensions": "false"}})("Taskflow", "/openapi.yaml", "/docs/")
	withPolicy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The viewer's own page has inline scripts and styles; everything comes from this server.
		w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'")
		found := &foundOnly{ResponseWriter: w}
		viewer.ServeHTTP(found, r)
		if found.missing { // as everywhere else
			secure(w.Header())
			a.writeProblem(w, r, newProblem(slugNotFound, noRoute))
		}
	})
	r.Get("/docs", withPolicy)
	r.Get("/docs/*", withPolicy)
	r.Get("/problems", a.serveProblem)
	r.Get("/problems/{slug}", a.serveProblem)
}

// foundOnly keeps back an answer that says there is no such file.
type foundOnly struct {
	http.ResponseWriter
	missing bool
}

func (w *foundOnly) WriteHeader(status int) {
	if w.missing = status == http.StatusNotFound; !w.missing {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *foundOnly) Write(body []byte) (int, error) {
	if w.missing {
		return len(body), nil
	}
	return w.ResponseWriter.Write(body)
}

func static(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply{status: http.StatusOK, contentType: contentType, body: body}.write(w)
	}
}
