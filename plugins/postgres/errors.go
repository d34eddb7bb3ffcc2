package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/penstock-data/penstock/sources"
)

// fault turns what pgx returned into the contract's error. The context tells
// our own cancel from a server's: it is that of the call.
func fault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var own *sources.Error
	if errors.As(err, &own) {
		return err
	}
	if cause := ctx.Err(); cause != nil {
		return &sources.Error{Kind: sources.Canceled, Err: cause}
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if strings.HasPrefix(pg.Code, "28") {
			// The server's words name the user.
			return &sources.Error{Kind: sources.Denied, Err: fmt.Errorf("the server refused the user or the password (SQLSTATE %s)", pg.Code)}
		}
		if pg.Code == "53300" {
			return &sources.Error{Kind: sources.Unavailable, Err: errors.New("the server has no connection to spare (SQLSTATE 53300)")}
		}
		message := fmt.Sprintf("%s (SQLSTATE %s)", oneLine(pg.Message), pg.Code)
		switch {
		case pg.Code == "42P01" || pg.Code == "42703":
			message += "; it has changed since the catalogue was read: open the source again"
		case pg.Code == "57014":
			message += "; raise the option statement_timeout, or ask for less"
		case pg.Hint != "":
			message += "; " + oneLine(pg.Hint)
		}
		return &sources.Error{Kind: kindOf(pg.Code), Err: errors.New(message)}
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			return &sources.Error{Kind: sources.Denied, Err: fmt.Errorf("the certificate of %s is not to be trusted: %s; sslrootcert names the authorities that are", place(connect.Config), oneLine(untrusted.Err.Error()))}
		}
		// The error's own text has one line for each address that was tried, and
		// the user's name; the cause of the last one is enough.
		return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("no connection to %s: %s", place(connect.Config), oneLine(root(err).Error()))}
	}
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("a row of %.1f MiB, where the stream's memory allows %.1f MiB: give it more, or read fewer columns",
			float64(large.ActualBodyLen)/(1<<20), float64(large.MaxExpectedBodyLen)/(1<<20))}
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed") {
		return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("the connection was lost: %s", oneLine(root(err).Error()))}
	}
	return &sources.Error{Kind: sources.Internal, Err: errors.New(oneLine(err.Error()))}
}

// misconfigured says what is wrong with an address without quoting it, for it may
// hold a password.
func misconfigured(err error) error {
	text := "the address cannot be read; it is postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE, with special characters in percent form"
	var missing *fs.PathError
	if errors.As(err, &missing) {
		return &sources.Error{Kind: sources.KindOf(err), Err: missing}
	}
	return &sources.Error{Kind: sources.Invalid, Err: errors.New(text)}
}

// kindOf classifies an SQLSTATE.
func kindOf(code string) sources.Kind {
	switch code {
	case "57014": // not by us, so by the statement's timeout
		return sources.Exhausted
	case "42501":
		return sources.Denied
	case "42P01", "42703", "3D000", "3F000":
		return sources.NotFound
	case "53300", "55P03", "40001", "40P01", "25P03", "57P05", "72000":
		return sources.Unavailable
	}
	switch code[:min(2, len(code))] {
	case "08", "57":
		return sources.Unavailable
	case "28":
		return sources.Denied
	case "53", "54":
		return sources.Exhausted
	case "21", "22", "23", "25", "2F", "38", "39", "42", "44", "0A", "P0":
		return sources.Invalid
	}
	return sources.Internal
}

// root is the innermost error of a chain, which is the one that names no
// address and no user.
func root(err error) error {
	for {
		next := errors.Unwrap(err)
		if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
			next = joined.Unwrap()[len(joined.Unwrap())-1]
		}
		if next == nil {
			return err
		}
		err = next
	}
}

// place is where a configuration leads, without who goes there.
func place(c *pgconn.Config) string {
	if c == nil {
		return "the server"
	}
	if strings.HasPrefix(c.Host, "/") {
		return fmt.Sprintf("%s, database %q", c.Host, c.Database)
	}
	return fmt.Sprintf("%s:%d, database %q", c.Host, c.Port, c.Database)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
