package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

// translateError returns an error of pgx as a *sources.Error. The context is that of the
// call; it distinguishes our cancellation from one by the server.
func translateError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var own *sources.Error
	if errors.As(err, &own) {
		return err
	}
	if cause := ctx.Err(); cause != nil {
		return sources.NewError(sources.Canceled, "", "", cause)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if strings.HasPrefix(pg.Code, "28") {
			// The message of the server contains the user.
			return sources.Errorf(sources.Denied, "", "", "the server rejected the user or the password (SQLSTATE %s)", pg.Code)
		}
		if pg.Code == "53300" {
			return sources.Errorf(sources.Unavailable, "", "", "the server has too many connections (SQLSTATE 53300)")
		}
		message := fmt.Sprintf("%s (SQLSTATE %s)", oneLine(pg.Message), pg.Code)
		switch {
		case pg.Code == "42P01" || pg.Code == "42703":
			message += "; it has changed since the catalog was read: open the source again"
		case pg.Code == "55P03":
			message += "; wait until the lock is released, or raise the option lock_timeout"
		case pg.Hint != "":
			message += "; " + oneLine(pg.Hint)
		}
		return sources.NewError(kindOf(pg.Code), "", "", errors.New(message))
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		if cause := untrusted(err); cause != nil {
			return sources.Errorf(sources.Denied, "", "", "the certificate of %s is not trusted: %s; set sslrootcert to the file of trusted certificates", address(connect.Config), oneLine(cause.Error()))
		}
		if cause := rootCause(err); cause.Error() == "server refused TLS connection" { // pgx has no type for it
			return sources.Errorf(sources.Invalid, "", "", "%s does not use TLS: set sslmode=disable, or enable TLS on the server", address(connect.Config))
		}
		// The text of the error has a line for each address, and contains the user. Return only
		// the last cause.
		return sources.Errorf(sources.Unavailable, "", "", "cannot connect to %s: %s", address(connect.Config), oneLine(rootCause(err).Error()))
	}
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return sources.Errorf(sources.Exhausted, "", "", "a row of %.1f MiB, but the stream's memory allows only %.1f MiB: raise the memory limit, or read fewer columns",
			float64(large.ActualBodyLen)/(1<<20), float64(large.MaxExpectedBodyLen)/(1<<20))
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed") {
		return sources.Errorf(sources.Unavailable, "", "", "the connection was lost: %s", oneLine(rootCause(err).Error()))
	}
	return sources.NewError(sources.Internal, "", "", errors.New(oneLine(err.Error())))
}

// untrusted returns why the certificate of a server is not trusted, or nil if that is not
// the cause of the error. For sslmode=verify-ca, pgx verifies it without crypto/tls.
func untrusted(err error) error {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return verification.Err
	}
	for _, target := range []any{new(x509.UnknownAuthorityError), new(x509.CertificateInvalidError), new(x509.HostnameError), new(x509.UnhandledCriticalExtension), new(x509.ConstraintViolationError)} {
		if errors.As(err, target) {
			return rootCause(err)
		}
	}
	return nil
}

// invalidAddress returns the error for an invalid URI. It does not quote the URI, which may
// contain a password.
func invalidAddress(err error) error {
	text := "the address is not valid; it must have the form postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE, with special characters percent-encoded"
	var missing *fs.PathError
	if errors.As(err, &missing) {
		return sources.NewError(sources.KindOf(err), "", "", missing)
	}
	return sources.NewError(sources.Invalid, "", "", errors.New(text))
}

// kindOf returns the kind of an SQLSTATE.
func kindOf(code string) sources.Kind {
	switch code {
	case "57014": // not canceled by us, so by statement_timeout
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
	case "21", "22", "23", "25", "2F", "38", "39", "42", "44", "55", "0A", "P0":
		return sources.Invalid
	}
	return sources.Internal
}

// rootCause returns the innermost error of a chain, which contains neither an address nor a
// user.
func rootCause(err error) error {
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

// address returns the address and the database of a configuration, without the user.
func address(c *pgconn.Config) string {
	if c == nil {
		return "the server"
	}
	if strings.HasPrefix(c.Host, "/") {
		return fmt.Sprintf("%s, database %q", c.Host, c.Database)
	}
	return fmt.Sprintf("%s:%d, database %q", c.Host, c.Port, c.Database)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
