package badinput

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sigstack/sigstack/api/ctlog"
	"github.com/sigstack/sigstack/api/devoidc"
	"github.com/sigstack/sigstack/api/fulcio"
	"github.com/sigstack/sigstack/api/ops"
	"github.com/sigstack/sigstack/api/rekorv1"
	"github.com/sigstack/sigstack/api/search"
	"github.com/sigstack/sigstack/api/tuf"
	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
	"github.com/sigstack/sigstack/test/harness"
)

// A row is one thing that is served.
type row struct {
	route string // method and pattern
	// valid is a request that must get a 2xx; nil where there is none without
	// a history, and then why says what covers it.
	valid func(s *suite) request
	why   string
	// limit is the largest body in bytes; 0 where no body is read.
	limit int
	// padded is a valid request with a body of exactly n bytes, for limit.
	padded func(s *suite, n int) request
	ops    bool // on the operators' listener
}

func constant(r request) func(*suite) request { return func(*suite) request { return r } }

// table is everything that the binary serves on both listeners. A handler that
// is not here fails the test, and so does a row without a handler.
var table = []row{
	{route: "GET /healthz", valid: constant(get("/healthz"))},

	{route: "POST /api/v2/signingCert", limit: 64 << 10,
		valid: func(s *suite) request { return s.askFor(s.token()) },
		padded: func(s *suite, n int) request {
			return postJSON(pathV2, padJSON(marshal(s.certRequest(s.token())), n))
		}},
	{route: "GET /api/v2/trustBundle", valid: constant(get("/api/v2/trustBundle"))},
	{route: "GET /api/v2/configuration", valid: constant(get("/api/v2/configuration"))},
	{route: "POST /api/v1/signingCert", limit: 64 << 10,
		valid: func(s *suite) request {
			return postJSON(pathV1, marshal(s.oldRequest())).with("Authorization", "Bearer "+s.token())
		},
		padded: func(s *suite, n int) request {
			return postJSON(pathV1, padJSON(marshal(s.oldRequest()), n)).with("Authorization", "Bearer "+s.token())
		}},
	{route: "GET /api/v1/rootCert", valid: constant(get("/api/v1/rootCert"))},

	{route: "GET /api/v1/log", valid: constant(get("/api/v1/log"))},
	{route: "GET /api/v1/log/publicKey", valid: constant(get("/api/v1/log/publicKey"))},
	{route: "GET /api/v1/log/proof", valid: constant(get("/api/v1/log/proof?firstSize=1&lastSize=1"))},
	{route: "GET /api/v1/log/entries", valid: constant(get("/api/v1/log/entries?logIndex=0"))},
	{route: "POST /api/v1/log/entries", limit: 32 << 20,
		valid:  func(s *suite) request { return postJSON(pathEntry, s.keys.freshEntry()) },
		padded: func(s *suite, n int) request { return postJSON(pathEntry, padJSON(s.keys.freshEntry(), n)) }},
	{route: "GET /api/v1/log/entries/{entryUUID}", valid: func(s *suite) request { return get(pathEntry + "/" + s.stored()) }},
	{route: "GET /api/v1/log/entries/retrieve", why: "the path of an entry whose UUID would be \"retrieve\": always 422, in B1 parameters"},
	{route: "POST /api/v1/log/entries/retrieve", limit: 32 << 20,
		valid: constant(postJSON(pathEntry+"/retrieve", []byte(`{"logIndexes":[0]}`))),
		padded: func(_ *suite, n int) request {
			return postJSON(pathEntry+"/retrieve", padJSON([]byte(`{"logIndexes":[0]}`), n))
		}},
	{route: "POST /api/v1/index/retrieve", limit: 1 << 20,
		valid: constant(postJSON("/api/v1/index/retrieve", []byte(`{"email":"dev@example.com"}`))),
		padded: func(_ *suite, n int) request {
			return postJSON("/api/v1/index/retrieve", padJSON([]byte(`{"email":"dev@example.com"}`), n))
		}},
	{route: "GET /ping", valid: constant(get("/ping"))},
	{route: "GET /swagger.json", valid: constant(get("/swagger.json"))},

	{route: "GET /api/sigstack/v1/search", valid: constant(get("/api/sigstack/v1/search?email=dev%40example.com&limit=5"))},
	{route: "GET /api/sigstack/v1/openapi.json", valid: constant(get("/api/sigstack/v1/openapi.json"))},

	{route: "POST /ct/v1/add-chain", limit: 512000,
		valid: func(s *suite) request { return postJSON("/ct/v1/add-chain", chainBody(s.ca.issue(nil), s.ca.chain[0])) },
		padded: func(s *suite, n int) request {
			return postJSON("/ct/v1/add-chain", padJSON(chainBody(s.ca.issue(nil), s.ca.chain[0]), n))
		}},
	{route: "POST /ct/v1/add-pre-chain", limit: 512000,
		valid: func(s *suite) request { return postJSON("/ct/v1/add-pre-chain", chainBody(s.precert(), s.ca.chain[0])) },
		padded: func(s *suite, n int) request {
			return postJSON("/ct/v1/add-pre-chain", padJSON(chainBody(s.precert(), s.ca.chain[0]), n))
		}},
	{route: "GET /ct/v1/get-sth", valid: constant(get("/ct/v1/get-sth"))},
	{route: "GET /ct/v1/get-sth-consistency", valid: constant(get("/ct/v1/get-sth-consistency?first=1&second=1"))},
	{route: "GET /ct/v1/get-proof-by-hash", why: "a good request needs the hash of a leaf; bad ones are in B1 parameters"},
	{route: "GET /ct/v1/get-entries", valid: constant(get("/ct/v1/get-entries?start=0&end=0"))},
	{route: "GET /ct/v1/get-roots", valid: constant(get("/ct/v1/get-roots"))},
	{route: "GET /ct/v1/get-entry-and-proof", valid: constant(get("/ct/v1/get-entry-and-proof?leaf_index=0&tree_size=1"))},

	{route: "GET /tuf/", valid: constant(get("/tuf/timestamp.json"))},

	{route: "GET /oidc/.well-known/openid-configuration", valid: constant(get("/oidc/.well-known/openid-configuration"))},
	{route: "GET /oidc/github/.well-known/openid-configuration", valid: constant(get("/oidc/github/.well-known/openid-configuration"))},
	{route: "GET /oidc/keys", valid: constant(get("/oidc/keys"))},
	{route: "GET /oidc/auth", valid: constant(get("/oidc/auth?" + authQuery))},
	{route: "POST /oidc/auth", limit: 64 << 10,
		valid: constant(form("/oidc/auth", authQuery+"&action=approve&email=dev%40example.com")),
		padded: func(_ *suite, n int) request {
			return form("/oidc/auth", padForm(authQuery+"&action=approve&email=dev%40example.com", n))
		}},
	{route: "POST /oidc/token", limit: 64 << 10, why: "a good request needs a code; package devoidc has them, bad ones are in B1 parameters",
		padded: func(_ *suite, n int) request { return form("/oidc/token", padForm("client_id=sigstore", n)) }},
	{route: "POST /oidc/device/code", limit: 64 << 10,
		valid:  constant(form("/oidc/device/code", "client_id=sigstore&scope=openid+email")),
		padded: func(_ *suite, n int) request { return form("/oidc/device/code", padForm("client_id=sigstore", n)) }},
	{route: "GET /oidc/device", valid: constant(get("/oidc/device"))},
	{route: "POST /oidc/device", limit: 64 << 10, why: "a good request needs a user code; package devoidc has them, bad ones are in B1 parameters",
		padded: func(_ *suite, n int) request {
			return form("/oidc/device", padForm("action=deny&user_code=BCDF-GHJK", n))
		}},
	{route: "POST /oidc/mint", limit: 64 << 10,
		valid: constant(mint(email)),
		padded: func(_ *suite, n int) request {
			r := mint(email)
			r.body = []byte(padForm(string(r.body), n))
			return r
		}},
	{route: "GET /oidc/github/token", valid: constant(get("/oidc/github/token?repository=acme%2Fwidget").with("Authorization", "bearer any"))},

	// gRPC; badCalls has the cases.
	{route: "gRPC /dev.sigstore.fulcio.v2.CA/CreateSigningCertificate", limit: 64 << 10},
	{route: "gRPC /dev.sigstore.fulcio.v2.CA/GetTrustBundle", limit: 64 << 10},
	{route: "gRPC /dev.sigstore.fulcio.v2.CA/GetConfiguration", limit: 64 << 10},
	{route: "gRPC /dev.sigstore.fulcio.v1beta.CA/CreateSigningCertificate", limit: 64 << 10},
	{route: "gRPC /dev.sigstore.fulcio.v1beta.CA/GetRootCertificate", limit: 64 << 10},
	{route: "gRPC /grpc.health.v1.Health/", limit: 64 << 10},

	{route: "GET /metrics", ops: true},
	{route: "GET /healthz", ops: true},
	{route: "GET /readyz", ops: true},
	{route: "/debug/pprof/", ops: true},
	{route: "/debug/pprof/cmdline", ops: true},
	{route: "/debug/pprof/profile", ops: true},
	{route: "/debug/pprof/symbol", ops: true},
	{route: "/debug/pprof/trace", ops: true},
}

const authQuery = "client_id=sigstore&redirect_uri=http%3A%2F%2Flocalhost%3A9%2Fcb&response_type=code&scope=openid+email&state=s&nonce=n"

func form(path, body string) request {
	return post(path, "application/x-www-form-urlencoded", []byte(body))
}

// padJSON adds white space to a document until it has n bytes.
func padJSON(doc []byte, n int) []byte { return append(slices.Repeat([]byte{' '}, n-len(doc)), doc...) }

// padForm adds a parameter to a form until it has n bytes.
func padForm(form string, n int) string {
	form += "&padding="
	return form + strings.Repeat("x", n-len(form))
}

// stored is the UUID of an entry that is in the log.
func (s *suite) stored() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uuid := range s.entries {
		return uuid
	}
	return strings.Repeat("0", 64)
}

// precert is a precertificate that the CA has not logged.
func (s *suite) precert() []byte {
	return s.ca.issue(withExtension(poison))
}

// registered are the places where cmd and api put handlers on a mux, by file
// and argument. What is registered elsewhere, or under another name, would not
// be in the rows above: it fails the test.
var registered = map[string][]string{
	"cmd/sigstack/acme.go":  {`"GET /.well-known/acme-challenge/{token}"`, `"/"`}, // a listener of its own; package e2e asks it
	"cmd/sigstack/serve.go": {`"/"`, `"GET /healthz"`, `path`, `path`, `path`, `"/ct/v1/"`, `tuf.Register`, `"/oidc/"`},
	"api/ctlog/ctlog.go":    {`Prefix+path`, `Prefix`}, // Routes, and 404
	"api/devoidc/issuer.go": {`pattern`},               // Routes
	"api/ops/ops.go":        {`pattern`},               // Routes
	"api/tuf/tuf.go":        {`Prefix`, `strings.TrimSuffix(Prefix, "/")`},
	"api/fulcio/http.go":    {`fulciov2.RegisterCAHandlerServer`, `fulciov1beta.RegisterCAHandlerServer`},
	"api/fulcio/fulcio.go":  {`fulciov2.RegisterCAServer`, `fulciov1beta.RegisterCAServer`, `grpc_health_v1.RegisterHealthServer`},
}

// served lists what the packages say that they serve.
func served() []string {
	all := []string{"GET /healthz", "GET " + tuf.Prefix, "gRPC /grpc.health.v1.Health/"}
	all = slices.Concat(all, rekorv1.Routes(), search.Routes(), ctlog.Routes(), devoidc.Routes())
	for _, file := range []protoreflect.FileDescriptor{fulciov2.File_fulcio_v2_fulcio_proto, fulciov1beta.File_fulcio_v1beta_fulcio_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				all = append(all, fmt.Sprintf("gRPC /%s/%s", service.FullName(), method.Name()))
				rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
				for _, r := range append(rule.GetAdditionalBindings(), rule) {
					if p := r.GetGet(); p != "" {
						all = append(all, "GET "+p)
					}
					if p := r.GetPost(); p != "" {
						all = append(all, "POST "+p)
					}
				}
			}
		}
	}
	for _, route := range ops.Routes() {
		all = append(all, "ops "+route)
	}
	slices.Sort(all)
	return all
}

// routes compares the table with what is served, and asks each route for
// something valid, for each method that it does not have, and with a body that
// it does not want.
func (s *suite) routes(t *testing.T) {
	var rows []string
	for _, r := range table {
		route := r.route
		if r.ops {
			route = "ops " + route
		}
		rows = append(rows, route)
	}
	slices.Sort(rows)
	want := served()
	for _, route := range want {
		if !slices.Contains(rows, route) {
			t.Errorf("%s is served and has no row in the table", route)
		}
	}
	for _, route := range rows {
		if !slices.Contains(want, route) {
			t.Errorf("%s has a row in the table and is not served", route)
		}
	}
	checkRegistered(t)
	for _, path := range fulcio.Paths() {
		if !slices.ContainsFunc(rows, func(route string) bool {
			_, p, _ := strings.Cut(route, " ")
			return strings.HasPrefix(p, path)
		}) {
			t.Errorf("package fulcio asks to be mounted at %s, where the table has nothing", path)
		}
	}

	methods := make(map[string][]string) // by path
	for _, r := range table {
		method, path, _ := strings.Cut(r.route, " ")
		if !r.ops && method != "gRPC" {
			methods[path] = append(methods[path], method)
		}
	}
	for _, r := range table {
		if r.ops || strings.HasPrefix(r.route, "gRPC") {
			continue
		}
		if r.valid == nil && r.why == "" {
			t.Errorf("%s has no valid request and does not say why", r.route)
		}
		if r.valid != nil {
			if a := s.send(r.valid(s)); a.status/100 != 2 && a.status != http.StatusSeeOther {
				t.Errorf("%s: a valid request gets %d %s", r.route, a.status, clip(string(a.body)))
			}
		}
		_, path, _ := strings.Cut(r.route, " ")
		concrete := strings.NewReplacer("{entryUUID}", strings.Repeat("0", 64)).Replace(path)
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "get"} {
			if slices.Contains(methods[path], method) {
				continue
			}
			a := s.send(request{method: method, path: concrete, header: http.Header{"Content-Type": {"application/json"}}, body: []byte("{}")})
			if want := refusedMethod(path); a.status != want {
				t.Errorf("%s %s: %d, want %d", method, concrete, a.status, want)
			}
		}
	}
	for _, path := range []string{"/nothing", "/api", "/api/v1", "/api/v3/log", "/ct", "/oidc/nothing", "/ct/v1/get-nothing", "/metrics", "/readyz", "/debug/pprof/", "/tuf"} {
		for _, method := range []string{"GET", "POST"} {
			a := s.send(request{method: method, path: path})
			want := http.StatusNotFound
			if method == "POST" && path == "/tuf" {
				want = http.StatusMethodNotAllowed
			}
			if a.status != want {
				t.Errorf("%s %s: %d, want %d", method, path, a.status, want)
			}
		}
	}
	s.expect(http.StatusTemporaryRedirect, "the issuer without its slash", get("/oidc"))
	s.operators(t)
}

// refusedMethod is the answer to a method that a path does not have.
func refusedMethod(path string) int {
	switch {
	case path == "/healthz":
		return http.StatusNotFound // the mux gives it to "/"
	}
	return http.StatusMethodNotAllowed
}

// operators asks the other listener. It must not serve what clients use.
func (s *suite) operators(t *testing.T) {
	for path, want := range map[string]int{
		"/metrics": 200, "/healthz": 200, "/readyz": 200, "/debug/pprof/": 200, "/debug/pprof/cmdline": 200, "/debug/pprof/symbol": 200,
		"/debug/pprof/nothing": 404,
		"/":                    404, "/api/v1/log": 404, "/oidc/keys": 404, "/debug/pprof/../../etc/passwd": 307,
	} {
		res, err := s.client.Get(s.Ops + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("operators' listener: %s: %d, want %d", path, res.StatusCode, want)
		}
	}
}

// checkRegistered looks for registrations in the source of cmd and api.
func checkRegistered(t *testing.T) {
	t.Helper()
	root := harness.Root(t)
	found := make(map[string][]string)
	for _, dir := range []string{"cmd", "api"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, source, 0)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(root, path)
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				text := func(n ast.Node) string {
					return string(source[files.Position(n.Pos()).Offset:files.Position(n.End()).Offset])
				}
				selector, ok := call.Fun.(*ast.SelectorExpr)
				switch {
				case !ok:
				case (selector.Sel.Name == "Handle" || selector.Sel.Name == "HandleFunc") && len(call.Args) == 2:
					found[name] = append(found[name], text(call.Args[0]))
				case strings.HasPrefix(selector.Sel.Name, "Register") && text(selector.X) != "reg" && len(call.Args) >= 2:
					found[name] = append(found[name], text(call.Fun))
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, calls := range found {
		if !slices.Equal(calls, registered[name]) {
			t.Errorf("%s registers handlers as %q, and this test knows %q: give new ones their rows in the table", name, calls, registered[name])
		}
	}
}
