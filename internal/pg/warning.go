package pg

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// warning is what the server warned of while it did as it was told. With a commit that means: done here, but the wait for
// the synchronous standby was cut short, by a cancel or a timeout, and nobody knows whether the standby has it. The server
// reports that as a success.
type warning pgconn.Notice

func (w *warning) Error() string { return "the server warned: " + w.Severity + ": " + w.Message }

// warned is where a connection keeps the last warning that came on it.
const warned = "taskflow warning"

// keepWarning is told of every notice on a connection. Which it is stands in its severity: the text may be in any language.
func keepWarning(conn *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		conn.CustomData()[warned] = (*warning)(n)
	}
}

// strictly runs fn on conn, and takes a warning that comes meanwhile for an error: *warning. One that came before does not
// count, as those that greet a new connection.
func strictly(conn *pgx.Conn, fn func() error) error {
	kept := conn.PgConn().CustomData()
	delete(kept, warned)
	if err := fn(); err != nil {
		return err
	}
	if w, came := kept[warned].(*warning); came {
		return w
	}
	return nil
}
