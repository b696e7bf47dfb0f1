package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// signers are all functions of the module that use a private key, with what each
// signs. Exactly one signs certificates that the CA issues.
var signers = map[string]string{
	"ca.(*lintedTBS).sign":               "a certificate, once it has passed every rule",
	"ca.(*standIn).signature":            "what is linted, with a throw-away key of the issuing key's type",
	"ca.create":                          "the CA's own root and intermediate, for sigstack init and ca sign",
	"ca.CreateIntermediateRequest":       "a request for an intermediate, which its own key signs",
	"tlog/checkpoint.(*Signer).Sign":     "a checkpoint",
	"tlog/ct.(*Log).sign":                "an SCT or an STH",
	"tlog/rekor.(*Log).sign":             "a signed entry timestamp",
	"trust.(*messageSigner).SignMessage": "TUF metadata",
	"api/devoidc.(*Issuer).sign":         "a token of the development issuer",
	"trust/keys.openKMS":                 "what a key at a key service is asked for",
	"ca/catest.(*Issuer).Token":          "tokens, for tests",
	"ca/catest.(*Log).sign":              "SCTs, for tests",
}

// users say who may use what leads from a token to a certificate, by its name: call it,
// pass it on as a value, take its address. Whoever else mentions it, anywhere in that
// package, is found. Each name is one of a package, as it is written there.
var users = []struct {
	pkg, name string
	by        []string
}{
	{"ca", "sign", []string{"(*CA).complete"}},                                                              // of a lintedTBS
	{"ca", "complete", []string{"(*CA).Issue"}},                                                             // with a recorded serial number
	{"ca", "lint", []string{"(*CA).Issue", "(*CA).complete"}},                                               // which makes a lintedTBS
	{"ca", "recorded", []string{"(*CA).Issue", "(*CA).complete", "(*lintedTBS).sign", "(*recording).wait"}}, // a type; wait alone makes one
	{"ca", "lintedTBS", []string{"(*CA).complete", "lint"}},                                                 // a type: values, pointers, conversions, copies
	{"ca", "signer", []string{"(*lintedTBS).sign", "NewChain", "type Chain", "create"}},                     // the key itself
	{"ca", "create", []string{"CreateIntermediate", "CreateRoot"}},
	{"ca", "CreateIntermediate", []string{"CreateHierarchy", "SignIntermediate"}},
	{"ca", "Admit", []string{"(*CA).Issue", "type Policy"}},                                                     // of the policy, before all of these
	{"ca/identity", "identity", []string{"(*Verifier).Verify"}},                                                 // of a source, after verify
	{"ca/identity", "Claimed", []string{"(*Verifier).Claimed", "(*Verifier).ClaimedBy", "(*Verifier).claimed"}}, // which is no Identity
	{"ca/identity", "Identity", []string{"(*Verifier).Verify", "(*source).identity"}},
}

// outside say which packages may use a function of package ca that signs something
// else than what it issues.
var outside = map[string][]string{
	"ca.CreateHierarchy":    {"cmd/sigstack", "ca/catest"},
	"ca.CreateIntermediate": nil,
	"ca.SignIntermediate":   {"cmd/sigstack"}, // by a root at hand, for sigstack ca sign
	"ca.CreateRoot":         nil,
}

// A scan is what was found in sources.
type scan struct {
	signs map[string]bool            // functions that use a private key
	used  map[string]map[string]bool // by package and name: who mentions it
	tools []string                   // means by which a type is no protection
}

func newScan() *scan {
	return &scan{signs: map[string]bool{}, used: map[string]map[string]bool{}}
}

func (s *scan) use(what, by string) {
	if s.used[what] == nil {
		s.used[what] = map[string]bool{}
	}
	s.used[what][by] = true
}

// file looks at one file: function bodies and signatures, and what stands outside of
// functions, where a variable may hold a function.
func (s *scan) file(pkg string, file *ast.File) {
	for _, imported := range file.Imports {
		if path := strings.Trim(imported.Path.Value, `"`); (pkg == "ca" || pkg == "ca/identity") && (path == "unsafe" || path == "reflect") {
			s.tools = append(s.tools, pkg+" imports "+path)
		}
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:linkname") {
				s.tools = append(s.tools, pkg+" has "+c.Text)
			}
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			by := functionName(d)
			s.receiver(pkg, by, d)
			s.node(pkg, by, d.Type)
			if d.Body != nil {
				s.node(pkg, by, d.Body)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					s.node(pkg, "type "+spec.Name.Name, spec.Type)
				case *ast.ValueSpec:
					if spec.Type != nil {
						s.node(pkg, "var "+spec.Names[0].Name, spec.Type)
					}
					for _, value := range spec.Values {
						s.node(pkg, "var "+spec.Names[0].Name, value)
					}
				}
			}
		}
	}
}

// receiver looks for a method that changes what it was called on, or a copy of it: that
// would be another value of that type.
func (s *scan) receiver(pkg, by string, f *ast.FuncDecl) {
	if f.Recv == nil || f.Body == nil || len(f.Recv.List[0].Names) == 0 {
		return
	}
	name, typ := f.Recv.List[0].Names[0].Name, strings.Trim(strings.SplitN(by, ")", 2)[0], "(*")
	ours := func(e ast.Expr) bool {
		for {
			switch x := e.(type) {
			case *ast.SelectorExpr:
				e = x.X
			case *ast.IndexExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.Ident:
				return x.Name == name
			default:
				return false
			}
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if slices.ContainsFunc(n.Lhs, ours) {
				s.use(pkg+"."+typ, by)
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND && ours(n.X) {
				s.use(pkg+"."+typ, by)
			}
		}
		return true
	})
}

// node notes every name below n, and every use of a private key.
func (s *scan) node(pkg, by string, n ast.Node) {
	called := map[*ast.SelectorExpr]int{} // with how many arguments
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok {
				called[f] = len(n.Args)
			}
		case *ast.SelectorExpr:
			from, _ := n.X.(*ast.Ident)
			if from != nil {
				if _, known := outside[from.Name+"."+n.Sel.Name]; known && pkg != "ca" {
					s.use("outside "+from.Name+"."+n.Sel.Name, pkg)
				}
			}
			if args, isCall := called[n]; signs(n, from, isCall, args) {
				s.signs[pkg+"."+by] = true
			}
		case *ast.Field: // the name of a field or parameter is no use; its type is
			s.node(pkg, by, n.Type)
			if strings.HasPrefix(by, "type ") {
				for _, name := range n.Names {
					s.use(pkg+"."+name.Name, by)
				}
			}
			return false
		case *ast.Ident:
			s.use(pkg+"."+n.Name, by)
		}
		return true
	})
}

// signs says whether a name uses a private key: crypto.Signer's Sign has three
// arguments, and may be passed on without a call; those of the packages below crypto
// have other names; a library's signer is given the key.
func signs(f *ast.SelectorExpr, from *ast.Ident, isCall bool, args int) bool {
	switch f.Sel.Name {
	case "Sign":
		if from != nil && from.Name == "failpoint" { // the name of a place
			return false
		}
		return !isCall || args == 3 || from != nil && from.Name == "ed25519"
	case "SignASN1", "SignPKCS1v15", "SignPSS", "SignMessage", "CreateCertificate", "CreateCertificateRequest", "CreateRevocationList":
		return true
	case "NewSigner":
		return from != nil && (from.Name == "jose" || from.Name == "ssh")
	}
	return false
}

// judge holds what was found against the tables.
func (s *scan) judge() (wrong []string) {
	for name := range s.signs {
		if signers[name] == "" {
			wrong = append(wrong, name+" uses a private key, and is not in the table of what does")
		}
	}
	for name := range signers {
		if !s.signs[name] {
			wrong = append(wrong, name+" uses no private key any more")
		}
	}
	for _, u := range users {
		if got := slices.Sorted(maps.Keys(s.used[u.pkg+"."+u.name])); !slices.Equal(got, slices.Sorted(slices.Values(u.by))) {
			wrong = append(wrong, fmt.Sprintf("%s.%s is used by %q, want %q", u.pkg, u.name, got, u.by))
		}
	}
	for name, pkgs := range outside {
		for pkg := range s.used["outside "+name] {
			if !slices.Contains(pkgs, pkg) {
				wrong = append(wrong, pkg+" uses "+name)
			}
		}
	}
	return append(wrong, s.tools...)
}

// A source is a file of a package.
type source struct {
	pkg  string
	file *ast.File
}

// moduleSources are the files that make the program.
func moduleSources(t *testing.T) (all []source) {
	t.Helper()
	eachFile(t, func(pkg string, isTest bool, files *token.FileSet, file *ast.File) {
		if isTest || strings.HasPrefix(pkg, "test") || strings.HasPrefix(pkg, "scripts") {
			return
		}
		all = append(all, source{pkg, file})
	})
	return all
}

func scanned(all []source) *scan {
	s := newScan()
	for _, f := range all {
		s.file(f.pkg, f.file)
	}
	return s
}

// TestOneSigner holds the module against these tables: whatever signs, issues or
// makes an identity without being named there is found.
func TestOneSigner(t *testing.T) {
	for _, wrong := range scanned(moduleSources(t)).judge() {
		t.Error(wrong)
	}
}

// TestOneSignerSees adds to the sources, one after the other, what a second way to a
// certificate would look like. Each is found.
func TestOneSignerSees(t *testing.T) {
	sources := moduleSources(t)
	if wrong := scanned(sources).judge(); len(wrong) > 0 {
		t.Fatalf("without an addition: %q", wrong)
	}
	for name, c := range map[string]struct{ pkg, source string }{
		"a call of sign":                    {"ca", `func (c *CA) Again(t *lintedTBS) { t.sign(c.chain, c.rand) }`},
		"a method value":                    {"ca", `func (c *CA) Again() { f := c.last.sign; f(c.chain, c.rand) }`},
		"a method expression":               {"ca", `func again() any { return (*lintedTBS).sign }`},
		"an interface":                      {"ca", `type again interface { sign(*Chain, io.Reader) ([]byte, error) }`},
		"a closure in a variable":           {"ca", `var again = func(der []byte) any { return lint }`},
		"a literal":                         {"ca", `func again() any { return &lintedTBS{der: nil} }`},
		"new":                               {"ca", `func again(der []byte) { t := new(lintedTBS); t.der = der }`},
		"an elided literal":                 {"ca", `func again(der []byte) any { return []lintedTBS{{der: der}} }`},
		"a conversion":                      {"ca", `func again(x twin) any { return lintedTBS(x) }`},
		"another name for the type":         {"ca", `type again = lintedTBS`},
		"a type around it":                  {"ca", `type again struct { lintedTBS }`},
		"a type parameter":                  {"ca", `func again[T lintedTBS]() (t T) { return t }`},
		"a change through the receiver":     {"ca", `func (t *lintedTBS) again(der []byte) *any { t.der = der; return nil }`},
		"the key, used":                     {"ca", `func (c *Chain) Again(d []byte) { c.signer.Sign(nil, d, nil) }`},
		"the key, passed on":                {"ca", `func (c *Chain) Again() crypto.Signer { return c.signer }`},
		"the key's method as a value":       {"ca", `func (c *Chain) Again() any { return c.signer.Sign }`},
		"a certificate by crypto/x509":      {"ca", `func again(k crypto.Signer) { x509.CreateCertificate(nil, nil, nil, nil, k) }`},
		"its function as a value":           {"ca", `var again = x509.CreateCertificate`},
		"the CA's own certificates":         {"ca", `func Again() { create(nil, nil, nil, nil) }`},
		"an intermediate, elsewhere":        {"api/fulcio", `func again() { ca.CreateIntermediate(pkix.Name{}, nil, nil, nil, time.Time{}) }`},
		"an intermediate, as a value":       {"cmd/sigstack", `var again = ca.CreateIntermediate`},
		"a hierarchy for a request":         {"api/fulcio", `func again() { ca.CreateHierarchy("x", nil, nil, time.Time{}) }`},
		"a signature elsewhere":             {"api/fulcio", `func again(k crypto.Signer, d []byte) { k.Sign(nil, d, nil) }`},
		"a signature of Ed25519":            {"cmd/sigstack", `func again(k ed25519.PrivateKey, d []byte) { ed25519.Sign(k, d) }`},
		"a library that signs":              {"cmd/sigstack", `func again(k any) { jose.NewSigner(k) }`},
		"an identity without verification":  {"ca/identity", `func (s *source) Again(t token) { s.identity(t) }`},
		"the mapping as a value":            {"ca/identity", `var again = (*source).identity`},
		"a made identity":                   {"ca/identity", `func again() any { return Identity{issuer: "x"} }`},
		"a changed copy of an identity":     {"ca/identity", `func (i Identity) As(subject string) any { i.subject = subject; return i }`},
		"an identity given out to a writer": {"ca/identity", `func (i *Identity) Again() any { return &i.subject }`},
		"an identity as a parameter":        {"ca/identity", `func again(i *Identity) { i.issuer = "x" }`},
		"an identity from JSON":             {"ca/identity", `func again(b []byte) (i Identity) { json.Unmarshal(b, &i); return }`},
		"unsafe":                            {"ca/identity", "import \"unsafe\"\nfunc again(p *int) unsafe.Pointer { return unsafe.Pointer(p) }"},
		"a link name":                       {"ca", "//go:linkname again other\nfunc again()"},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "doctored.go", "package doctored\n"+c.source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(scanned(append(slices.Clip(sources), source{c.pkg, file})).judge()) == 0 {
			t.Errorf("%s is not seen: %s", name, c.source)
		}
	}
}

// functionName is the name of a function, with its receiver.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver, pointer := f.Recv.List[0].Type, false
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver, pointer = star.X, true
	}
	switch r := receiver.(type) { // a type with parameters is named without them
	case *ast.IndexExpr:
		receiver = r.X
	case *ast.IndexListExpr:
		receiver = r.X
	}
	name := "?"
	if ident, ok := receiver.(*ast.Ident); ok {
		name = ident.Name
	}
	if pointer {
		name = "*" + name
	}
	return "(" + name + ")." + f.Name.Name
}
