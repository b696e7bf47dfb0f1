package e2e

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// loginLimit is how long a step of an interactive login may take.
const loginLimit = 30 * time.Second

// signBlobByBrowser is the login that a person at a terminal sees: cosign opens
// a browser, and the browser brings the code to a listener of cosign.
func signBlobByBrowser(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "frank@example.com")
	u.initialize("cosign3")
	// The test is the browser; it reads where to go from the terminal.
	u.Install("xdg-open", "exit 0")
	u.Write("blob", []byte("signed by browser\n"))
	cosign := u.Start("cosign3", "sign-blob", "--yes", "--fulcio-auth-flow", "normal", "--bundle", "blob.json", "blob")
	page := cosign.Line(loginLimit, "URL to open", func(line string) bool {
		return strings.HasPrefix(line, server.URL) && strings.Contains(line, "code_challenge=")
	})
	logIn(t, page, u.email)
	if code := cosign.Wait(loginLimit); code != 0 {
		t.Fatalf("cosign3 sign-blob: exit code %d\n%s", code, cosign.Output())
	}
	u.verifyBlob("blob")
}

// signBlobByDevice is the login on a machine without a browser.
func signBlobByDevice(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "grace@example.com")
	u.initialize("cosign3")
	u.Write("blob", []byte("signed by device\n"))
	cosign := u.Start("cosign3", "sign-blob", "--yes", "--fulcio-auth-flow", "device", "--bundle", "blob.json", "blob")
	line := cosign.Line(loginLimit, "URL with a code", func(line string) bool {
		return strings.Contains(line, "in your browser at: ")
	})
	_, page, _ := strings.Cut(line, "in your browser at: ")
	logIn(t, page, u.email)
	if code := cosign.Wait(loginLimit); code != 0 {
		t.Fatalf("cosign3 sign-blob: exit code %d\n%s", code, cosign.Output())
	}
	u.verifyBlob("blob")
}

// signBlobByCode is the login where no browser can be opened: the page shows a
// code, and the person types it into the terminal.
func signBlobByCode(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "hugo@example.com")
	u.initialize("cosign3")
	for _, browser := range []string{"xdg-open", "x-www-browser", "www-browser"} {
		u.Install(browser, "exit 1")
	}
	u.Write("blob", []byte("signed by code\n"))
	// A terminal of the person's is a file to which the test writes.
	u.Run("mkfifo", "terminal")
	cosign := u.Start("sh", "-c", "exec cosign3 sign-blob --yes --fulcio-auth-flow normal --bundle blob.json blob <>terminal")
	page := cosign.Line(loginLimit, "URL to go to", func(line string) bool {
		return strings.Contains(line, server.URL) && strings.Contains(line, "code_challenge=")
	})
	shown := logIn(t, strings.TrimSpace(page), u.email)
	code := regexp.MustCompile(`<code[^>]*>([^<]+)</code>`).FindStringSubmatch(shown)
	if code == nil {
		t.Fatalf("the page shows no code\n%s", shown)
	}
	u.Write("terminal", []byte(html.UnescapeString(code[1])+"\n"))
	if code := cosign.Wait(loginLimit); code != 0 {
		t.Fatalf("cosign3 sign-blob: exit code %d\n%s", code, cosign.Output())
	}
	u.verifyBlob("blob")
}

// logIn does what a person does in a browser: opens the page, enters an e-mail
// address into its form, presses the button, and is sent on. It returns the last
// page.
func logIn(t *testing.T, page, email string) string {
	t.Helper()
	text := string(get(t, page))
	form := regexp.MustCompile(`(?s)<form ([^>]*)>(.*?)</form>`).FindStringSubmatch(text)
	if form == nil {
		t.Fatalf("%s shows no form\n%s", page, text)
	}
	if attribute(form[1], "method") != "post" {
		t.Errorf("the login form does not use POST")
	}
	fields := url.Values{}
	for _, input := range regexp.MustCompile(`<(?:input|button) [^>]*>`).FindAllString(form[2], -1) {
		name, value := attribute(input, "name"), attribute(input, "value")
		if attribute(input, "type") == "email" {
			value = email
		}
		if name != "" && !fields.Has(name) { // the first button is the one that Enter presses
			fields.Set(name, value)
		}
	}
	at, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	action, err := at.Parse(attribute(form[1], "action"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.PostForm(action.String(), fields)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s\n%s", action, res.Status, body)
	}
	return string(body)
}

func attribute(tag, name string) string {
	m := regexp.MustCompile(`\b` + name + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}
