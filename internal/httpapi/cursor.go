package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"taskflow/internal/store"

	"github.com/google/uuid"
)

// A cursor is opaque to clients: the list it belongs to, and the place of the last item seen, in URL-safe base64.

// cursorList tells the lists and their orders apart, so that a cursor of one is refused by another.
type cursorList byte

const (
	cursorCreatedAsc  cursorList = 'c'
	cursorCreatedDesc cursorList = 'C'
	cursorUpdatedAsc  cursorList = 'u'
	cursorUpdatedDesc cursorList = 'U'
	cursorSteps       cursorList = 's'
	cursorReceipts    cursorList = 'r'
	cursorEventsAsc   cursorList = 'e'
	cursorEventsDesc  cursorList = 'E'
)

var flowCursors = map[store.FlowOrder]cursorList{
	store.CreatedAsc: cursorCreatedAsc, store.CreatedDesc: cursorCreatedDesc,
	store.UpdatedAsc: cursorUpdatedAsc, store.UpdatedDesc: cursorUpdatedDesc,
}

var cursorEncoding = base64.RawURLEncoding.Strict()

// encodeTimed writes a cursor into a list that is ordered by time and id.
func encodeTimed(list cursorList, at time.Time, id uuid.UUID) string {
	out := binary.BigEndian.AppendUint64([]byte{byte(list)}, uint64(at.UnixMicro()))
	return cursorEncoding.EncodeToString(append(out, id[:]...))
}

// encodeSeq writes a cursor into a list that is ordered by seq.
func encodeSeq(list cursorList, seq int64) string {
	return cursorEncoding.EncodeToString(binary.BigEndian.AppendUint64([]byte{byte(list)}, uint64(seq)))
}

func decodeTimed(list cursorList, cursor string) (time.Time, uuid.UUID, error) {
	raw, number, err := decodeCursor(list, cursor, 1+8+16)
	if err != nil {
		return time.Time{}, uuid.UUID{}, err
	}
	return time.UnixMicro(number).UTC(), uuid.UUID(raw[9:]), nil
}

func decodeSeq(list cursorList, cursor string) (int64, error) {
	_, number, err := decodeCursor(list, cursor, 1+8)
	return number, err
}

// maxMicros is the end of the year 9999, past which no time that is kept lies.
var maxMicros = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func decodeCursor(list cursorList, cursor string, size int) ([]byte, int64, error) {
	raw, err := cursorEncoding.DecodeString(cursor)
	if err != nil || len(raw) != size || raw[0] != byte(list) || cursorEncoding.EncodeToString(raw) != cursor { // base64 passes line ends over
		return nil, 0, badQuery("cursor", "is not the next_cursor of a page of this list in this order")
	}
	number := int64(binary.BigEndian.Uint64(raw[1:]))
	if number < 0 || size > 9 && number > maxMicros {
		return nil, 0, badQuery("cursor", "is not the next_cursor of a page of this list in this order")
	}
	return raw, number, nil
}

// decodeFlowPosition reads the cursor of a list of flows; nil for its first page.
func decodeFlowPosition(order store.FlowOrder, cursor *string) (*store.FlowPosition, error) {
	if cursor == nil {
		return nil, nil
	}
	var at store.FlowPosition
	var err error
	if order.ByUpdate() {
		at.Seq, err = decodeSeq(flowCursors[order], *cursor)
	} else {
		at.Time, at.ID, err = decodeTimed(flowCursors[order], *cursor)
	}
	if err != nil {
		return nil, err
	}
	return &at, nil
}

func encodeFlowPosition(order store.FlowOrder, at *store.FlowPosition) string {
	switch {
	case at == nil:
		return ""
	case order.ByUpdate():
		return encodeSeq(flowCursors[order], at.Seq)
	}
	return encodeTimed(flowCursors[order], at.Time, at.ID)
}
