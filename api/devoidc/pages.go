package devoidc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// styleSheet is inline, so that a page needs no second request and no
// dependency; the content security policy names its hash.
const styleSheet = `
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1rem;font:16px/1.5 system-ui,sans-serif;background:#f3f4f6;color:#111827}
main{width:100%;max-width:26rem;background:#fff;border:1px solid #d1d5db;border-radius:12px;overflow:hidden}
.warn{margin:0;padding:.6rem 1.5rem;background:#b45309;color:#fff;font-size:.85rem}
.in{padding:1.5rem}
h1{margin:0 0 .75rem;font-size:1.35rem}
p{margin:0 0 1rem;overflow-wrap:anywhere}
label{display:block;margin:0 0 1rem;font-weight:600}
input{display:block;width:100%;margin-top:.3rem;padding:.6rem .7rem;font:inherit;color:inherit;background:transparent;border:1px solid #9ca3af;border-radius:8px}
code{display:block;padding:.8rem;border:1px dashed #9ca3af;border-radius:8px;font:1rem/1.5 ui-monospace,monospace;overflow-wrap:anywhere;user-select:all}
.row{display:flex;gap:.6rem}
button{flex:1;padding:.65rem;font:inherit;font-weight:600;border:1px solid #9ca3af;border-radius:8px;background:transparent;color:inherit;cursor:pointer}
button.go{background:#1d4ed8;border-color:#1d4ed8;color:#fff}
button:focus-visible,input:focus-visible{outline:3px solid #60a5fa;outline-offset:1px}
.bad{color:#b91c1c;font-weight:600}
.to{font-size:.85rem;color:#6b7280}
@media(prefers-color-scheme:dark){body{background:#111827;color:#f9fafb}main{background:#1f2937;border-color:#374151}.bad{color:#fca5a5}.to{color:#9ca3af}}
`

// markup is one template; exactly one of Login, Code, Device and Message is
// set. The first button of a form is the one that the Enter key presses.
const markup = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} - sigstack development issuer</title>
<style>{{.Style}}</style>
</head>
<body>
<main>
<p class="warn">Development issuer: anybody can sign in as anybody. Never trust it in production.</p>
<div class="in">
<h1>{{.Title}}</h1>
{{with .Error}}<p class="bad" role="alert">{{.}}</p>
{{end}}
{{- with .Login}}<form method="post" action="/oidc/auth" autocomplete="on">
<input type="hidden" name="client_id" value="{{.ClientID}}">
<input type="hidden" name="redirect_uri" value="{{.RedirectURI}}">
<input type="hidden" name="response_type" value="code">
<input type="hidden" name="scope" value="openid email">
<input type="hidden" name="state" value="{{.State}}">
<input type="hidden" name="nonce" value="{{.Nonce}}">
{{with .Challenge}}<input type="hidden" name="code_challenge" value="{{.}}">
<input type="hidden" name="code_challenge_method" value="S256">
{{end}}<label>E-mail address
<input type="email" name="email" value="{{$.Email}}" placeholder="dev@example.com" maxlength="254" autocomplete="email" required autofocus></label>
<div class="row">
<button class="go" name="action" value="approve">Sign in</button>
<button name="action" value="deny" formnovalidate>Cancel</button>
</div>
</form>
{{end}}
{{- with .Code}}<p>Copy this code into the program that asked for it. It works once, for two minutes.</p>
<code id="code">{{.}}</code>
{{end}}
{{- if .Device}}<form method="post" action="/oidc/device" autocomplete="on">
<label>Code on your device
<input name="user_code" value="{{.UserCode}}" placeholder="BCDF-GHJK" maxlength="64" autocomplete="off" spellcheck="false" required></label>
<label>E-mail address
<input type="email" name="email" value="{{.Email}}" placeholder="dev@example.com" maxlength="254" autocomplete="email" required></label>
<p class="to">Approve only if the same code is shown by a program that you started.</p>
<div class="row">
<button class="go" name="action" value="approve">Approve</button>
<button name="action" value="deny" formnovalidate>Deny</button>
</div>
</form>
{{end}}
{{- with .Message}}<p>{{.}}</p>
{{end}}
{{- with .Target}}<p class="to">You will be sent to {{.}}</p>
{{end}}</div>
</main>
</body>
</html>
`

// pages writes the HTML answers. Every value from a request passes through
// html/template, and the policy forbids scripts, so that a mistake in the
// first is still no script.
type pages struct {
	template  *template.Template
	styleHash string // for the content security policy
}

// view is what the template sees.
type view struct {
	Title, Error string
	Style        template.CSS
	Login        *authRequest
	Target       string // host of the redirect
	Code         string
	Device       bool
	UserCode     string
	Email        string
	Message      string
}

func newPages() (*pages, error) {
	t, err := template.New("page").Parse(markup)
	if err != nil {
		return nil, fmt.Errorf("devoidc: page template: %w", err)
	}
	sum := sha256.Sum256([]byte(styleSheet))
	return &pages{t, base64.StdEncoding.EncodeToString(sum[:])}, nil
}

func (p *pages) login(w http.ResponseWriter, status int, q *authRequest, email, problem string) {
	v := view{Title: "Sign in", Error: problem, Login: q, Email: email}
	formTo := "'self'"
	if q.redirect != nil {
		v.Target = q.redirect.Host
		formTo += " " + formTarget(q.redirect)
	}
	p.write(w, status, formTo, v)
}

// formTarget is the source expression that allows the redirect after the
// form: browsers apply form-action to redirects as well. A host-source cannot
// name an IPv6 address, so that one is by scheme.
func formTarget(u *url.URL) string {
	if strings.HasPrefix(u.Host, "[") {
		return "http:"
	}
	return "http://" + u.Host
}

func (p *pages) code(w http.ResponseWriter, code string) {
	p.write(w, http.StatusOK, "'none'", view{Title: "Your code", Code: code})
}

func (p *pages) device(w http.ResponseWriter, status int, userCode, email, problem string) {
	p.write(w, status, "'self'", view{Title: "Sign in a device", Error: problem, Device: true, UserCode: userCode, Email: email})
}

func (p *pages) message(w http.ResponseWriter, status int, title, text string) {
	p.write(w, status, "'none'", view{Title: title, Message: text})
}

func (p *pages) write(w http.ResponseWriter, status int, formTo string, v view) {
	v.Style = template.CSS(styleSheet)
	var b bytes.Buffer
	if err := p.template.Execute(&b, v); err != nil {
		// The template and the view are both in this file; the tests execute
		// every branch.
		http.Error(w, "page could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+p.styleHash+"'; form-action "+formTo+"; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
