package dashboard_test

import (
	"net/http"
	"sync"
	"testing"

	"taskflow/internal/servertest"
)

// TestViews_SayThatTheyLoadAndThatNothingIsThere opens each view while its answers are held back, and then with nothing to show.
func TestViews_SayThatTheyLoadAndThatNothingIsThere(t *testing.T) {
	bothThemes(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		t.Cleanup(release)
		d.refuseBy(func(*http.Request) *refusal { <-held; return nil })
		p.open("#/")
		p.awaitText(".loading", "Loading the numbers")
		p.open("#/flows")
		p.awaitText(".loading", "Loading flows")
		release()
		p.awaitText(".empty", "There are no flows yet.")
		p.open("#/")
		p.await(`all(".numbers strong").join() === "0,0,0,0,0,0"`)
		p.await(`all(".empty").join("|") === "No wait ends by the clock.|No flow waits.|No flow has failed.|Nothing has happened yet. Create a flow by the API and it shows up here."`)
		p.audit("nothing is there")
		id := create(t, s)
		p.open("#/flows/" + id)
		p.await(`all(".timeline li").length === 1 && !!pick(".empty", "No step")`)
		command(t, s, id, "cancel", "")
		s.Call(t, 204, "DELETE", "/flows/"+id, "")
	})
}
