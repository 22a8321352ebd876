package httpapi

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
)

const (
	// heartbeat is how long a stream is silent at most, so that nobody on the way takes it for dead.
	heartbeat = 15 * time.Second
	// reconnectAfter is how long a client is asked to wait before it goes on at another server.
	reconnectAfter = time.Second
	// farewell is how long a write may take once the server stops: a reader that does not read must not hold it up.
	farewell = time.Second
)

// stream is a live stream of audit events as an answer of the generated server. It leaves through the same Visit methods
// as a page does, and lasts until the client or the server ends it.
type stream struct {
	api      *api
	request  *request
	query    store.EventQuery
	follower *engine.Follower
	release  func()
	// fresh says that the stream begins at now, which the client cannot know.
	fresh bool
}

// listEventsLive answers with a live stream of the events that match q. Whatever can be refused is refused here, before
// anything is sent.
func (a *api) listEventsLive(ctx context.Context, q store.EventQuery, last *string) (*stream, error) {
	if q.Desc {
		return nil, badQuery("order", "must be seq for a live stream")
	}
	if last != nil && *last != "" {
		seq, err := strconv.ParseInt(*last, 10, 64)
		if err != nil || seq < 0 {
			return nil, badHeader("Last-Event-ID", "must be the seq of an event")
		}
		q.After = &seq
	}
	release, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	follower, err := a.engine.Follow(ctx, q)
	if err != nil {
		release()
		return nil, err
	}
	return &stream{api: a, request: requestOf(ctx), query: q, follower: follower, release: release, fresh: q.After == nil}, nil
}

// open counts a caller's stream or wait in until release is called, unless there are too many or the server is stopping.
func (a *api) open(ctx context.Context) (release func(), err error) {
	if a.stopping.Load() {
		return nil, newProblem(slugUnavailable, "The server is shutting down.")
	}
	released := func() {}
	if caller := callerOf(ctx); caller.Limited && a.options.Streams != nil {
		var ok bool
		if released, ok = a.options.Streams.Acquire(caller.ID); !ok {
			return nil, tooMany("You have as many streams open as this server allows one caller.", heartbeat)
		}
	}
	if a.streams.Add(1) > int64(a.options.MaxStreams) {
		a.streams.Add(-1)
		released()
		return nil, newProblem(slugOverloaded, "Too many streams are open.")
	}
	a.options.Observer.Streams(1)
	requestOf(ctx).lasting = true
	return func() { a.streams.Add(-1); a.options.Observer.Streams(-1); released() }, nil
}

func (s *stream) VisitListEventsResponse(w http.ResponseWriter) error     { return s.serve(w) }
func (s *stream) VisitListFlowEventsResponse(w http.ResponseWriter) error { return s.serve(w) }

// serve sends events until it ends. A stream has no deadline, but each write has: a client that does not read is cut off,
// and goes on elsewhere from what it has.
func (s *stream) serve(w http.ResponseWriter) error {
	defer s.release()
	defer s.follower.Close()
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // proxies must not collect it
	w.WriteHeader(http.StatusOK)
	if s.request.method == http.MethodHead {
		return nil
	}
	if err := s.request.unhurried(); err != nil {
		return err
	}
	begin := fmt.Sprintf("retry: %d\n\n", reconnectAfter.Milliseconds())
	if s.fresh {
		begin = fmt.Sprintf("retry: %d\nid: %d\n\n", reconnectAfter.Milliseconds(), s.follower.Position())
	}
	ctx, cancel := s.api.untilStopping(s.request.open())
	defer cancel()
	out := &streamWriter{ctx: ctx, w: w, connection: s.request.connection(), patience: s.api.options.StreamPatience}
	unlink := context.AfterFunc(ctx, out.hurry)
	defer func() { // the last write may have given itself more time, or so little that the end of the answer could not leave
		unlink()
		out.hurry()
	}()
	err := out.send([]byte(begin))
	if err == nil {
		err = s.follow(ctx, out)
	}
	switch {
	case s.api.accepting.Err() != nil: // the server is going
	case errors.Is(err, os.ErrDeadlineExceeded): // ctx has ended too: net/http gives up a connection that fails
		s.api.options.Observer.StreamCutOff()
		s.api.log.InfoContext(ctx, "a slow reader was cut off", "request_id", s.request.id)
	case errors.As(err, new(*auth.Refused)):
		s.api.log.InfoContext(ctx, "a stream ended with its reader's credentials", "request_id", s.request.id, "reason", err)
	case errors.Is(err, flows.ErrNotFound): // whoever comes again is told so
		s.api.log.InfoContext(ctx, "a stream ended with its flow", "request_id", s.request.id)
	case ctx.Err() == nil: // else the client has gone
		s.api.log.WarnContext(ctx, "a stream was cut off", "request_id", s.request.id, "error", err)
	}
	return nil
}

// untilStopping is a context that ends with parent and when the server stops accepting requests.
func (a *api) untilStopping(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	unlink := context.AfterFunc(a.accepting, cancel)
	return ctx, func() { unlink(); cancel() }
}

// follow sends events as they come, and a sign of life where none comes, or where it becomes another.
func (s *stream) follow(ctx context.Context, out *streamWriter) error {
	told := s.follower.Position() // what the client goes on from, should the stream end now
	stalled := false              // what the client takes the feed for
	silence, doubt := time.NewTimer(heartbeat), time.NewTicker(recheck)
	defer silence.Stop()
	defer doubt.Stop()
	for {
		events, more, err := s.follower.Take(ctx)
		if err != nil {
			return err
		}
		if len(events) > 0 {
			last := events[len(events)-1].Seq
			if err := s.sendAll(ctx, out, events, doubt.C); err != nil {
				return err
			}
			told = last
			silence.Reset(heartbeat)
		}
		if s.follower.Stalled() != stalled {
			silence.Reset(0)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silence.C:
			stalled = s.follower.Stalled()
			if s.query.FromFlow && !stalled && s.erased(ctx) {
				return flows.ErrNotFound
			}
			if err := out.send(signOfLife(stalled, told, s.follower.Position())); err != nil {
				return err
			}
			told = s.follower.Position()
			silence.Reset(heartbeat)
		case <-doubt.C:
			if err := s.api.mayStillRead(ctx); err != nil {
				return err
			}
		case <-more:
		}
	}
}

// erased looks for the flow of a stream: that it was erased is no event, and may have been another server's doing.
func (s *stream) erased(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.api.options.RequestTimeout)
	defer cancel()
	_, err := s.api.reader.Events(ctx, store.EventQuery{FlowID: s.query.FlowID, FromFlow: true, Owners: s.query.Owners, Desc: true, Limit: 1})
	return errors.Is(err, flows.ErrNotFound)
}

// sendAll sends events, and lets go of each as it is sent: a slow reader may take minutes for all of them. So there is
// room for doubt between any two.
func (s *stream) sendAll(ctx context.Context, out *streamWriter, events []*engine.FeedEntry, doubt <-chan time.Time) error {
	for i, e := range events {
		select {
		case <-doubt:
			if err := s.api.mayStillRead(ctx); err != nil {
				return err
			}
		default:
		}
		if err := out.write(e.Encoded(appendFrame)); err != nil {
			return err
		}
		events[i] = nil
	}
	return out.connection.Flush()
}

// signOfLife is a comment, which says so where the feed is stalled. With it goes how far the stream has come, where that is
// further than the client knows: so it need not go through again, when it reconnects, what its filters kept from it.
func signOfLife(stalled bool, told, position int64) []byte {
	sign := []byte(":")
	if stalled {
		sign = append(sign, " stalled"...)
	}
	if position > told {
		sign = fmt.Appendf(sign, "\nid: %d", position)
	}
	return append(sign, "\n\n"...)
}

// streamWriter writes to a client that has patience long for each write, until ctx ends.
type streamWriter struct {
	ctx        context.Context
	w          http.ResponseWriter
	connection *http.ResponseController
	patience   time.Duration
}

func (s *streamWriter) send(text []byte) error {
	if err := s.write(text); err != nil {
		return err
	}
	return s.connection.Flush()
}

func (s *streamWriter) write(text []byte) error {
	if err := s.connection.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
		return err
	}
	if err := s.ctx.Err(); err != nil { // looked at last, so that hurry has the last word on the deadline
		return err
	}
	_, err := s.w.Write(text)
	return err
}

// hurry gives what is being written, and the end of the stream, little time.
func (s *streamWriter) hurry() {
	_ = s.connection.SetWriteDeadline(time.Now().Add(farewell)) // a connection that is gone is in no hurry
}

// appendFrame is an event as a server-sent one. Its JSON has no line ends but between its values.
func appendFrame(e flows.Event) []byte {
	data := appendEvent(nil, e)
	for i, c := range data {
		if c == '\r' || c == '\n' {
			data[i] = ' '
		}
	}
	return fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Kind, data)
}

// wantsStream reports whether an Accept header asks for a stream rather than for JSON: of the two, the one with the higher
// quality, and of equals the one that is named first.
func wantsStream(accept []string) bool {
	const never = -1.0
	streams, json := never, never
	first := false
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			quality = q
		}
		switch media {
		case "text/event-stream":
			first = first || json == never
			streams = max(streams, quality)
		case "application/json":
			json = max(json, quality)
		}
	}
	return streams > 0 && (streams > json || streams == json && first)
}
