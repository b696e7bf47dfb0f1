// Package test checks rules that hold for the whole module: who may import
// whom, where configuration is read, and that every package says what it is.
package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sigstack/sigstack/"

// imports says which packages of this module a package may import outside of
// its tests. The first row that fits a package counts, and a package that no
// row fits is an error. "x/..." is x and everything below.
//
// The direction is cmd -> api -> {ca, tlog/rekor, tlog/ct, tsa, trust} -> {tlog,
// pure packages}; storage -> tlog for its types.
var imports = []struct {
	from string
	to   []string
}{
	{"cmd/...", []string{"api/...", "ca/...", "proto/...", "storage/...", "tlog/...", "trust/...", "tsa/..."}},
	{"scripts/...", nil}, // programs for whoever works on the module
	{"test/...", []string{"test/..."}},

	// Package api maps errors of every domain to statuses, so it knows their
	// sentinels. It knows no wire protocol.
	{"api", []string{"api/writes", "ca", "ca/identity", "ca/policy", "tlog", "tlog/ct", "tlog/entry", "tlog/rekor", "tlog/witness", "trust", "tsa"}},
	{"api/writes", []string{"ca/ext", "ca/limit", "tlog/entry"}},
	{"api/devoidc", nil},
	{"api/ops", []string{"api"}},
	{"api/fulcio", []string{"api", "ca", "ca/identity", "ca/policy", "ca/ext", "proto/..."}},
	{"api/ctlog", []string{"api", "tlog", "tlog/ct"}},
	{"api/rekorv1", []string{"api", "api/writes", "ca/limit", "tlog", "tlog/rekor", "tlog/entry/..."}},
	{"api/search", []string{"api", "tlog", "tlog/rekor", "tlog/entry"}},
	{"api/rekorv2", []string{"api", "proto/...", "tlog", "tlog/checkpoint", "tlog/entry/...", "tlog/rekor", "tlog/tile"}},
	{"api/tsa", []string{"api", "tsa"}},
	{"api/tuf", []string{"api", "trust"}},
	{"api/web", []string{"api", "ca/ext", "tlog", "tlog/entry/...", "tlog/rekor", "trust"}},
	{"proto/...", nil},

	{"ca", []string{"ca/ext", "ca/identity"}},
	{"ca/catest", []string{"ca", "ca/ext", "ca/identity"}},
	{"ca/identity", []string{"ca/ext"}},
	{"ca/policy", []string{"ca/ext", "ca/identity", "ca/limit"}},
	{"ca/limit", nil},
	{"ca/ext", nil},
	{"tsa", nil},
	{"trust", nil},
	{"trust/keys", nil},

	{"tlog", []string{"tlog/checkpoint", "tlog/failpoint", "tlog/tile"}},
	{"tlog/failpoint", nil},
	{"tlog/tlogtest", []string{"tlog", "tlog/checkpoint", "tlog/tile"}},
	{"tlog/checkpoint", nil},
	{"tlog/tile", nil},
	{"tlog/entry", []string{"tlog/entry/sigkey"}},
	{"tlog/entry/sigkey", nil},
	{"tlog/rekor", []string{"tlog", "tlog/checkpoint", "tlog/entry", "tlog/tile"}},
	{"tlog/ct", []string{"tlog", "tlog/checkpoint", "tlog/tile"}},
	{"tlog/migrate", []string{"tlog", "tlog/checkpoint", "tlog/entry", "tlog/rekor"}},
	{"tlog/events", []string{"tlog/entry", "tlog/rekor"}},
	{"tlog/witness", []string{"tlog/checkpoint"}},
	// The checker shares nothing with the writer but the wire formats: it never
	// imports tlog.
	{"tlog/fsck", []string{"tlog/checkpoint", "tlog/tile"}},

	{"storage/audit", nil},
	{"storage/...", []string{"storage/audit", "tlog", "tlog/failpoint"}},
}

// elsewhere says which packages of this module may import packages of other
// modules. What is not named here is free. Tests are not bound by it.
var elsewhere = []struct {
	imported string
	by       []string
	why      string
}{
	{"github.com/sigstore/rekor/...", nil, "it is one of the servers that this module replaces"},
	{"github.com/sigstore/rekor-tiles/...", nil, "it is one of the servers that this module replaces"},
	{"github.com/sigstore/fulcio/...", nil, "it is one of the servers that this module replaces"},
	{"github.com/sigstore/timestamp-authority/...", nil, "it is one of the servers that this module replaces"},
	{"github.com/google/certificate-transparency-go/...", nil, "it is one of the servers that this module replaces"},
	{"github.com/google/trillian/...", []string{"storage/mysql"}, "Trillian is one storage"},
	{"github.com/go-sql-driver/mysql/...", []string{"storage/mysql", "test/harness"}, "MySQL is one storage"},
	// The checker reads a data directory without the code that wrote it.
	{"modernc.org/sqlite/...", []string{"storage/sqlite", "tlog/fsck", "test/harness"}, "SQLite is one storage"},
	{"gocloud.dev/...", []string{"storage/bucket"}, "buckets are one place for attestations"},
	{"github.com/spf13/...", []string{"cmd/..."}, "only cmd reads configuration and flags"},
	{"flag", []string{"cmd/...", "scripts/..."}, "only commands read flags"},
	{"cel.dev/...", []string{"ca/policy"}, "expressions are the policy's"},
	{"github.com/veraison/go-cose", []string{"tlog/entry"}, "COSE messages are one kind of entry"},
	{"github.com/fxamacker/cbor/...", nil, "go-cose reads CBOR"},
	{"google.golang.org/grpc/...", []string{"api/...", "cmd/...", "proto/...", "test/keystore"}, "generated types stop in api"},
	{"github.com/sigstore/sigstore/pkg/signature/kms/...", []string{"trust/keys"}, "only trust/keys opens keys"},
	{"github.com/tink-crypto/...", []string{"trust/keys"}, "only trust/keys opens keys"},
	{"github.com/miekg/pkcs11", []string{"trust/keys"}, "only trust/keys opens keys"},
	{"github.com/aws/...", []string{"trust/keys"}, "only trust/keys opens keys"},
	{"cloud.google.com/...", []string{"trust/keys", "test/keystore"}, "only trust/keys opens keys"},
	{"google.golang.org/api/...", []string{"trust/keys"}, "only trust/keys opens keys"},
	{module + "cmd/...", nil, "nobody imports cmd"},
}

// environment are the functions that read the environment: for cmd alone, and
// for the failpoints, which are not in an ordinary build.
var environment = map[string]bool{
	"os.Getenv": true, "os.LookupEnv": true, "os.Environ": true, "os.ExpandEnv": true,
	"syscall.Getenv": true, "syscall.Environ": true,
}

func TestImports(t *testing.T) {
	eachFile(t, func(pkg string, isTest bool, files *token.FileSet, file *ast.File) {
		if isTest {
			return
		}
		row := -1
		for i, r := range imports {
			if fits(r.from, pkg) {
				row = i
				break
			}
		}
		if row < 0 {
			t.Errorf("%s: package %s has no row in the table of allowed imports", files.Position(file.Package), pkg)
			return
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			at := files.Position(spec.Pos())
			if own, ok := strings.CutPrefix(imported, module); ok && !fitsAny(imports[row].to, own) {
				t.Errorf("%s: %s must not import %s", at, pkg, own)
			}
			for _, rule := range elsewhere {
				if fits(rule.imported, imported) && !fitsAny(rule.by, pkg) {
					t.Errorf("%s: %s must not import %s: %s", at, pkg, imported, rule.why)
				}
			}
			if spec.Name != nil && spec.Name.Name == "_" && !registers(imported) && !ast.IsGenerated(file) {
				t.Errorf("%s: %s registers %s by a blank import", at, pkg, imported)
			}
		}
	})
}

// registers reports whether a blank import is the only way to use a package:
// a driver of database/sql, the hash functions behind crypto.Hash, and embed, which
// is for the compiler.
func registers(imported string) bool {
	return imported == "modernc.org/sqlite" || imported == "embed" || strings.HasPrefix(imported, "crypto/")
}

func TestEnvironmentAndInit(t *testing.T) {
	eachFile(t, func(pkg string, isTest bool, files *token.FileSet, file *ast.File) {
		if isTest || fits("test/...", pkg) || ast.IsGenerated(file) {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.FuncDecl:
				if node.Recv == nil && node.Name.Name == "init" {
					t.Errorf("%s: %s has an init function", files.Position(node.Pos()), pkg)
				}
			case *ast.SelectorExpr:
				of, ok := node.X.(*ast.Ident)
				if ok && environment[of.Name+"."+node.Sel.Name] && !fits("cmd/...", pkg) && pkg != "tlog/failpoint" {
					t.Errorf("%s: %s reads the environment, which only cmd does", files.Position(node.Pos()), pkg)
				}
			}
			return true
		})
	})
}

func TestPackageComments(t *testing.T) {
	var order []string
	comment := map[string]string{}
	onlyTests := map[string]bool{}
	text := map[string]string{} // of test files
	eachFile(t, func(pkg string, isTest bool, _ *token.FileSet, file *ast.File) {
		if _, ok := comment[pkg]; !ok {
			order, comment[pkg], onlyTests[pkg] = append(order, pkg), "", true
		}
		if isTest {
			text[pkg] += file.Doc.Text()
			return
		}
		onlyTests[pkg] = false
		comment[pkg] += file.Doc.Text()
	})
	for _, pkg := range order {
		doc := comment[pkg]
		if onlyTests[pkg] {
			doc = text[pkg]
		}
		if !strings.HasPrefix(doc, "Package ") && !strings.HasPrefix(doc, "Command ") {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

// fits reports whether a package is what a pattern of the tables names.
func fits(pattern, pkg string) bool {
	tree, ok := strings.CutSuffix(pattern, "/...")
	return pkg == tree || ok && strings.HasPrefix(pkg, tree+"/")
}

func fitsAny(patterns []string, pkg string) bool {
	for _, pattern := range patterns {
		if fits(pattern, pkg) {
			return true
		}
	}
	return false
}

// eachFile parses every Go file of the module, whatever its build constraints.
// Pkg is the folder of the file relative to the module.
func eachFile(t *testing.T, visit func(pkg string, isTest bool, files *token.FileSet, file *ast.File)) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			// The same folders as "./..." of the go command.
			if base != ".." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(base) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parsing %s: %w", name, err)
		}
		pkg, err := filepath.Rel("..", filepath.Dir(name))
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(pkg), strings.HasSuffix(base, "_test.go"), files, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
