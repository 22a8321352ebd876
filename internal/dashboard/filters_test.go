package dashboard_test

import (
	"testing"

	"taskflow/internal/servertest"
)

// TestFilters_KeepWhatTheyCannotShow changes one filter of an address that was made by hand: the others stay as they are.
func TestFilters_KeepWhatTheyCannotShow(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		create(t, s, `"goal": "a needle"`)
		p.open("#/flows?limit=30&created_after=2001-02-03T04:05:06.789123Z&updated_before=2101-02-03T04:05:06%2B05:30&order=-created_at")
		p.awaitText(".flows th", "a needle")
		kept := func() {
			t.Helper()
			for name, value := range map[string]string{
				"limit": "30", "created_after": "2001-02-03T04:05:06.789123Z", "updated_before": "2101-02-03T04:05:06+05:30", "order": "-created_at",
			} {
				p.await(`new URLSearchParams(location.hash.split("?")[1]).get(` + quote(name) + `) === ` + quote(value))
			}
		}
		p.choose("[name=mode]", "managed")
		p.await(`location.hash.includes("mode=managed")`)
		kept()
		p.fill("#filter", "needle")
		p.await(`location.hash.includes("q=needle")`)
		kept()
		// What is changed is changed.
		p.choose("[name=created_after]", "2001-02-03T04:05:07")
		p.choose("[name=limit]", "25")
		p.await(`location.hash.includes("limit=25") && location.hash.includes("created_after=2001-02-0") && !location.hash.includes("789123")`)
		p.choose("[name=updated_before]", "")
		p.await(`!location.hash.includes("updated_before")`)
	})
}
