package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// tryOpen opens a source, reads its catalog and closes it.
func tryOpen(t *testing.T, c sources.Config) error {
	t.Helper()
	src, err := postgres.Open(t.Context(), c)
	if err != nil {
		return err
	}
	_, err = src.Catalog(t.Context())
	if closing := src.Close(); closing != nil {
		t.Error(closing)
	}
	return err
}

// authority is a certificate authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a test's authority"}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue creates a server certificate and key for an address.
func (a authority) issue(t *testing.T, ip string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(1, 0, 0), IPAddresses: []net.IP{net.ParseIP(ip)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTLS switches the server to TLS, with a certificate of a private authority.
func TestTLS(t *testing.T) {
	uri := pgtest.Start(t).Database(t, gatedSQL)
	a := asAdmin(t, uri)
	ours, other := newAuthority(t), newAuthority(t)
	serve := func(ip string) {
		cert, key := ours.issue(t, ip)
		for name, text := range map[string]string{"penstock.crt": cert, "penstock.key": key} {
			a.exec(fmt.Sprintf("COPY (SELECT unnest(string_to_array('%s', E'\\n'))) TO PROGRAM 'umask 077; cat > %s'", strings.TrimSpace(text), name))
		}
		a.exec("ALTER SYSTEM SET ssl_cert_file = 'penstock.crt'")
		a.exec("ALTER SYSTEM SET ssl_key_file = 'penstock.key'")
		a.exec("ALTER SYSTEM SET ssl = on")
		a.exec("SELECT pg_reload_conf()")
	}
	t.Cleanup(func() {
		a.exec("ALTER SYSTEM RESET ssl")
		a.exec("SELECT pg_reload_conf()")
	})
	base, _, _ := strings.Cut(uri, "?")
	open := func(mode, root string) error {
		return tryOpen(t, sources.Config{URI: base + "?" + url.Values{"sslmode": {mode}, "sslrootcert": {root}}.Encode()})
	}
	// settle waits until the server has read its configuration.
	settle := func(good func(error) bool, mode, root string) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if err = open(mode, root); good(err) {
				return
			}
		}
		t.Fatalf("sslmode=%s with %s: %v", mode, filepath.Base(root), err)
	}
	if err := open("require", ""); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "does not use TLS: set sslmode=disable") {
		t.Errorf("a server without TLS: %v", err)
	}
	trusted, distrusted := writeFile(t, "ours.crt", ours.pem), writeFile(t, "other.crt", other.pem)
	serve("127.0.0.1")
	settle(func(err error) bool { return err == nil }, "verify-full", trusted)
	_, encrypted := openWith(t, base+"?"+url.Values{"sslmode": {"verify-full"}, "sslrootcert": {trusted}}.Encode(), nil, sources.Limits{})
	readGated(t, uri, encrypted) // below TLS, a read that is interrupted loses nothing

	// With a root certificate, require verifies too.
	for _, mode := range []string{"require", "verify-ca", "verify-full"} {
		if err := open(mode, distrusted); sources.KindOf(err) != sources.Denied || !strings.Contains(err.Error(), "is not trusted") || !strings.Contains(err.Error(), "sslrootcert") {
			t.Errorf("sslmode=%s with an authority that did not sign: %v", mode, err)
		}
	}
	if err := open("verify-full", filepath.Join(t.TempDir(), "missing.crt")); sources.KindOf(err) != sources.NotFound {
		t.Errorf("an authority's file that is not there: %v", err)
	}
	serve("127.0.0.9")
	settle(func(err error) bool {
		return sources.KindOf(err) == sources.Denied && strings.Contains(err.Error(), "127.0.0.9")
	}, "verify-full", trusted)
	if err := open("verify-ca", trusted); err != nil {
		t.Errorf("verify-ca does not look at the name: %v", err)
	}
}

// TestWhereLibpqLooks checks that what the URI omits comes from the environment, a service
// file or a password file.
func TestWhereLibpqLooks(t *testing.T) {
	uri := pgtest.Start(t).Database(t, "CREATE TABLE n (i int PRIMARY KEY);")
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	database := strings.TrimPrefix(u.Path, "/")
	for name, value := range map[string]string{"PGHOST": u.Hostname(), "PGPORT": u.Port(), "PGUSER": u.User.Username(), "PGSSLMODE": "disable", "PGDATABASE": database, "PGPASSFILE": filepath.Join(t.TempDir(), "none")} {
		t.Setenv(name, value)
	}
	if err := tryOpen(t, sources.Config{URI: "postgres://"}); sources.KindOf(err) != sources.Denied {
		t.Errorf("without a password: %v", err)
	}
	t.Setenv("PGPASSWORD", password)
	if err := tryOpen(t, sources.Config{URI: "postgres://"}); err != nil {
		t.Errorf("by the environment: %v", err)
	}
	t.Setenv("PGPASSWORD", "")
	t.Setenv("PGPASSFILE", writeFile(t, "passes", fmt.Sprintf("%s:%s:*:%s:%s\n", u.Hostname(), u.Port(), u.User.Username(), password)))
	if err := tryOpen(t, sources.Config{URI: "postgres://"}); err != nil {
		t.Errorf("by a password file: %v", err)
	}
	for _, name := range []string{"PGHOST", "PGPORT", "PGUSER", "PGDATABASE"} {
		t.Setenv(name, "")
	}
	t.Setenv("PGSERVICEFILE", writeFile(t, "services", fmt.Sprintf("[shop]\nhost=%s\nport=%s\nuser=%s\ndbname=%s\n", u.Hostname(), u.Port(), u.User.Username(), database)))
	if err := tryOpen(t, sources.Config{URI: "postgres://?service=shop"}); err != nil {
		t.Errorf("by a service file: %v", err)
	}
	// A server that target_session_attrs excludes is skipped.
	several := fmt.Sprintf("postgres://%s:%s@127.0.0.1:1,%s/%s?sslmode=disable&target_session_attrs=", u.User.Username(), password, u.Host, database)
	if err := tryOpen(t, sources.Config{URI: several + "primary"}); err != nil {
		t.Errorf("the primary: %v", err)
	}
	if err := tryOpen(t, sources.Config{URI: several + "standby"}); sources.KindOf(err) != sources.Unavailable {
		t.Errorf("a standby, where there is none: %v", err)
	}
}

// TestPooler connects through a pooler that behaves like pgbouncer.
func TestPooler(t *testing.T) {
	uri := pgtest.Start(t).Database(t, "CREATE TABLE n (i int PRIMARY KEY, r tstzrange); INSERT INTO n VALUES (1, '[2020-01-01 00:00+00,)'); "+hostileSettings)
	for _, c := range []struct {
		byTransaction bool
		snapshot      string
		refused       bool
	}{{true, "strict", true}, {true, "renew", true}, {true, "none", false}, {false, "strict", false}} {
		t.Run(fmt.Sprintf("%t %s", c.byTransaction, c.snapshot), func(t *testing.T) {
			_, between := startPooler(t, uri, c.byTransaction)
			src, err := postgres.Open(t.Context(), sources.Config{URI: between, Options: map[string]string{"snapshot": c.snapshot}})
			if c.refused {
				if sources.KindOf(err) != sources.Unavailable || !strings.Contains(err.Error(), "pgbouncer") || !strings.Contains(err.Error(), "snapshot=none") {
					t.Errorf("%v", err)
				}
				if err == nil {
					_ = src.Close()
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			ses, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
			if err != nil {
				t.Fatal(err)
			}
			if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "n"})); len(got) != 1 || got[0] != `1|"[\"2020-01-01 00:00:00+00\",)"` {
				t.Errorf("%q", got)
			}
			if err := ses.Close(); err != nil {
				t.Error(err)
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCatalogAsksConstantly checks that the number of queries does not depend on the size
// of the database.
func TestCatalogAsksConstantly(t *testing.T) {
	var asked []int64
	for _, tables := range []int{1, 150} {
		uri := pgtest.Start(t).Database(t, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
  EXECUTE format('CREATE TYPE e%%1$s AS ENUM (''a''); CREATE TABLE t%%1$s (id int PRIMARY KEY, e e%%1$s[], other int REFERENCES t%%1$s)', i);
END LOOP; END $$;`, tables))
		p, between := startPooler(t, uri, false)
		if err := tryOpen(t, sources.Config{URI: between}); err != nil {
			t.Fatal(err)
		}
		asked = append(asked, p.asked.Load())
	}
	if asked[0] != asked[1] {
		t.Errorf("%d statements for one table, %d for 150", asked[0], asked[1])
	}
}

// pooler assigns backends to transactions or to sessions. It prefers the backend that was
// returned last.
type pooler struct {
	t             *testing.T
	uri           string
	byTransaction bool
	asked         atomic.Int64 // statements

	mu   sync.Mutex
	free []*pgconn.HijackedConn
	all  []*pgconn.HijackedConn
}

// startPooler starts a pooler and returns its address. The pooler stops at the end of the
// test.
func startPooler(t *testing.T, uri string, byTransaction bool) (*pooler, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pooler{t: t, uri: uri, byTransaction: byTransaction}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				p.serve(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
		for _, c := range p.all {
			_ = c.Conn.Close()
		}
	})
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *pooler) take() (*pgconn.HijackedConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		return c, nil
	}
	conn, err := pgconn.Connect(context.Background(), p.uri)
	if err != nil {
		return nil, err
	}
	c, err := conn.Hijack()
	if err == nil {
		p.all = append(p.all, c)
	}
	return c, err
}

func (p *pooler) give(c *pgconn.HijackedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, c)
}

// serve serves one client until it disconnects.
func (p *pooler) serve(conn net.Conn) {
	client := pgproto3.NewBackend(conn, conn)
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return
	}
	server, err := p.take()
	if err != nil {
		p.t.Error(err)
		return
	}
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range server.ParameterStatuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	client.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if client.Flush() != nil {
		return
	}
	if p.byTransaction {
		p.give(server)
		server = nil
	}
	defer func() {
		if server != nil {
			p.give(server)
		}
	}()
	for {
		message, err := client.Receive()
		if err != nil {
			return
		}
		if _, ends := message.(*pgproto3.Terminate); ends {
			return
		}
		if server == nil {
			if server, err = p.take(); err != nil {
				p.t.Error(err)
				return
			}
		}
		server.Frontend.Send(message)
		switch message.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			p.asked.Add(1)
		default:
			continue
		}
		status, err := p.answer(client, server)
		if err != nil {
			return
		}
		if p.byTransaction && status == 'I' {
			p.give(server)
			server = nil
		}
	}
}

// answer forwards messages of the server until it is ready for a query.
func (p *pooler) answer(client *pgproto3.Backend, server *pgconn.HijackedConn) (status byte, err error) {
	if err := server.Frontend.Flush(); err != nil {
		return 0, err
	}
	for {
		message, err := server.Frontend.Receive()
		if err != nil {
			return 0, err
		}
		client.Send(message)
		if ready, ok := message.(*pgproto3.ReadyForQuery); ok {
			return ready.TxStatus, client.Flush()
		}
		if err := client.Flush(); err != nil {
			return 0, err
		}
	}
}

// TestParametersWithSpaces checks that the server gets the parameters of the URI that are
// not options, with their spaces.
func TestParametersWithSpaces(t *testing.T) {
	uri := pgtest.Start(t).Database(t, "CREATE VIEW settings AS SELECT current_setting('work_mem') || ' ' || current_setting('geqo_seed') AS s;")
	for _, parameter := range []string{"options=-c%20work_mem%3D77MB%20-c%20geqo_seed%3D0.5", "options=-c work_mem=77MB -c geqo_seed=0.5", "work_mem=77%20MB&geqo_seed=%200.5"} {
		_, ses := openWith(t, uri+"&"+parameter, nil, sources.Limits{})
		if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "settings"})); len(got) != 1 || got[0] != `"77MB 0.5"` {
			t.Errorf("%s: %q", parameter, got)
		}
	}
}
