package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var webhookTime = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

// A request is what a receiver was sent.
type request struct {
	media, token string
	ids          []string
}

// A receiver takes events, or does as it is told.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	answer   http.HandlerFunc // nil takes everything
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || req.Method != http.MethodPost {
			t.Errorf("%s: %v", req.Method, err)
		}
		var events []struct{ ID string }
		if bytes.HasPrefix(body, []byte("[")) {
			err = json.Unmarshal(body, &events)
		} else {
			events = make([]struct{ ID string }, 1)
			err = json.Unmarshal(body, &events[0])
		}
		if err != nil {
			t.Errorf("%v: %s", err, body)
		}
		got := request{media: req.Header.Get("Content-Type"), token: req.Header.Get("Authorization")}
		for _, e := range events {
			got.ids = append(got.ids, e.ID)
		}
		r.mu.Lock()
		r.requests = append(r.requests, got)
		r.mu.Unlock()
		if r.answer != nil {
			r.answer(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

func noToken() (string, error) { return "", nil }

func (r *receiver) webhook(batch int, token func() (string, error)) *Webhook {
	return NewWebhook(r.URL+"/hook?code=hunter2", batch, token, func() time.Time { return webhookTime })
}

func events(n int) (out []Event) {
	for i := range n {
		out = append(out, Event(fmt.Sprintf(`{"id":"%d"}`, i)))
	}
	return out
}

const (
	single = "application/cloudevents+json; charset=utf-8"
	batch  = "application/cloudevents-batch+json; charset=utf-8"
)

// TestWebhook posts events one by one and in batches, with a token that changes.
func TestWebhook(t *testing.T) {
	tokens := 0
	token := func() (string, error) { tokens++; return fmt.Sprint("t", tokens), nil }
	for name, test := range map[string]struct {
		batch  int
		events []Event
		token  func() (string, error)
		want   []request
	}{
		"one by one":    {1, events(3), noToken, []request{{single, "", []string{"0"}}, {single, "", []string{"1"}}, {single, "", []string{"2"}}}},
		"batches":       {2, events(3), noToken, []request{{batch, "", []string{"0", "1"}}, {batch, "", []string{"2"}}}},
		"a token":       {2, events(3), token, []request{{batch, "Bearer t1", []string{"0", "1"}}, {batch, "Bearer t2", []string{"2"}}}},
		"a large batch": {MaxWebhookBatch, events(5), noToken, []request{{batch, "", []string{"0", "1", "2", "3", "4"}}}},
		"large events": {MaxWebhookBatch, []Event{
			Event(`{"id":"0","x":"` + strings.Repeat("x", maxBatchBytes) + `"}`), Event(`{"id":"1"}`), Event(`{"id":"2","x":"` + strings.Repeat("x", maxBatchBytes) + `"}`),
		}, noToken, []request{{batch, "", []string{"0"}}, {batch, "", []string{"1"}}, {batch, "", []string{"2"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			w := r.webhook(test.batch, test.token)
			if n, err := w.Deliver(t.Context(), test.events); n != len(test.events) || err != nil {
				t.Fatalf("%d taken, %v", n, err)
			}
			if !reflect.DeepEqual(r.got(), test.want) {
				t.Errorf("got  %v\nwant %v", r.got(), test.want)
			}
			if err := w.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWebhookRefuses has the receiver answer in every way but 2xx. Nothing behind
// that is sent, and nothing says what is in the URL.
func TestWebhookRefuses(t *testing.T) {
	elsewhere := newReceiver(t)
	hang := make(chan struct{})
	status := func(code int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		after  time.Duration // -1: not said
		want   string
	}{
		"500":               {status(500), -1, "answers 500"},
		"400":               {status(400), -1, "answers 400"},
		"redirect":          {status(307, "Location", elsewhere.URL), -1, "answers 307"},
		"see other":         {status(303, "Location", elsewhere.URL), -1, "answers 303"},
		"gone":              {status(410, "Retry-After", "1"), goneRetry, "answers 410"},
		"seconds":           {status(503, "Retry-After", "7"), 7 * time.Second, "answers 503"},
		"a date":            {status(429, "Retry-After", webhookTime.Add(time.Minute).Format(http.TimeFormat)), time.Minute, "answers 429"},
		"long":              {status(503, "Retry-After", "1000000"), MaxRetryAfter, "answers 503"},
		"nonsense":          {status(503, "Retry-After", "soon"), -1, "answers 503"},
		"hangs":             {func(http.ResponseWriter, *http.Request) { <-hang }, -1, "asking the webhook"},
		"closes":            {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, -1, "asking the webhook"},
		"headers are large": {status(200, "X", strings.Repeat("x", maxAnswer)), -1, "asking the webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			first := true
			r.answer = func(w http.ResponseWriter, req *http.Request) {
				if !first {
					test.answer(w, req)
				}
				first = false
			}
			w := r.webhook(1, func() (string, error) { return "hunter3", nil })
			if name == "hangs" {
				w.client.Timeout = 50 * time.Millisecond
			}
			n, err := w.Deliver(t.Context(), events(4))
			if n != 1 || err == nil || len(r.got()) != 2 {
				t.Fatalf("%d of %d requests taken, %v", n, len(r.got()), err)
			}
			if text := err.Error(); !strings.Contains(text, test.want) || strings.Contains(text, "hunter") {
				t.Errorf("%q, want %q and no secret", text, test.want)
			}
			delay := (*Delay)(nil)
			if got := errors.As(err, &delay); got != (test.after >= 0) || got && delay.After != test.after {
				t.Errorf("%+v, want a delay of %v", err, test.after)
			}
			if name == "hangs" {
				close(hang)
			}
		})
	}
	if len(elsewhere.got()) != 0 {
		t.Errorf("a redirect was followed: %v", elsewhere.got())
	}
}

// TestWebhookAnswersMuch reads a bounded part of what is answered.
func TestWebhookAnswersMuch(t *testing.T) {
	r := newReceiver(t)
	wrote := make(chan int64, 1)
	r.answer = func(w http.ResponseWriter, _ *http.Request) {
		n, _ := io.Copy(w, io.LimitReader(endless{}, 1<<30))
		wrote <- n
	}
	if n, err := r.webhook(1, noToken).Deliver(t.Context(), events(1)); n != 1 || err != nil {
		t.Fatalf("%d taken, %v", n, err)
	}
	if n := <-wrote; n == 1<<30 {
		t.Error("a GiB of an answer was read")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestWebhookStops has the end of the server end a request, and a token that
// cannot be read send nothing.
func TestWebhookStops(t *testing.T) {
	r := newReceiver(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.answer = func(_ http.ResponseWriter, req *http.Request) {
		cancel()
		<-req.Context().Done()
	}
	if n, err := r.webhook(1, noToken).Deliver(ctx, events(2)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d taken, %v", n, err)
	}
	gone := errors.New("no such file")
	if n, err := r.webhook(1, func() (string, error) { return "", gone }).Deliver(t.Context(), events(2)); n != 0 || !errors.Is(err, gone) || len(r.got()) != 1 {
		t.Errorf("%d taken, %v, %d requests", n, err, len(r.got()))
	}
}

func TestCheckURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://hooks.example.com/rekor?code=1": "",
		"http://localhost:8000/":                 "",
		"http://127.0.0.1":                       "",
		"http://[::1]:1/x":                       "",
		"http://hooks.example.com":               "is http, by which",
		"http://localhost.example.com":           "is http, by which",
		"https://me:hunter2@hooks.example.com":   "has a user in it",
		"https://hooks.example.com/#part":        "has a fragment",
		"ftp://hooks.example.com":                "is not the https URL",
		"hooks.example.com":                      "is not the https URL",
		"https://":                               "is not the https URL",
		"https:///path":                          "is not the https URL",
		"https://a b/":                           "is not the https URL",
		"file:///etc/passwd":                     "is not the https URL",
	} {
		err := CheckURL(text)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
