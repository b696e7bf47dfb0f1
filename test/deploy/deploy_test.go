// Package deploy carries out docker-compose.yml and deploy/Dockerfile without a
// container engine: the compose file is read by the library of the engines, the
// steps of the Dockerfile are run here, and the services of our image are run in
// namespaces, as the user of the image, with the files, the environment and the
// commands that the compose file gives them, over a real database. What it cannot
// show is what the images of others do: MariaDB's, and the base of the build.
//
// It needs root, for mounts and namespaces.
package deploy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/sigstack/sigstack/test/harness"
)

// How clients reach the replicas of these tests.
const (
	publicHost = "sigstore.example.com"
	publicURL  = "http://" + publicHost + ":8080"
)

// checkout copies what git knows of the module.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	copyContext(t, dir)
	return dir
}

// load reads the compose file of a checkout, with all profiles. It is checked
// against the schema of the Compose Specification.
func load(t *testing.T, dir string, env types.Mapping) (*types.Project, error) {
	t.Helper()
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml")}},
		Environment: env,
	}, loader.WithProfiles([]string{"*"}))
}

// TestComposeFile reads what the file promises off it.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	if _, err := load(t, dir, nil); err == nil || !strings.Contains(err.Error(), ".env") {
		t.Errorf("without SIGSTACK_URL: %v, want an error that says what to do", err)
	}
	project, err := load(t, dir, types.Mapping{"SIGSTACK_URL": publicURL})
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]bool{}
	pinned := regexp.MustCompile(`:[0-9]+\.[0-9]+\.[0-9]+$`)
	for name, s := range project.Services {
		images[s.Image] = true
		ours := s.Build != nil
		if !ours && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %s is not pinned", name, s.Image)
		}
		if ours && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") ||
			s.User != "" || s.Privileged || len(s.CapAdd) > 0) {
			t.Errorf("%s has more rights than it needs", name)
		}
		for _, v := range s.Volumes {
			if v.Source == "keys" && v.ReadOnly == (name == "init") {
				t.Errorf("%s can write to the keys: %v", name, !v.ReadOnly)
			}
		}
		if s.Restart != "" && s.HealthCheck == nil {
			t.Errorf("%s runs for long and has no health check", name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" || p.Target != 8080 {
				t.Errorf("%s publishes %s:%s for its port %d", name, p.HostIP, p.Published, p.Target)
			}
		}
		for key, value := range s.Environment {
			if value == nil {
				t.Errorf("%s takes %s from the environment of whoever runs it", name, key)
			} else if strings.Contains(key, "PASSWORD") && !strings.HasPrefix(*value, "/run/secrets/") {
				t.Errorf("%s is given %s=%s, which is no file of a secret", name, key, *value)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeVolume && v.Source == "" {
				t.Errorf("%s keeps %s in a volume without a name", name, v.Target)
			}
		}
	}
	if len(images) != 2 {
		t.Errorf("there are the images %v, want ours and a database", images)
	}
	ignored, err := os.ReadFile(filepath.Join(dir, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range project.Secrets {
		file, err := filepath.Rel(dir, s.File)
		if err != nil || filepath.Dir(file) != "deploy/secrets" {
			t.Errorf("the secret %s is in %q", name, s.File)
		}
		check := exec.Command("git", "check-ignore", "--quiet", file)
		check.Dir = harness.Root(t)
		if err := check.Run(); err != nil {
			t.Errorf("git does not ignore %s: %v", file, err)
		}
	}
	if !slices.Contains(strings.Split(string(ignored), "\n"), "deploy/secrets") {
		t.Error("the secrets are sent to whoever builds the image")
	}
}

// TestUp does what docs/deploy.md says: passwords, a first start, a second one, a
// rolling restart, and a look by the checker. Then the database goes and comes
// back.
func TestUp(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	project, err := load(t, dir, types.Mapping{"SIGSTACK_URL": publicURL})
	if err != nil {
		t.Fatal(err)
	}
	image := buildImage(t, filepath.Join(dir, "deploy", "Dockerfile"))
	image.check(t)
	makeSecrets(t, project, image)
	database, password := startDatabase(t, project)
	e := &engine{t: t, project: project, image: image, volumes: map[string]string{}, database: database.Addr}

	initial := e.create("init")
	initial.start()
	if code := initial.main.Wait(limit); code != 0 || !strings.Contains(initial.main.Output(), "/var/lib/sigstack/keys/ca-chain.pem") {
		t.Fatalf("init exits with %d:\n%s", code, initial.main.Output())
	}
	a, b := e.create("sigstack-a"), e.create("sigstack-b")
	replicas := []*container{a, b}
	if ok, output := a.healthy(); ok || !strings.Contains(output, "refused") {
		t.Fatalf("before its start: healthy %v, %q", ok, output)
	}
	var output []*harness.Process
	up := func(c *container) {
		c.start()
		output = append(output, c.main)
		c.wait(true)
	}
	a.start() // both at once: an engine does not wait in between
	output = append(output, a.main)
	up(b)
	a.wait(true)
	for _, c := range replicas {
		c.checkProcess()
	}
	if root := get(t, b, "/tuf/targets/trusted_root.json"); !strings.Contains(root, `"`+publicURL+`"`) {
		t.Errorf("the trust root does not name %s: %s", publicURL, root)
	}

	first := upload(t, a)
	if !strings.Contains(get(t, b, "/api/v1/log/entries/"+first), first) {
		t.Error("the other replica does not have the entry")
	}

	// A second "up", after the roots' keys went offline: nothing is made again.
	for _, key := range []string{"ca-root.pem", "tuf-root.pem"} {
		if err := os.Remove(filepath.Join(e.volumes["keys"], key)); err != nil {
			t.Fatal(err)
		}
	}
	again := e.create("init")
	again.start()
	if code := again.main.Wait(limit); code != 0 || again.main.Output() != "" {
		t.Errorf("init again: exit code %d, %q", code, again.main.Output())
	}

	// A rolling restart, with new containers as after an upgrade.
	for i, name := range []string{"sigstack-a", "sigstack-b"} {
		other := replicas[1-i]
		replicas[i].stop()
		upload(t, other)
		replicas[i] = e.create(name)
		up(replicas[i])
		get(t, replicas[i], "/api/v1/log/entries/"+first)
	}
	checker := replicas[1].exec(slices.Concat(image.entrypoint, []string{"fsck", "--url", publicURL})...)
	if code := checker.Wait(limit); code != 0 {
		t.Errorf("fsck exits with %d:\n%s", code, checker.Output())
	}

	// The database goes, the health checks say so, and nobody has to do anything
	// when it is there again.
	database.Stop(t)
	for _, c := range replicas {
		if output := c.wait(false); !strings.Contains(output, "not ready") {
			t.Errorf("%s says %q", c.service.Name, output)
		}
	}
	database.Restart(t)
	for _, c := range replicas {
		c.wait(true)
		upload(t, c)
		c.stop()
	}
	for _, p := range output {
		if strings.Contains(p.Output(), password) {
			t.Error("the password is in the output of a replica")
		}
	}
}

// makeSecrets runs the service that makes the passwords: here, with its volumes
// where they are.
func makeSecrets(t *testing.T, project *types.Project, image *image) {
	t.Helper()
	service, err := project.GetService("secrets")
	if err != nil {
		t.Fatal(err)
	}
	command := slices.Clone(service.Entrypoint)
	for i := range command {
		for _, v := range service.Volumes {
			if rest, ok := strings.CutPrefix(command[i], v.Target+"/"); ok {
				command[i] = filepath.Join(v.Source, rest)
			}
		}
	}
	run(t, command[0], command[1:]...)
	made := map[string]string{}
	read := func(name string) string {
		text, err := os.ReadFile(project.Secrets[name].File)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, s := range project.Secrets {
		want := "0:0 600\n"
		if name == "sigstack-dsn" {
			want = fmt.Sprintf("%d:%d 600\n", image.uid, image.gid)
		}
		if got := run(t, "stat", "--format=%u:%g %a", s.File); got != want {
			t.Errorf("%s has owner and mode %q, want %q", s.File, got, want)
		}
		made[name] = read(name)
	}
	if out := run(t, command[0], command[1:]...); !strings.Contains(out, "nothing was changed") {
		t.Errorf("the second run says %q", out)
	}
	for name := range made {
		if read(name) != made[name] {
			t.Errorf("the second run has changed %s", name)
		}
	}
}

// startDatabase starts the service db: a real server, set up by the variables of
// the service as its image does it. It returns the password of the replicas.
func startDatabase(t *testing.T, project *types.Project) (*harness.MariaDB, string) {
	t.Helper()
	service, err := project.GetService("db")
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string]string{}
	for _, s := range service.Secrets {
		granted["/run/secrets/"+s.Source] = project.Secrets[s.Source].File
	}
	env := func(name string) string {
		if value := service.Environment[name]; value != nil {
			return *value
		}
		t.Fatalf("the service db has no variable %s", name)
		return ""
	}
	file := func(name string) string {
		text, err := os.ReadFile(granted[env(name)])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return strings.TrimSpace(string(text))
	}
	database := harness.StartMariaDB(t, service.Command...)
	database.NewOwner(t, env("MARIADB_DATABASE"), env("MARIADB_USER"), file("MARIADB_PASSWORD_HASH_FILE"))

	// The client of the database logs in with its option file, and the user has no
	// rights elsewhere.
	host, port, _ := strings.Cut(database.Addr, ":")
	options := project.Secrets["db-client"].File
	client := []string{"--defaults-extra-file=" + options, "--host=" + host, "--port=" + port, "--execute"}
	if out := run(t, "mariadb", append(client, "SHOW DATABASES")...); !strings.Contains(out, env("MARIADB_DATABASE")) || strings.Contains(out, "mysql") {
		t.Errorf("the user of the database sees %q", out)
	}
	root, err := os.ReadFile(filepath.Join(filepath.Dir(options), "db-root-password"))
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, "mariadb", append(client, fmt.Sprintf("SELECT PASSWORD('%s')", bytes.TrimSpace(root)))...); !strings.Contains(out, file("MARIADB_ROOT_PASSWORD_HASH_FILE")) {
		t.Errorf("the hash of root's password is %q", out)
	}
	text, err := os.ReadFile(options)
	if err != nil {
		t.Fatal(err)
	}
	_, password, _ := strings.Cut(string(text), "password=")
	if password = strings.TrimSpace(password); len(password) != 64 {
		t.Fatalf("the password has %d digits, want 64", len(password))
	}
	return database, password
}

// checkProcess looks at what the kernel says of a replica.
func (c *container) checkProcess() {
	t := c.engine.t
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.pid(), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	status := strings.Fields(read("status"))
	after := func(name string, n int) string {
		i := slices.Index(status, name)
		if i < 0 {
			t.Fatalf("the status of the process has no %s", name)
		}
		return strings.Join(status[i+1:i+1+n], " ")
	}
	id := func(n int) string { return strings.TrimSpace(strings.Repeat(fmt.Sprint(n)+" ", 4)) }
	for name, want := range map[string]string{
		"Uid:": id(c.engine.image.uid), "Gid:": id(c.engine.image.gid), "Groups:": "NStgid:", // no groups: the next line
		"CapEff:": "0000000000000000", "CapPrm:": "0000000000000000", "NoNewPrivs:": "1",
	} {
		if got := after(name, len(strings.Fields(want))); got != want {
			t.Errorf("%s: %s %s, want %s", c.service.Name, name, got, want)
		}
	}
	for line := range strings.Lines(read("mountinfo")) {
		if f := strings.Fields(line); f[4] == "/" && !strings.HasPrefix(f[5], "ro") {
			t.Errorf("%s can write to its image: %s", c.service.Name, line)
		}
	}
	// Port 8080 is 1F90: on every address, for an engine that publishes it.
	if sockets := read("net/tcp6"); !strings.Contains(sockets, "00000000000000000000000000000000:1F90 ") {
		t.Errorf("%s does not listen for other containers:\n%s", c.service.Name, sockets)
	}
	if strings.Contains(read("environ"), "sigstack:") {
		t.Errorf("%s has its DSN in the environment", c.service.Name)
	}
}

// get returns the body of a 200 answer.
func get(t *testing.T, c *container, path string) string {
	t.Helper()
	return ask(t, c, http.MethodGet, path, nil, http.StatusOK)
}

// upload writes a new entry and returns its UUID.
func upload(t *testing.T, c *container) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(spki) // as of an artifact: nothing else has it
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	entry, err := json.Marshal(map[string]any{
		"kind": "hashedrekord", "apiVersion": "0.0.1",
		"spec": map[string]any{
			"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": fmt.Sprintf("%x", digest)}},
			"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(ask(t, c, http.MethodPost, "/api/v1/log/entries", entry, http.StatusCreated)), &answer); err != nil {
		t.Fatal(err)
	}
	for uuid := range answer {
		return uuid
	}
	t.Fatal("the answer holds no entry")
	return ""
}

func ask(t *testing.T, c *container, method, path string, body []byte, status int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, publicURL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client().Do(req)
	if err != nil {
		t.Fatalf("%s: %v", c.service.Name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s: %s %s: %s: %s", c.service.Name, method, path, resp.Status, text)
	}
	return string(text)
}
