package events

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

const (
	// WebhookTimeout is for one request, from connecting to the end of the answer.
	WebhookTimeout = 10 * time.Second

	// MaxWebhookBatch is how many events one request may have. A request with more
	// than one has no more than a MiB, and one event.
	MaxWebhookBatch = 100

	// MaxRetryAfter is how long a receiver may have the next attempt wait.
	MaxRetryAfter = 10 * time.Minute

	// goneRetry is for 410: the receiver wants no more events (CloudEvents, HTTP 1.1
	// Web Hooks, section 2.2). Nothing is lost until somebody decides that.
	goneRetry = time.Hour

	maxAnswer = 64 << 10 // of headers, and of what is read so that the connection can be used again
)

// A Webhook posts events to a URL: structured CloudEvents, one a request or a batch
// of them. What is answered with 2xx is taken; everything else, redirects too, is
// tried again.
type Webhook struct {
	url    string
	token  func() (string, error)
	batch  int
	now    func() time.Time
	client *http.Client
}

// CheckURL refuses what events are not sent to: the URL is https, or http on this
// machine, and holds no user and no password, because it is no secret.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("is not the https URL of a webhook")
	case u.User != nil:
		return errors.New("has a user in it; give the receiver a token, by rekor.events.webhook-token-file")
	case u.Fragment != "":
		return errors.New("has a fragment (#), which is never sent; leave it away")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("is http, by which anybody on the way can read and change events; it is https, or http to localhost")
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// NewWebhook returns a sink that posts to a URL that CheckURL accepts, at most
// batch events a request, with a bearer token if there is one: token is asked for
// each request.
func NewWebhook(to string, batch int, token func() (string, error), now func() time.Time) *Webhook {
	return &Webhook{url: to, token: token, batch: batch, now: now, client: &http.Client{
		Timeout: WebhookTimeout,
		// Where events go the configuration says, and nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: WebhookTimeout}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			MaxConnsPerHost:        1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxAnswer,
			DisableCompression:     true,
		},
	}}
}

// Sync has nothing to do: what the receiver has acknowledged is its own affair.
func (w *Webhook) Sync() error { return nil }

// Deliver posts the events in order, each request when the one before it was
// answered.
func (w *Webhook) Deliver(ctx context.Context, events []Event) (taken int, err error) {
	for taken < len(events) {
		body, media, n := w.request(events[taken:])
		if err := w.post(ctx, body, media); err != nil {
			return taken, err
		}
		taken += n
	}
	return taken, nil
}

// request returns the body of the next request, its type, and how many events are
// in it.
func (w *Webhook) request(events []Event) (body []byte, media string, n int) {
	if w.batch == 1 {
		return events[0], "application/cloudevents+json; charset=utf-8", 1
	}
	body = append(body, '[')
	for n < min(w.batch, len(events)) && (n == 0 || len(body)+len(events[n]) < maxBatchBytes) {
		if n > 0 {
			body = append(body, ',')
		}
		body = append(body, events[n]...)
		n++
	}
	return append(body, ']'), "application/cloudevents-batch+json; charset=utf-8", n
}

func (w *Webhook) post(ctx context.Context, body []byte, media string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("User-Agent", "sigstack")
	token, err := w.token()
	if err != nil {
		return fmt.Errorf("the token of the webhook: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := w.client.Do(req)
	if err != nil {
		// The error repeats the URL, which may have something in its query that
		// is for the receiver alone.
		if outer := (*url.Error)(nil); errors.As(err, &outer) {
			err = outer.Err
		}
		return fmt.Errorf("asking the webhook: %w", err)
	}
	defer res.Body.Close()
	// Whatever it says beside the status, it has the events.
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	err = fmt.Errorf("the webhook answers %d, want 2xx", res.StatusCode)
	if res.StatusCode == http.StatusGone {
		return &Delay{err, goneRetry}
	}
	if after, ok := parseRetryAfter(res.Header.Get("Retry-After"), w.now()); ok {
		return &Delay{err, after}
	}
	return err
}

// parseRetryAfter reads a Retry-After (RFC 9110, section 10.2.3): seconds, or a
// date. It is 0 to MaxRetryAfter.
func parseRetryAfter(text string, now time.Time) (time.Duration, bool) {
	var after time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	} else {
		return 0, false
	}
	return min(max(after, 0), MaxRetryAfter), true
}
