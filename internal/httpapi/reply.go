package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"taskflow/internal/flows"
)

// reply is an answer, ready to be written. It answers every operation of the generated server: the Visit methods below
// are that server's way to ask for it.
type reply struct {
	status      int
	contentType string
	etag        string
	location    string
	replayed    bool
	stale       bool
	preference  string // the Preference-Applied header
	body        []byte // nil for an answer that has none
}

func jsonReply(status int, body []byte) reply {
	return reply{status: status, contentType: "application/json", body: body}
}

// flowReply answers with a whole flow and its revision.
func flowReply(status int, f *flows.Flow, urls urls) reply {
	r := jsonReply(status, appendFlow(nil, f, true, urls(f)))
	r.etag = etag(f)
	if status == http.StatusCreated {
		r.location = "/flows/" + f.ID.String()
	}
	return r
}

// etag is a flow's revision as a strong tag.
func etag(f *flows.Flow) string {
	var tag [24]byte
	return string(append(strconv.AppendInt(append(tag[:0], '"'), f.Revision, 10), '"'))
}

func (r reply) write(w http.ResponseWriter) {
	header := w.Header()
	values := make([]string, 0, 8) // of all that is set below, as http.Header takes them
	// The names are in canonical form: they are not to be put into it anew for every answer.
	set := func(name, value string) {
		if value != "" {
			values = append(values, value)
			header[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	if r.contentType == jsonType[0] {
		header["Content-Type"] = jsonType
	} else {
		set("Content-Type", r.contentType)
	}
	set("Etag", r.etag)
	set("Location", r.location)
	set("Preference-Applied", r.preference)
	if r.replayed {
		set("Idempotent-Replayed", "true")
	}
	if r.stale {
		set("Taskflow-Stale-Observation", "true")
	}
	if r.body != nil {
		set("Content-Length", strconv.Itoa(len(r.body)))
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // a client that hangs up is its own affair
}

// storedReply is what is kept of a reply under an idempotency key: this line, a newline, and the body.
type storedReply struct {
	Status   int    `json:"status"`
	ETag     string `json:"etag,omitempty"`
	Location string `json:"location,omitempty"`
}

func (r reply) encode() []byte {
	return append(append(marshal(storedReply{r.status, r.etag, r.location}), '\n'), r.body...)
}

// decodeReply reads a stored reply, and marks it as replayed.
func decodeReply(stored []byte) (reply, error) {
	line, body, _ := bytes.Cut(stored, []byte("\n"))
	var s storedReply
	if err := json.Unmarshal(line, &s); err != nil {
		return reply{}, fmt.Errorf("decoding a stored answer: %w", err)
	}
	r := jsonReply(s.Status, body)
	r.etag, r.location, r.replayed = s.ETag, s.Location, true
	return r, nil
}

func (r reply) visit(w http.ResponseWriter) error { r.write(w); return nil }

func (r reply) VisitCreateFlowResponse(w http.ResponseWriter) error           { return r.visit(w) }
func (r reply) VisitListFlowsResponse(w http.ResponseWriter) error            { return r.visit(w) }
func (r reply) VisitGetFlowResponse(w http.ResponseWriter) error              { return r.visit(w) }
func (r reply) VisitDeleteFlowResponse(w http.ResponseWriter) error           { return r.visit(w) }
func (r reply) VisitStartFlowResponse(w http.ResponseWriter) error            { return r.visit(w) }
func (r reply) VisitSetFlowWaitingResponse(w http.ResponseWriter) error       { return r.visit(w) }
func (r reply) VisitResumeFlowResponse(w http.ResponseWriter) error           { return r.visit(w) }
func (r reply) VisitFinishFlowResponse(w http.ResponseWriter) error           { return r.visit(w) }
func (r reply) VisitFailFlowResponse(w http.ResponseWriter) error             { return r.visit(w) }
func (r reply) VisitRequestCancelFlowResponse(w http.ResponseWriter) error    { return r.visit(w) }
func (r reply) VisitCancelFlowResponse(w http.ResponseWriter) error           { return r.visit(w) }
func (r reply) VisitUpdateFlowStateResponse(w http.ResponseWriter) error      { return r.visit(w) }
func (r reply) VisitListStepsResponse(w http.ResponseWriter) error            { return r.visit(w) }
func (r reply) VisitGetStepResponse(w http.ResponseWriter) error              { return r.visit(w) }
func (r reply) VisitObserveStepResponse(w http.ResponseWriter) error          { return r.visit(w) }
func (r reply) VisitListFlowEventsResponse(w http.ResponseWriter) error       { return r.visit(w) }
func (r reply) VisitListEventsResponse(w http.ResponseWriter) error           { return r.visit(w) }
func (r reply) VisitRunBatchResponse(w http.ResponseWriter) error             { return r.visit(w) }
func (r reply) VisitExplainFlowWaitResponse(w http.ResponseWriter) error      { return r.visit(w) }
func (r reply) VisitPublishExternalEventResponse(w http.ResponseWriter) error { return r.visit(w) }
func (r reply) VisitGetExternalEventResponse(w http.ResponseWriter) error     { return r.visit(w) }
func (r reply) VisitListExternalEventsResponse(w http.ResponseWriter) error   { return r.visit(w) }
func (r reply) VisitGetStatsResponse(w http.ResponseWriter) error             { return r.visit(w) }
func (r reply) VisitGetLivezResponse(w http.ResponseWriter) error             { return r.visit(w) }
func (r reply) VisitGetReadyzResponse(w http.ResponseWriter) error            { return r.visit(w) }
