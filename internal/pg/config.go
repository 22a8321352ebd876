package pg

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const applicationName = "taskflow"

// Every wait has an end. The server's own limits come first, so that it is the server that says what happened; the
// client's are for a network that swallows everything.
const (
	connectTimeout   = 5 * time.Second  // each host
	lockTimeout      = 10 * time.Second // each lock
	statementTimeout = 30 * time.Second // each statement
	// idleTimeout ends a transaction whose client has fallen silent: it may hold flows, or the feed counter.
	idleTimeout = 10 * time.Second

	attemptTimeout  = 15 * time.Second // one run of a change up to its commit
	commitTimeout   = 20 * time.Second // the writes and the commit
	rollbackTimeout = 5 * time.Second
	// settleTimeout outlasts idleTimeout: a server that got half of a commit gives up the transaction within it.
	settleTimeout = 20 * time.Second
	readTimeout   = statementTimeout + connectTimeout
)

// sessionSettings are set on every connection unless the URL sets them. Durability (synchronous_commit) is not among
// them: it is the operator's, and on by default.
func sessionSettings() map[string]string {
	return map[string]string{
		"application_name":                    applicationName,
		"timezone":                            "UTC",
		"lock_timeout":                        milliseconds(lockTimeout),
		"statement_timeout":                   milliseconds(statementTimeout),
		"idle_in_transaction_session_timeout": milliseconds(idleTimeout),
		"tcp_keepalives_idle":                 "15",
		"tcp_keepalives_interval":             "5",
		"tcp_keepalives_count":                "3",
		// Every statement here is made to walk an index and look rows up by key. Left to its statistics, the planner
		// takes a table that was empty a minute ago for a small one, and reads all of it under a cached plan.
		"enable_seqscan":    "off",
		"enable_bitmapscan": "off",
		"enable_hashjoin":   "off",
		"enable_mergejoin":  "off",
		"enable_sort":       "off",
		"jit":               "off",
		// So a plan that knows its arguments is no better than one that does not, and planning each statement anew for
		// them, as PostgreSQL does where it looks cheaper, costs more than running it.
		"plan_cache_mode": "force_generic_plan",
	}
}

// CheckURL reports what is wrong with a database URL. It asks no database.
func CheckURL(url string) error {
	_, err := poolConfig(url)
	return err
}

// readURL reads a database URL, and what it says of pools with it, which the database would not know. It sets how every
// connection is made.
func readURL(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	conn := config.ConnConfig
	switch conn.DefaultQueryExecMode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		// Neither knows the types of what it sends and gets.
		return nil, errors.New("default_query_exec_mode must be cache_statement, cache_describe or describe_exec")
	}
	conn.ConnectTimeout = min(conn.ConnectTimeout, connectTimeout)
	conn.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}).DialContext
	if conn.ValidateConnect == nil {
		// A standby can neither write nor promise that a read sees what was answered.
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// poolConfig reads a database URL and sets what every connection of the server has.
func poolConfig(url string) (*pgxpool.Config, error) {
	config, err := readURL(url)
	if err != nil {
		return nil, err
	}
	conn := config.ConnConfig
	conn.OnNotice = keepWarning
	for name, value := range sessionSettings() {
		if _, set := conn.RuntimeParams[name]; !set {
			conn.RuntimeParams[name] = value
		}
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		prepareArrays(conn.TypeMap())
		return nil
	}
	config.PingTimeout = connectTimeout
	return config, nil
}

// milliseconds writes a duration as a setting.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
