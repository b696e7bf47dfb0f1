package deploy

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/harness"
)

// An image is what a Dockerfile makes: files, and what runs with them.
type image struct {
	root       string // holds the files
	uid, gid   int
	entrypoint []string
	cmd        []string
}

// A stage is the file system of one FROM. What a stage over a base image has not
// made itself is that of this machine.
type stage struct {
	dir     string
	base    bool // there is a base image
	workdir string
}

// on returns where a path of the stage lies on this machine.
func (s *stage) on(name string) string {
	if !path.IsAbs(name) {
		name = path.Join(s.workdir, name)
	}
	if inside := filepath.Join(s.dir, name); !s.base || name == s.workdir || strings.HasPrefix(name, s.workdir+"/") {
		return inside
	}
	return name
}

// buildImage carries out the Dockerfile, with the tools of this machine in the
// place of those of the base image. It knows the instructions that our file has.
func buildImage(t *testing.T, file string) *image {
	t.Helper()
	var image image
	var current *stage
	stages := map[string]*stage{}
	for _, in := range instructions(t, file) {
		args := strings.Fields(in.rest)
		flags := map[string]string{}
		for len(args) > 0 && strings.HasPrefix(args[0], "--") {
			name, value, _ := strings.Cut(args[0][2:], "=")
			flags[name], args = value, args[1:]
		}
		switch in.name {
		case "FROM":
			current = &stage{dir: t.TempDir(), base: args[0] != "scratch", workdir: "/"}
			if err := os.Chmod(current.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if current.base && !strings.ContainsAny(args[0], "0123456789") {
				t.Errorf("the image %s is not pinned", args[0])
			}
			if len(args) == 3 && args[1] == "AS" {
				stages[args[2]] = current
			}
			image.root = current.dir
		case "WORKDIR":
			current.workdir = args[0]
			if err := os.MkdirAll(current.on(args[0]), 0o755); err != nil {
				t.Fatal(err)
			}
		case "COPY":
			copyInto(t, current, stages[flags["from"]], flags, args)
		case "RUN":
			command := strings.Join(args, " ")
			cmd := exec.Command("/bin/sh", "-c", command)
			cmd.Dir = current.on(".")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("RUN %s: %v\n%s", command, err, out)
			}
		case "USER":
			image.uid, image.gid = owner(t, in.rest)
		case "ENTRYPOINT":
			image.entrypoint = list(t, in.rest)
		case "CMD":
			image.cmd = list(t, in.rest)
		default:
			t.Fatalf("the test does not know the instruction %s", in.name)
		}
	}
	return &image
}

// copyInto carries out COPY: one file to a name, or what is in a directory into
// a directory.
func copyInto(t *testing.T, to, from *stage, flags map[string]string, args []string) {
	t.Helper()
	if len(args) != 2 {
		t.Fatalf("COPY %q: the test knows one source and one target", args)
	}
	target := to.on(args[1])
	if from == nil { // of the context
		if args[0] != "." {
			t.Fatalf("COPY %q: the test knows . of the context", args)
		}
		copyContext(t, target)
		return
	}
	source := from.on(args[0])
	info, err := os.Stat(source)
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, to.dir)
	if info.IsDir() {
		source += "/."
		err = os.MkdirAll(target, 0o755)
	} else {
		err = os.MkdirAll(filepath.Dir(target), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "-r", "-L", "--preserve=mode", source, target)
	if flags["chown"] == "" {
		return
	}
	uid, gid := owner(t, flags["chown"])
	for _, name := range files(t, to.dir) { // what is new, with the directories above it
		if !slices.Contains(before, name) {
			if err := os.Lchown(filepath.Join(to.dir, name), uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// copyContext copies what an engine is sent: what git knows or would know.
func copyContext(t *testing.T, to string) {
	t.Helper()
	root := harness.Root(t)
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	names, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	tar := exec.Command("sh", "-c", `tar --create --null --verbatim-files-from --files-from=- | tar --extract --directory="$1"`, "sh", to)
	tar.Dir, tar.Stdin = root, bytes.NewReader(names)
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("copying the context: %v\n%s", err, out)
	}
}

// An instruction is a line of a Dockerfile, with those that continue it.
type instruction struct{ name, rest string }

func instructions(t *testing.T, file string) []instruction {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []instruction
	var line string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if strings.HasPrefix(strings.TrimSpace(lines.Text()), "#") {
			continue
		}
		more, continued := strings.CutSuffix(lines.Text(), `\`)
		if line += more; continued {
			continue
		}
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			out = append(out, instruction{name, strings.TrimSpace(rest)})
		}
		line = ""
	}
	return out
}

// owner reads a user and a group in numbers: the image has no names.
func owner(t *testing.T, text string) (uid, gid int) {
	t.Helper()
	user, group, _ := strings.Cut(text, ":")
	uid, err := strconv.Atoi(user)
	if err == nil {
		gid, err = strconv.Atoi(group)
	}
	if err != nil {
		t.Fatalf("%q is not two numbers: %v", text, err)
	}
	return uid, gid
}

func list(t *testing.T, text string) (out []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s is no list of arguments: %v", text, err)
	}
	return out
}

// files returns the names of all files and directories below a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && name != dir {
			names = append(names, strings.TrimPrefix(name, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// check wants an image with nothing in it but a static program, certificates and
// an empty directory that belongs to its user, who is not root.
func (i *image) check(t *testing.T) {
	t.Helper()
	if i.uid == 0 || i.gid == 0 {
		t.Errorf("the image runs as %d:%d", i.uid, i.gid)
	}
	const data = "/var/lib/sigstack"
	var regular []string
	for _, name := range files(t, i.root) {
		info, err := os.Lstat(filepath.Join(i.root, name))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case info.Mode().IsRegular():
			regular = append(regular, name)
			if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|0o022) != 0 {
				t.Errorf("%s has mode %v", name, info.Mode())
			}
		case !info.IsDir():
			t.Errorf("%s is %v", name, info.Mode())
		case strings.HasPrefix(name, data):
			if got := run(t, "stat", "--format=%u:%g %a", filepath.Join(i.root, name)); got != fmt.Sprintf("%d:%d 700\n", i.uid, i.gid) {
				t.Errorf("%s has owner and mode %s", name, got)
			}
		}
	}
	if want := []string{"/etc/ssl/certs/ca-certificates.crt", "/usr/bin/sigstack"}; !slices.Equal(regular, want) {
		t.Errorf("the image has the files %q, want %q", regular, want)
	}
	program, err := elf.Open(filepath.Join(i.root, i.entrypoint[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program has a segment %v: it is not static", p.Type)
		}
	}
}
