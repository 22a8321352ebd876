package faults_test

import (
	"fmt"
	"net/http"
	"testing"

	"taskflow/internal/servertest"
)

// TestKillServer_DeliveryGoesOn kills servers in turn, the first as soon as it has answered, while an event is delivered to more
// flows than one transaction takes. Each of them gets it once.
func TestKillServer_DeliveryGoesOn(t *testing.T) {
	t.Parallel()
	const n = 800
	replicas(t, func(t *testing.T, _ string, servers []*servertest.Server) {
		ids := running(t, servers[0].Client, n)
		commands := make([]string, n)
		for i, id := range ids {
			commands[i] = fmt.Sprintf(`{"method": "POST", "path": "/flows/%s/wait", "body": {"wait": {"kind": "external_event", "topic": "go", "correlation_id": "all"}}}`, id)
		}
		batch(t, servers[0].Client, http.StatusOK, commands)
		type receipt struct {
			ID, Outcome string
			FlowCount   int `json:"flow_count"`
		}
		var sent, settled receipt
		if err := servers[0].Call(t, http.StatusOK, http.MethodPost, "/external-events", `{"topic": "go", "correlation_id": "all"}`).Decode(&sent); err != nil {
			t.Fatal(err)
		}
		revive(servers[0])
		if sent.Outcome != "delivering" || sent.FlowCount >= n {
			t.Fatalf("the event was answered with %+v: nothing was left to go on with", sent)
		}
		kills := 1 + killUntilFired(t, servers)
		if err := servers[0].Call(t, http.StatusOK, http.MethodGet, "/external-events/"+sent.ID, "").Decode(&settled); err != nil || settled != (receipt{sent.ID, "delivered", n}) {
			t.Errorf("after %d kills its receipt is %+v, %v", kills, settled, err)
		}
		trails := trailsOf(t, servers[0].Client)
		for _, id := range ids {
			all := trails[id]
			checkTrail(t, id, all)
			if len(all) != 4 || all[3].Kind != "resumed" || causeOf(t, all[3].Event).Kind != "external_event" {
				t.Errorf("flow %s was not resumed by the event and by nothing else: %+v", id, all)
			}
		}
		checkLogs(t, servers)
	})
}
