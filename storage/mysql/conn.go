package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// ioTimeout bounds every wait for the server: to connect, to send, and for
	// the first byte of an answer. A batch of 1,000 leaves takes a tenth of it; a
	// server that is gone costs no more than this, and a client is told within
	// 2 seconds. A DSN may ask for more (timeout, readTimeout, writeTimeout) where
	// the server is that slow.
	ioTimeout = 1250 * time.Millisecond

	// patience is the same for what may wait for others: locks, and changes of
	// the schema.
	patience = 2 * time.Minute
)

// session is what every connection is told before its first use. A lock that is
// not had in a second is an error (1205) while the connection still stands.
//
// READ COMMITTED: with a snapshot for a whole transaction, which is the default
// of the servers, a leaf that somebody else has just queued is both in the way
// of an INSERT and invisible to a SELECT.
//
// The end of a connection may never reach the server. A transaction that was
// lost that way would keep its locks for hours (wait_timeout), on the next tree
// head among others. MariaDB ends one that does nothing for 3 seconds, and none
// here waits that long between two statements. MySQL has no such limit, and takes
// it for a comment.
var session = []string{
	"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	"SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 1, autocommit = 1 /*M!100300 , idle_transaction_timeout = 3 */",
}

// A connector makes connections that are set up.
type connector struct {
	driver.Connector
	reach *reach
}

// newConnector reads a DSN. No error of it holds anything of the DSN, which
// holds a password.
func newConnector(dsn string, timeout time.Duration, logger *slog.Logger) (*connector, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("the DSN is malformed, want user:password@tcp(host:port)/database")
	}
	if config.DBName == "" {
		return nil, errors.New("the DSN names no database, want user:password@tcp(host:port)/database")
	}
	config.Collation = "utf8mb4_bin"
	config.InterpolateParams = true // one round trip a statement, not three
	config.RejectReadOnly = true    // after a failover: look for the server that writes
	config.MultiStatements = true   // what is inserted together goes together
	config.ParseTime = false        // all times are integers
	config.Timeout, config.ReadTimeout, config.WriteTimeout = max(config.Timeout, ioTimeout), max(config.ReadTimeout, timeout), max(config.WriteTimeout, timeout)
	config.Logger = driverLog{logger}
	reach := newReach()
	config.DialFunc = reach.dial
	c, err := mysql.NewConnector(config)
	if err != nil {
		return nil, errors.New("the DSN is refused by the driver")
	}
	return &connector{c, reach}, nil
}

// driverLog takes what the driver has to say of broken connections. The errors
// themselves are returned to whoever used them.
type driverLog struct{ logger *slog.Logger }

func (l driverLog) Print(v ...any) { l.logger.Debug("mysql driver", "msg", fmt.Sprint(v...)) }

// Connect returns a connection that is set up.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := c.reach.admit(ctx, c.connect); err != nil {
		return nil, err
	}
	conn, err := c.connect(ctx)
	c.reach.tried(ctx, err)
	return conn, err
}

func (c *connector) connect(ctx context.Context) (driver.Conn, error) {
	var l *line
	inner, err := c.Connector.Connect(context.WithValue(ctx, lineKey{}, &l))
	if err != nil {
		return nil, err
	}
	full, ok := inner.(fullConn)
	if !ok {
		inner.Close()
		return nil, errors.New("the driver's connection has lost a method")
	}
	for _, statement := range session {
		if _, err := full.ExecContext(ctx, statement, nil); err != nil {
			inner.Close()
			return nil, fmt.Errorf("setting up a connection: %w", err)
		}
	}
	cluster, err := synchronize(ctx, full)
	if err != nil {
		inner.Close()
		return nil, fmt.Errorf("setting up a connection: %w", err)
	}
	return &conn{full, c.reach, l, cluster, c.reach.now()}, nil
}

// synchronize says whether a server is a node of a Galera cluster, and has such a
// node answer no statement before it has applied what any node had committed until
// then. Without that a node may be behind another one, which for whoever comes from
// that one is a log that has lost entries.
func synchronize(ctx context.Context, c fullConn) (cluster bool, err error) {
	rows, err := c.QueryContext(ctx, "SHOW VARIABLES LIKE 'wsrep_on'", nil)
	if err != nil {
		return false, err
	}
	cells := make([]driver.Value, 2)
	err = rows.Next(cells)
	if closed := rows.Close(); err == nil {
		err = closed
	}
	if errors.Is(err, io.EOF) { // not built for a cluster
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if on, _ := cells[1].([]byte); string(on) != "ON" {
		return false, nil
	}
	_, err = c.ExecContext(ctx, "SET SESSION wsrep_sync_wait = 7", nil) // reads, changes, inserts
	return true, err
}

// fullConn is what a connection of the driver can do.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// A conn prepares statements here and not in the server. Trillian prepares one
// for each size of a batch and keeps it: with many connections that meets the
// server's limit (max_prepared_stmt_count), and it costs a round trip each time
// a connection is new.
type conn struct {
	fullConn
	reach   *reach
	line    *line
	cluster bool  // the server is a node of one
	rested  int64 // when it went idle, by the clock of reach
}

// IsValid is asked when a connection goes idle.
func (c *conn) IsValid() bool {
	c.rested = c.reach.now()
	return c.fullConn.IsValid()
}

// ResetSession is asked when a connection that was idle is to be used.
func (c *conn) ResetSession(ctx context.Context) error {
	if c.rested < c.reach.silent.Load() {
		return driver.ErrBadConn
	}
	c.line.use.Store(attemptOf(ctx)) // what it is taken from the pool for
	return c.fullConn.ResetSession(ctx)
}

// A request is statements that go to the server together, in one packet.
//
// A node of a Galera cluster gets each by itself. Where another node was faster
// while it works on a packet, it takes back what the first statements did, and does
// what is left, and all that comes before COMMIT, without a transaction.
type request []statement

type statement struct {
	text string
	args []driver.NamedValue
}

// add adds a statement.
func (r *request) add(text string, values ...any) {
	s := statement{text: text}
	for i, v := range values {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	*r = append(*r, s)
}

// insert adds the statement that inserts rows of values into columns of a table.
func (r *request) insert(into, row, end string, values []any) {
	r.add("INSERT INTO "+into+" VALUES "+row+strings.Repeat(","+row, len(values)/strings.Count(row, "?")-1)+end, values...)
}

// packets returns what is sent for a request.
func (c *conn) packets(r request) []statement {
	if c.cluster {
		return r
	}
	texts, args := make([]string, len(r)), make([][]driver.NamedValue, len(r))
	for i, s := range r {
		texts[i], args[i] = s.text, s.args
	}
	return []statement{{strings.Join(texts, ";"), slices.Concat(args...)}}
}

// send sends a packet, and reads no rows.
func (c *conn) send(ctx context.Context, s statement) (driver.Result, error) {
	result, err := c.fullConn.ExecContext(ctx, s.text, s.args)
	return result, c.note(err)
}

// must is send, where the server is to take the packet.
func (c *conn) must(ctx context.Context, s statement) error {
	_, err := c.send(ctx, s)
	if err == driver.ErrSkip {
		err = errTooLong
	}
	return err
}

type openingKey struct{}

// opening returns a context with which a transaction begins with some requests.
// That is one round trip less than to begin and then send them, and the only way
// to have something of our own in a transaction of Trillian's.
func opening(ctx context.Context, requests []request) context.Context {
	return context.WithValue(ctx, openingKey{}, requests)
}

// transact makes a transaction of requests.
func (d *DB) transact(ctx context.Context, requests []request) error {
	tx, err := d.write.BeginTx(opening(ctx, requests), nil)
	if err != nil {
		return err
	}
	return tx.Commit()
}

type precededKey struct{}

// preceded returns a context with which a statement goes to the server behind
// requests, at least one, whose rows it may see. The last of them goes along with it.
func preceded(ctx context.Context, requests []request) context.Context {
	return context.WithValue(ctx, precededKey{}, requests)
}

// precede sends what is to come before a statement, and returns the last packet,
// which has the statement at its end.
func (c *conn) precede(ctx context.Context, s statement) (statement, error) {
	requests, ok := ctx.Value(precededKey{}).([]request)
	if !ok {
		return s, nil
	}
	var packets []statement
	for i, r := range requests {
		if i == len(requests)-1 {
			r = append(slices.Clip(r), s)
		}
		packets = append(packets, c.packets(r)...)
	}
	last := len(packets) - 1
	for _, p := range packets[:last] {
		if err := c.must(ctx, p); err != nil {
			return s, err
		}
	}
	return packets[last], nil
}

// BeginTx begins a transaction.
func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	c.line.use.Store(attemptOf(ctx)) // the pool may have made it for somebody else
	requests, _ := ctx.Value(openingKey{}).([]request)
	if len(requests) == 0 {
		tx, err := c.fullConn.BeginTx(ctx, options)
		return tx, c.note(err)
	}
	requests = slices.Clone(requests)
	requests[0] = append(request{{text: "START TRANSACTION"}}, requests[0]...)
	for _, r := range requests {
		for _, p := range c.packets(r) {
			if err := c.must(ctx, p); err != nil {
				if (&transaction{c}).Rollback() != nil {
					c.fullConn.Close()
				}
				return nil, err
			}
		}
	}
	return &transaction{c}, nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.precede(ctx, statement{query, args})
	if err != nil {
		return nil, err
	}
	return c.send(ctx, s)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.precede(ctx, statement{query, args})
	if err != nil {
		return nil, err
	}
	rows, err := c.fullConn.QueryContext(ctx, s.text, s.args)
	return rows, c.note(err)
}

// note has the attempt that the connection is used for know of an error, and
// returns it.
func (c *conn) note(err error) error {
	if err != nil && err != driver.ErrSkip {
		c.line.use.Load().note(err)
	}
	return err
}

// A transaction is one that a connection has begun.
type transaction struct{ conn *conn }

func (t *transaction) Commit() error   { return t.end("COMMIT") }
func (t *transaction) Rollback() error { return t.end("ROLLBACK") }

func (t *transaction) end(how string) error {
	_, err := t.conn.ExecContext(context.Background(), how, nil)
	return err
}

func (c *conn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return &stmt{c, query}, nil
}

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// A stmt is a statement that is sent as text each time.
type stmt struct {
	conn  *conn
	query string
}

func (s *stmt) Close() error  { return nil }
func (s *stmt) NumInput() int { return -1 }

// Exec and Query belong to driver.Stmt, but are not called: there are
// ExecContext and QueryContext.
func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, errors.ErrUnsupported }
func (s *stmt) Query([]driver.Value) (driver.Rows, error)  { return nil, errors.ErrUnsupported }

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	result, err := s.conn.ExecContext(ctx, s.query, args)
	if err == driver.ErrSkip {
		err = errTooLong
	}
	return result, err
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.conn.QueryContext(ctx, s.query, args)
	if err == driver.ErrSkip {
		err = errTooLong
	}
	return rows, err
}

// errTooLong is what the driver means when it does not want to write the
// arguments into the text of a statement.
var errTooLong = errors.New("the statement is longer than the server takes, or its arguments do not fit it")

// connect returns a pool of connections that stay open.
func connect(c *connector, conns int) *sql.DB {
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// The numbers of errors that somebody branches on.
const (
	errTooMany     = 1040
	errNotReady    = 1047 // of a cluster's node that is not part of its majority
	errShutdown    = 1053
	errDuplicate   = 1062
	errBlocked     = 1129
	errNoTable     = 1146
	errLockTimeout = 1205
	errDeadlock    = 1213
)

// isError says whether an error is one of the server's with one of these numbers.
func isError(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	for _, n := range numbers {
		if e.Number == n {
			return true
		}
	}
	return false
}

// isConflict says whether an error means that somebody else was in the way.
func isConflict(err error) bool { return isError(err, errDuplicate, errDeadlock, errLockTimeout) }

// Unreachable says whether an error is one of the way to the server, or of a
// server that is starting or stopping, alone, or takes no more connections, and
// not one of what it was asked.
func Unreachable(err error) bool {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return slices.Contains([]uint16{errTooMany, errNotReady, errShutdown, errBlocked}, e.Number)
	}
	var network net.Error
	return errors.Is(err, errSilent) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.EOF)
}
