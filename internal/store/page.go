package store

import "taskflow/internal/flows"

// PageBytes is about how many bytes of what callers have stored are read for one page, or at once from the feed: it ends
// with the item that brings it there. So what a read takes is not the longest page times the largest state.
const PageBytes = 4 << 20

// Filling is how full a page is. Whoever reads pages can tell by it whether one ended for want of items.
type Filling struct {
	Limit int // the most items, at least 1
	items int
	bytes int
}

// Full reports whether the page takes no more. One without an item does.
func (f *Filling) Full() bool { return f.items >= f.Limit || f.bytes >= PageBytes }

// AddEvent counts an event of the page.
func (f *Filling) AddEvent(e *flows.Event) { f.add(len(e.Payload)) }

// AddFlow counts a flow of the page, by what may be large of it.
func (f *Filling) AddFlow(flow *flows.Flow) {
	n := len(flow.State) + len(flow.Goal)
	for key, value := range flow.Labels {
		n += len(key) + len(value)
	}
	if w := flow.Wait; w != nil {
		n += len(w.Details)
		for i := range w.Conditions {
			n += len(w.Conditions[i].Pair.Topic) + len(w.Conditions[i].Pair.CorrelationID)
		}
		if w.Timeout != nil {
			n += len(w.Timeout.Patch)
		}
	}
	f.add(n)
}

// AddStep counts a step of the page.
func (f *Filling) AddStep(s *flows.Step) { f.add(len(s.Result)) }

// AddReceipt counts a receipt of the page, with what its event brought.
func (f *Filling) AddReceipt(e *flows.ExternalEvent) { f.add(len(e.Payload)) }

func (f *Filling) add(bytes int) {
	f.items++
	f.bytes += bytes
}
