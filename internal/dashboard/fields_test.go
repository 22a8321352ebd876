package dashboard_test

import (
	"maps"
	"net/http"
	"testing"

	"taskflow/internal/servertest"
)

// described is what the form "Update state" is about.
type described struct {
	Goal        string
	CurrentStep string `json:"current_step"`
	Labels      map[string]string
	Revision    int
}

func describedAs(t *testing.T, s *servertest.Server, id string) described {
	t.Helper()
	var f described
	if err := s.Call(t, http.StatusOK, http.MethodGet, "/flows/"+id, "").Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFields_SendWhatWasChanged leaves alone what a control cannot show as it is, and the labels beside the one that is added.
func TestFields_SendWhatWasChanged(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		const goal, step = "one\r\ntwo\rthree ", "pack\r\nthe parcel"
		id := inStatus(t, s, "running", `"goal": `+quote(goal), `"current_step": `+quote(step), `"labels": {"team": "a:b", "x": ""}`)
		p.open("#/flows/" + id)
		p.click("button[data-verb=state]", "")
		p.await(`pick("dialog [name=labels]").value === "team:a:b\nx:"`)
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog [role=alert]", "Nothing is changed yet.")
		p.fill("dialog [name=labels]", "team:a:b\nx:\nx:1")
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog [role=alert]", "Labels: “x” is there twice.")
		p.fill("dialog [name=labels]", "team:a:b\n who : me \n")
		p.click("dialog button[type=submit]", "")
		p.await(`!document.querySelector("dialog") && text("#revision") === "2"`)
		if f := describedAs(t, s, id); f.Goal != goal || f.CurrentStep != step || !maps.Equal(f.Labels, map[string]string{"team": "a:b", "who": "me"}) {
			t.Errorf("the flow has become %+v", f)
		}

		p.click("button[data-verb=state]", "")
		p.fill("dialog [name=goal]", "another")
		p.fill("dialog [name=current_step]", "ship")
		p.click("dialog button[type=submit]", "")
		p.await(`!document.querySelector("dialog") && text("h1") === "another"`)
		if f := describedAs(t, s, id); f.CurrentStep != "ship" || len(f.Labels) != 2 {
			t.Errorf("the flow has become %+v", f)
		}
	})
}

// TestFields_KeepLabelsThatAreNoLine edits labels that no line of key:value can say: they are shown as JSON.
func TestFields_KeepLabelsThatAreNoLine(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		for _, label := range []struct{ key, value string }{
			{"a:b", "c"}, {" k", "v"}, {"k ", "v"}, {"k", " v"}, {"k", "v\u00a0"}, {"k", "one\ntwo"}, {"k", "one\r\ntwo"}, {"k\rl", "v"}, {"k\n", ""},
		} {
			id := inStatus(t, s, "running", `"labels": {"team": "red", `+quote(label.key)+`: `+quote(label.value)+`}`)
			p.open("#/flows/" + id)
			p.click("button[data-verb=state]", "")
			p.fill("dialog [name=current_step]", "later")
			p.click("dialog button[type=submit]", "")
			p.await(`!document.querySelector("dialog") && text("#revision") === "2"`)
			p.click("button[data-verb=state]", "")
			p.await(`pick("dialog [name=labels]").value.startsWith("{\n")`)
			eval[bool](p, `(() => {
				const field = pick("dialog [name=labels]"), labels = JSON.parse(field.value);
				delete labels.team;
				field.value = JSON.stringify({...labels, x: "y"});
				return true;
			})()`)
			p.click("dialog button[type=submit]", "")
			p.await(`!document.querySelector("dialog") && text("#revision") === "3"`)
			if f := describedAs(t, s, id); !maps.Equal(f.Labels, map[string]string{label.key: label.value, "x": "y"}) {
				t.Errorf("%q have become %q", label, f.Labels)
			}
		}
		for typed, words := range map[string]string{`{"x": 1}`: "Labels: “x” is no text.", `["x"]`: "Labels: An object is expected", `{"x": "y"`: "Labels: A comma or } is expected"} {
			p.click("button[data-verb=state]", "")
			p.fill("dialog [name=labels]", typed)
			p.click("dialog button[type=submit]", "")
			p.awaitText("dialog [role=alert]", words)
			p.press("\x1b")
			p.await(`!document.querySelector("dialog")`)
		}
	})
}

// TestLabels_LeadToTheirFlows follows a label to the list. One whose key has a colon leads nowhere: no filter of the API says it.
func TestLabels_LeadToTheirFlows(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		p.open("#/flows/" + inStatus(t, s, "running", `"goal": "labelled"`, `"labels": {"a:b": "c", "d": "e: f"}`))
		p.await(`all(".facts .tag").join(" ") === "a:b:c d:e: f" && all(".facts a.tag").join(" ") === "d:e: f"`)
		p.audit("labels")
		p.click(".facts a.tag", "d:e: f")
		p.await(`location.hash === "#/flows?label=d%3Ae%3A+f" && all(".flows th a").every((goal) => goal === "labelled") && all(".flows th a").length > 0`)
	})
}
