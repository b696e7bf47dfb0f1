package test

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// parsers is every parser of bytes that come from outside, and the fuzz target
// that holds it to its promises: no panic, an allocation budget, one spelling
// of what is hashed or signed, agreement with another implementation where
// there is one. A new parser needs a row, and a new target too.
var parsers = []struct {
	reads  string // what
	pkg    string
	target string
	by     string // the functions whose names say that they parse
}{
	{"X-Request-Id of a request", "api", "FuzzRequestID", ""},
	{"X-Forwarded-For and Forwarded", "api", "FuzzClient", "parseAddr"},

	{"files of tokens", "api/writes", "FuzzParseTokens", "ParseTokens"},

	{"bodies of add-chain and add-pre-chain", "api/ctlog", "FuzzParseChain", "parseChain UnmarshalJSON"},
	{"paths and parameters of the CT log's GETs", "api/ctlog", "FuzzGet", ""},

	{"requests to the development issuer, as a whole", "api/devoidc", "FuzzRequests", ""},
	{"forms and queries of the development issuer", "api/devoidc", "FuzzParseForm", "parseForm"},
	{"redirect URIs of the development issuer", "api/devoidc", "FuzzRedirect", "parseRedirect"},
	{"e-mail addresses for the development issuer", "api/devoidc", "FuzzEmail", ""},
	{"the base URL of the development issuer", "api/devoidc", "FuzzBaseURL", "parseBaseURL"},

	{"requests for certificates as JSON, and their Authorization", "api/fulcio", "FuzzHTTP", ""},
	{"requests for certificates as gRPC messages", "api/fulcio", "FuzzGRPC", ""},

	{"searches", "api/rekorv1", "FuzzParseQuery", "parseQuery readDocument readArray"},
	{"requests for entries", "api/rekorv1", "FuzzParseRetrieve", "parseRetrieve"},
	{"paths and parameters of Rekor's GETs", "api/rekorv1", "FuzzGet", ""},
	{"Content-Type and Accept", "api/rekorv1", "FuzzMediaTypes", ""},

	{"searches with pages", "api/search", "FuzzSearch", "parse"},

	{"paths of the TUF repository", "api/tuf", "FuzzPath", ""},

	{"public keys for certificates", "ca", "FuzzParsePublicKey", "ParsePublicKey"},
	{"certificate requests", "ca", "FuzzParseCSR", "ParseCSR"},
	{"requests for an intermediate", "ca", "FuzzIntermediateRequest", "parseIntermediateRequest"},
	{"TBSCertificates", "ca", "FuzzSplit", "split"},
	{"a certificate against its precertificate", "ca", "FuzzCorrespond", ""},
	{"SCTs of the CT log", "ca", "FuzzSCT", "parseSCT"},
	{"lists of SCTs", "ca", "FuzzSCTList", "parseSCTList"},

	{"the extensions of a certificate", "ca/ext", "FuzzParse", "Parse decode"},
	{"the subject alternative name of a certificate", "ca/ext", "FuzzParseSAN", "ParseSAN"},

	{"identity tokens", "ca/identity", "FuzzParseToken", "parseToken"},
	{"claims", "ca/identity", "FuzzClaims", "parseObject"},
	{"discovery documents", "ca/identity", "FuzzDiscovery", "Read"},
	{"JWK Sets", "ca/identity", "FuzzParseKeys", "parseKeys"},
	{"patterns of issuers, and what they match", "ca/identity", "FuzzPattern", ""},
	{"templates over claims", "ca/identity", "FuzzTemplate", ""},

	{"claims, for rules over them", "ca/policy", "FuzzClaims", "decodeClaims"},
	{"expressions of rules", "ca/policy", "FuzzExpression", ""},

	{"the configuration file", "cmd/sigstack", "FuzzConfig", ""},
	{"the configuration file, of any length", "cmd/sigstack", "FuzzConfigFile", "parseConfigFile parseTree parseJSON"},
	{"cases for sigstack policy test", "cmd/sigstack", "FuzzCases", "parseCases"},
	{"what an ACME server says of a failure", "cmd/sigstack", "FuzzACMEProblem", "parseACMEProblem"},
	{"the CAs of client certificates", "cmd/sigstack", "FuzzClientCAs", "parseClientCAs"},
	{"the list of blocked keys", "cmd/sigstack", "FuzzBlockedKeys", "parseBlockedKeys"},
	{"the file with the CA's certificates", "cmd/sigstack", "FuzzCertificates", "readChainFile parseChainFile"},
	{"the list of the transparency log's keys", "cmd/sigstack", "FuzzShards", "parseShards"},
	{"the trust root that fsck is given", "cmd/sigstack", "FuzzTrustedRoot", ""},

	{"what another server says of its log", "tlog/migrate", "FuzzLog", "parseLog"},
	{"entries of another server", "tlog/migrate", "FuzzEntries", "parseEntries parseEntry"},
	{"the key of another server", "tlog/migrate", "FuzzKey", "parseKey"},

	{"tiles of Trillian's", "storage/mysql", "FuzzSubtree", "parseSubtree parseSubtreeLeaf"},

	{"the second memory", "tlog", "FuzzMemory", "openMemory"},

	{"signed notes", "tlog/checkpoint", "FuzzOpen", "Open parseSignature"},
	{"the text of checkpoints", "tlog/checkpoint", "FuzzParse", "Parse"},

	{"MerkleTreeLeaf structures", "tlog/ct", "FuzzParseLeaf", "ParseLeaf"},
	{"SCTs as the log writes them", "tlog/ct", "FuzzParseSCT", "ParseSCT"},
	{"what is stored beside a leaf", "tlog/ct", "FuzzSplitExtra", "splitExtra"},
	{"TBSCertificates of precertificates", "tlog/ct", "FuzzRemovePoison", ""},
	{"certificate chains", "tlog/ct", "FuzzCheckChain", ""},

	{"proposed entries of every kind", "tlog/entry", "FuzzPropose", "readDigest readVerifiers readEnvelope readRekord readHashedRekord readInToto001 readInToto002 readCOSE decodeBase64 decodePayload readPackageSpec readPublicKey readAlpine readRPM readHelm readTimestamp readTUF readTUFContent"},
	{"COSE_Sign1 messages", "tlog/entry", "FuzzCOSE", "parseCOSE"},
	{"canonical bodies", "tlog/entry", "FuzzKeys", "readBody readKeys"},
	{"search keys that are kept beside an entry", "tlog/entry", "FuzzStoredKeys", "readExtra"},
	{"TUF root metadata", "tlog/entry", "FuzzTUFRoot", "readTUFRoot readTUFMetadata readTUFSignature readTUFRole readTUFKey"},
	{"Java archives", "tlog/entry", "FuzzJar", "readArchive splitSections parseSection"},
	{"JSON, strictly", "tlog/entry", "FuzzJSON", ""},
	{"packages of Alpine Linux", "tlog/entry", "FuzzAPK", "readAPK"},
	{"the .PKGINFO of a package", "tlog/entry", "FuzzPkginfo", "parsePkginfo"},
	{"RPM packages", "tlog/entry", "FuzzRPM", "readRPMFile readRPMHeader"},
	{"provenance files of Helm", "tlog/entry", "FuzzProvenance", "parseProvenance"},

	{"x509 keys and chains", "tlog/entry/sigkey", "FuzzKeyX509", "ParseKey ParseX509 parsePKIX parseChain"},
	{"pgp key rings", "tlog/entry/sigkey", "FuzzKeyPGP", "parsePGPKey"},
	{"minisign keys", "tlog/entry/sigkey", "FuzzKeyMinisign", "parseMinisignKey"},
	{"ssh keys", "tlog/entry/sigkey", "FuzzKeySSH", "parseSSHKey parseSSHWireKey"},
	{"x509 signatures", "tlog/entry/sigkey", "FuzzSignatureX509", "ParseSignature parseX509Signature"},
	{"PKCS #7 signatures and timestamps", "tlog/entry/sigkey", "FuzzPKCS7", "ParsePKCS7 parseSignedData readCertificates parseSignerInfo readOptional readAttribute"},
	{"pgp signatures", "tlog/entry/sigkey", "FuzzSignaturePGP", "parsePGPSignature readSignaturePacket"},
	{"texts signed by pgp", "tlog/entry/sigkey", "FuzzClearSigned", "ParseClearSigned ParsePGPPacket"},
	{"minisign signatures", "tlog/entry/sigkey", "FuzzSignatureMinisign", "parseMinisignSignature"},
	{"ssh signatures", "tlog/entry/sigkey", "FuzzSignatureSSH", "parseSSHSignature"},

	{"what a webhook says of the next attempt", "tlog/events", "FuzzRetryAfter", "parseRetryAfter"},
	{"the cursor of a sink of events", "tlog/events", "FuzzCursor", "parseCursor"},

	{"entries of a CT log, for fsck", "tlog/fsck", "FuzzCTEntry", "parseLeaf parseExtra"},
	{"audit rows, for fsck", "tlog/fsck", "FuzzAuditRecord", "parseAuditRecord UnmarshalText"},
	{"TBSCertificates, for fsck", "tlog/fsck", "FuzzTBS", "parseTBS"},
	{"checkpoints, for fsck", "tlog/fsck", "FuzzNote", "openNote"},
	{"the second memory, for fsck", "tlog/fsck", "FuzzMemory", "open"},
	{"the public key of a log, for fsck", "tlog/fsck", "FuzzPublicKey", "parseKey"},
	{"entries of Rekor, for fsck", "tlog/fsck", "FuzzRekorAnswer", "unmarshal"},
	{"all answers of Rekor, for fsck", "tlog/fsck", "FuzzRekorAnswers", "decode decodeHashes"},
	{"all answers of a CT log, for fsck", "tlog/fsck", "FuzzCTAnswers", ""},

	{"entry UUIDs", "tlog/rekor", "FuzzParseID", "ParseID"},

	{"tile paths", "tlog/tile", "FuzzPath", "ParsePath"},
	{"entry bundles", "tlog/tile", "FuzzEntries", "ParseEntries"},
	{"hash tiles", "tlog/tile", "FuzzHashes", "ParseHashes"},

	{"TUF metadata and documents", "trust", "FuzzParse", "parseRoot parseTimestamp parseSnapshot parseTargets parseOwn parseSigningConfig parseDocument"},
	{"the trusted root, read and published again", "trust", "FuzzTrustedRoot", "parseTrustedRoot"},
	{"names of metadata files", "trust", "FuzzVersioned", "parseVersioned"},
	{"the repository's directory", "trust", "FuzzRepository", "OpenRepository openRepository loadRole read"},

	{"key files", "trust/keys", "FuzzParse", "parse decode"},
	{"paths in URIs of keys", "trust/keys", "FuzzFilePath", ""},
	{"URIs of keys, of every scheme", "trust/keys", "FuzzURI", "parsePKCS11 splitTink splitFile"},
	{"encrypted key files", "trust/keys", "FuzzPBES2", "parsePBES2"},
	{"Tink keysets", "trust/keys", "FuzzTink", "parseTink"},
}

// notOutside are functions whose names say that they parse, but which read
// nothing that comes from outside by themselves.
var notOutside = map[string]string{
	"cmd/sigstack.parseNetwork":        "FuzzConfig reads the file, by loadConfig",
	"cmd/sigstack.openLog":             "opens a log by its name",
	"storage/mysql.OpenPatiently":      "the driver reads the DSN, which the operator writes",
	"storage/mysql.open":               "the driver reads the DSN, which the operator writes",
	"storage/mysql.Open":               "the driver reads the DSN, which the operator writes",
	"storage/mysql.Read":               "returns the bytes of a connection; the driver reads them",
	"storage/sqlite.Open":              "SQLite reads the file",
	"storage/sqlite.OpenAudit":         "SQLite reads the file",
	"storage/sqlite.openDB":            "SQLite reads the file",
	"storage/sqlite.splitHashes":       "cuts a column that this package wrote; fsck checks it",
	"cmd/sigstack.readAtMost":          "returns the bytes of a file",
	"cmd/sigstack.readSecret":          "returns the text of a file",
	"cmd/sigstack.readBounded":         "returns the bytes of a file",
	"cmd/sigstack.openOrMake":          "opens a key by keys.Open",
	"trust.OpenShared":                 "opens the repository by OpenRepository",
	"trust.readFiles":                  "returns the bytes of files; FuzzRepository reads them",
	"cmd/sigstack.openKey":             "opens a key by its URI",
	"cmd/sigstack.openCAKey":           "opens a key by its URI",
	"tlog/events.openLines":            "returns a file to append to",
	"trust/keys.Open":                  "FuzzURI reads the URI, FuzzParse the file",
	"trust/keys.OpenWith":              "FuzzURI reads the URI, FuzzParse the file",
	"trust/keys.openFileURI":           "FuzzURI reads the URI, FuzzParse the file",
	"trust/keys.openAWS":               "the driver reads the URI",
	"trust/keys.openGCP":               "the driver reads the URI",
	"trust/keys.openAzure":             "the driver reads the URI",
	"trust/keys.openVault":             "the driver reads the URI",
	"trust/keys.openPKCS11":            "FuzzURI reads the URI",
	"trust/keys.openTink":              "FuzzURI reads the URI, FuzzTink the file",
	"trust/keys.OpenOrCreate":          "FuzzParse reads the file",
	"trust/keys.openFile":              "FuzzParse reads the file",
	"trust/keys.ReadFile":              "returns the bytes of a file",
	"trust/keys.ReadFileAtMost":        "returns the bytes of a file",
	"cmd/sigstack.loadFile":            "reads a file by readConfig",
	"cmd/sigstack.readConfig":          "FuzzConfig reads the file, by loadConfig",
	"cmd/sigstack.openConfigFile":      "FuzzConfigFile reads the bytes",
	"cmd/sigstack.openCases":           "FuzzCases reads the bytes",
	"storage/bucket.Open":              "opens a bucket by its URL",
	"storage/bucket.parse":             "net/url reads the URL, which the operator writes",
	"storage/bucket.read":              "returns the bytes of an object; their hash is compared",
	"storage/mysql.OpenAs":             "opens a log by its name",
	"storage/sqlite.OpenAs":            "SQLite reads the file",
	"storage/sqlite.OpenReadOnly":      "SQLite reads the file",
	"storage/sqlite.OpenAuditReadOnly": "SQLite reads the file",
	"storage/sqlite.open":              "SQLite reads the file",
	"storage/sqlite.openReadOnly":      "SQLite reads the file",
	"trust.ReadFiles":                  "returns the bytes of files; FuzzRepository reads them",
}

// parserName is what functions that parse are called.
var parserName = regexp.MustCompile(`^(?i:parse|unmarshal|open|read|decode|split|load)`)

func TestEveryParserIsFuzzed(t *testing.T) {
	covered, wanted := map[string]bool{}, map[string]bool{}
	for _, p := range parsers {
		for name := range strings.FieldsSeq(p.by) {
			covered[p.pkg+"."+name] = true
		}
		if key := p.pkg + "." + p.target; wanted[key] {
			t.Errorf("%s has two rows", key)
		} else {
			wanted[key] = true
		}
	}
	found := map[string]bool{} // functions outside of tests; true for those that parse
	targets := map[string]token.Position{}
	calls := map[string][]string{} // of functions in tests: what they call
	eachFile(t, func(pkg string, isTest bool, files *token.FileSet, file *ast.File) {
		if fits("test/...", pkg) || ast.IsGenerated(file) {
			return
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			key := pkg + "." + fn.Name.Name
			switch {
			case isTest:
				calls[key] = append(calls[key], callsOf(pkg, fn)...)
				if fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") {
					targets[key] = files.Position(fn.Pos())
				}
			default:
				parses := parserName.MatchString(fn.Name.Name) && takesBytes(fn)
				found[key] = found[key] || parses
				if !parses {
					continue
				}
				if !covered[key] && notOutside[key] == "" {
					t.Errorf("%s: %s is a parser without a row in the table of fuzz targets", files.Position(fn.Pos()), key)
				}
			}
		}
	})
	for key := range covered {
		if _, ok := found[key]; !ok {
			t.Errorf("the table of fuzz targets names %s, which does not exist", key)
		}
	}
	for key := range notOutside {
		if !found[key] || covered[key] {
			t.Errorf("notOutside names %s, which is no parser or has a target", key)
		}
	}
	for key := range wanted {
		if _, ok := targets[key]; !ok {
			t.Errorf("the table of fuzz targets names %s, which does not exist", key)
		}
	}
	for key, at := range targets {
		if !wanted[key] {
			t.Errorf("%s: %s is not in the table of fuzz targets", at, key)
		}
		if !reaches(calls, key, "fuzz.Run", "fuzz.RunWith") {
			t.Errorf("%s: %s has no allocation budget; its body is to be fuzz.Run", at, key)
		}
	}
}

// takesBytes reports whether a function has a parameter of bytes or text.
func takesBytes(fn *ast.FuncDecl) bool {
	return slices.ContainsFunc(fn.Type.Params.List, func(p *ast.Field) bool {
		switch kind := p.Type.(type) {
		case *ast.ArrayType:
			e, ok := kind.Elt.(*ast.Ident)
			return ok && e.Name == "byte"
		case *ast.Ident:
			return kind.Name == "string" || kind.Name == "value" // tlog/entry: the text of a JSON value
		}
		return false
	})
}

// callsOf returns the functions that a function calls: "fuzz.Run", or
// "pkg.name" for those of its own package.
func callsOf(pkg string, fn *ast.FuncDecl) []string {
	var out []string
	ast.Inspect(fn, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch f := call.Fun.(type) {
		case *ast.Ident:
			out = append(out, pkg+"."+f.Name)
		case *ast.SelectorExpr:
			if of, ok := f.X.(*ast.Ident); ok {
				out = append(out, of.Name+"."+f.Sel.Name)
			}
		}
		return true
	})
	return out
}

// reaches reports whether a function calls one of some others, by itself or
// through the tests of its package.
func reaches(calls map[string][]string, from string, to ...string) bool {
	seen := map[string]bool{}
	for next := []string{from}; len(next) > 0; {
		key := next[len(next)-1]
		next = next[:len(next)-1]
		if slices.Contains(to, key) {
			return true
		}
		if !seen[key] {
			seen[key] = true
			next = append(next, calls[key]...)
		}
	}
	return false
}
