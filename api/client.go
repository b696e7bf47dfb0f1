package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are those that are believed when they say for whom they ask. The zero value believes nobody: the
// client is who has opened the connection.
type Proxies struct {
	Trusted []netip.Prefix

	// Header is where they say it: X-Forwarded-For, or Forwarded (RFC 7239). It is one of both: a
	// proxy that writes the one lets through the other as a client has sent it.
	Header string
}

// The headers that a proxy may say it in.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded"
)

// maxHops is how many proxies there may be in a row.
const maxHops = 16

// client returns the address of who asks: going back from the one who has opened the connection, the first
// that is no trusted proxy. What stands before that may be anybody's invention. Where a
// trusted proxy says nothing that is an address, it is the client.
func (p Proxies) client(r *http.Request) netip.Addr {
	addr := parseAddr(r.RemoteAddr)
	if len(p.Trusted) == 0 {
		return addr
	}
	lines := r.Header.Values(p.Header)
	for hop := 0; hop < maxHops && p.trusts(addr); hop++ {
		for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
			lines = lines[:len(lines)-1]
		}
		if len(lines) == 0 {
			break
		}
		last := len(lines) - 1
		rest, said := cutLast(lines[last])
		lines = append(lines[:last:last], rest)
		if p.Header == Forwarded {
			said = forwardedFor(said)
		}
		next := parseAddr(said)
		if !next.IsValid() {
			break
		}
		addr = next
	}
	return addr
}

func (p Proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p.Trusted, func(of netip.Prefix) bool { return of.Contains(a) })
}

// cutLast cuts off what follows the last comma that is in no quotes. Who appended that was the last, so it is
// read from the end: quotes that a client has left open reach no further than what it has sent.
func cutLast(list string) (rest, last string) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch list[i] {
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				return list[:i], list[i+1:]
			}
		}
	}
	return "", list
}

// forwardedFor returns the parameter "for" of one element of Forwarded (RFC 7239, section 4), "" where there
// is none, or more than one.
func forwardedFor(element string) (of string) {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "for") {
			continue
		}
		if of != "" {
			return ""
		}
		of = strings.TrimSpace(value)
	}
	if len(of) > 1 && of[0] == '"' && of[len(of)-1] == '"' {
		of = of[1 : len(of)-1]
	}
	return of
}

// parseAddr reads an address, with or without a port; the zero Addr is none.
func parseAddr(s string) netip.Addr {
	s = strings.TrimSpace(s)
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	} else if len(s) > 1 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// A request is what is known of one beside itself.
type request struct {
	id     string
	client netip.Addr
	writer string // "" where nobody asked who it is
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// RequestID returns the ID of the request that a context belongs to, or "".
func RequestID(ctx context.Context) string {
	if r := requestOf(ctx); r != nil {
		return r.id
	}
	return ""
}

// Client returns the address of who asks, as far as it is known.
func Client(ctx context.Context) netip.Addr {
	if r := requestOf(ctx); r != nil {
		return r.client
	}
	return netip.Addr{}
}

// SetWriter gives the access log the name of who writes.
func SetWriter(ctx context.Context, name string) {
	if r := requestOf(ctx); r != nil {
		r.writer = name
	}
}
